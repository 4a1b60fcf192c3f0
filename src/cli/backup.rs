//! `latchkey backup`: the database as of one moment, as a file or on stdout.
//!
//! Guarantees: what has the name FILE is whole, synced and readable by its owner alone; a file that was there stays where
//! anything goes wrong.

use std::{
    io::{self, Seek as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;

use super::{
    bulk::{Data, scratch},
    progress::Bar,
};
use crate::{
    config::Config,
    store::{DataDir, WholeFile},
};

/// Where to.
#[derive(Args)]
pub(super) struct Backup {
    /// The file to make; - writes to stdout
    file: PathBuf,

    /// Replace the file where it exists
    #[arg(long)]
    force: bool,
}

impl Backup {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let data = Data::find(config)?;
        let mut bar = Bar::new("backup");
        if self.file == Path::new("-") {
            let mut file = scratch(config)?;
            data.backup(&file, &mut bar)?;
            file.rewind()?;
            io::copy(&mut file, &mut io::stdout().lock()).context("cannot write to stdout")?;
            return Ok(());
        }
        DataDir::refuse_own(&config.data_dir, &self.file)?;
        let cannot = || format!("cannot write {}", self.file.display());
        let whole = WholeFile::create(&self.file, self.force).with_context(cannot)?;
        data.backup(whole.file(), &mut bar)?;
        whole.put().with_context(cannot)
    }
}
