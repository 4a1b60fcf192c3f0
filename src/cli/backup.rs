//! `latchkey backup`: the database as of one moment, as a file or on stdout.
//!
//! Guarantees: what has the name FILE is whole, synced and readable by its owner alone; a file that was there stays where
//! anything goes wrong.

use std::{
    fs::File,
    io::{self, Seek as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::Args;

use super::progress::Bar;
use crate::{
    config::{self, Config},
    server,
    store::{DataDir, Store, WholeFile},
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
        let (dir, store) = open(config)?;
        if self.file == Path::new("-") {
            let mut file = dir.scratch_file()?;
            copy(&store, &file)?;
            file.rewind()?;
            io::copy(&mut file, &mut io::stdout().lock()).context("cannot write to stdout")?;
        } else {
            dir.refuse_own(&self.file)?;
            let cannot = || format!("cannot write {}", self.file.display());
            let whole = WholeFile::create(&self.file, self.force).with_context(cannot)?;
            copy(&store, whole.file())?;
            whole.put().with_context(cannot)?;
        }
        Ok(store.close()?)
    }
}

fn copy(store: &Store, file: &File) -> anyhow::Result<()> {
    let mut bar = Bar::new("backup");
    store.backup(file.try_clone()?, &mut |done, all| bar.show(done, all)).context("cannot copy the database")
}

/// The data that `config` names, which must be there: a typing error in the path must not look like an empty database.
pub(super) fn open(config: &Config) -> anyhow::Result<(DataDir, Store)> {
    if !DataDir::has_database(&config.data_dir) {
        bail!("there is no latchkey database in {}", config::absolute(&config.data_dir).display());
    }
    let dir = DataDir::take(&config.data_dir)?;
    let store = Store::open(&dir, server::CACHE_BYTES)?;
    Ok((dir, store))
}
