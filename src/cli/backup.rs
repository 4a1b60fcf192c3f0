//! `latchkey backup`: a copy of the database as of one moment, to a file or to stdout.

use std::{
    io::{self, IsTerminal as _, Seek as _},
    path::PathBuf,
};

use anyhow::Context as _;
use clap::Args;

use super::{
    output_file::{OutputFile, is_pipe},
    progress::ProgressBar,
    transfer::{DataAccess, scratch},
    usage_error::UsageError,
};
use crate::config::Config;

/// Where to.
#[derive(Args)]
pub(super) struct Backup {
    /// The file to make; - writes to stdout
    file: PathBuf,

    #[command(flatten)]
    target: OutputFile,
}

impl Backup {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        self.target.check(&self.file)?;
        let to_stdout = is_pipe(&self.file);
        if to_stdout && io::stdout().is_terminal() {
            let text = "a backup is not text, and it has the password hashes of all users; name a FILE, or send stdout into one";
            return Err(UsageError(text.to_owned()).into());
        }
        let data = DataAccess::find(config)?;
        let mut bar = ProgressBar::new("backup");
        self.target.fill(&self.file, config, |mut file| {
            if !to_stdout {
                return data.backup(file, &mut bar);
            }
            // A database file is not written sequentially, but a pipe is.
            let mut whole = scratch(config)?;
            data.backup(&whole, &mut bar)?;
            whole.rewind()?;
            io::copy(&mut whole, &mut file).context("cannot write to stdout")?;
            Ok(())
        })
    }
}
