//! `latchkey export` and `latchkey import`: users as lines of JSON.
//!
//! Guarantees: an exported file is whole, synced and readable by its owner alone, since it holds every password hash; what is
//! wrong with a line is said with its number.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
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
pub(super) struct Export {
    /// The file to make; without it, or with -, stdout
    #[arg(default_value = "-")]
    file: PathBuf,

    /// Replace the file where it exists
    #[arg(long)]
    force: bool,
}

impl Export {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let data = Data::find(config)?;
        let mut bar = Bar::new("export");
        if self.file == Path::new("-") {
            return data.export(&mut io::stdout().lock(), &mut bar);
        }
        DataDir::refuse_own(&config.data_dir, &self.file)?;
        let cannot = || format!("cannot write {}", self.file.display());
        let whole = WholeFile::create(&self.file, self.force).with_context(cannot)?;
        data.export(&mut whole.file(), &mut bar).with_context(cannot)?;
        whole.put().with_context(cannot)
    }
}

/// From where.
#[derive(Args)]
pub(super) struct Import {
    /// The file to read; without it, or with -, stdin
    #[arg(default_value = "-")]
    file: PathBuf,

    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Import {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let from_stdin = self.file == Path::new("-");
        let cannot = || format!("cannot read {}", self.file.display());
        let given = if from_stdin { None } else { Some(File::open(&self.file).with_context(cannot)?) };
        let data = Data::find_or_make(config)?;
        let file = match given {
            Some(file) if file.metadata().with_context(cannot)?.is_file() => file,
            given => {
                // It is read twice, and a pipe can be read once.
                let mut spool = scratch(config)?;
                match given {
                    Some(mut pipe) => io::copy(&mut pipe, &mut spool).with_context(cannot)?,
                    None => io::copy(&mut io::stdin().lock(), &mut spool).context("cannot read stdin")?,
                };
                spool
            }
        };
        let mut bar = Bar::new("import");
        let report = data.import(file, self.dry_run, &mut bar)?;
        drop(bar);
        for (line, why) in &report.named {
            eprintln!("line {line}: {why}");
        }
        if report.bad > 0 {
            bail!("{} of the lines are not good, so nothing was imported", report.bad);
        }
        let added = if self.dry_run { "would add" } else { "added" };
        println!("{added} {} users, {} were there already", report.added, report.unchanged);
        if report.differing > 0 {
            bail!("{} users are there with other data and stay as they are", report.differing);
        }
        Ok(())
    }
}
