//! `latchkey export` and `latchkey import`: users as lines of JSON.
//!
//! Guarantees: a message about a line has its number.

use std::{fs::File, io, path::PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::json;

use super::{
    check::counted,
    output_file::{OutputFile, is_pipe},
    progress::ProgressBar,
    transfer::{DataAccess, scratch},
};
use crate::{auth::transfer::ImportReport, config::Config};

/// Where to.
#[derive(Args)]
pub(super) struct Export {
    /// The file to make; without it, or with -, stdout
    #[arg(default_value = "-")]
    file: PathBuf,

    #[command(flatten)]
    target: OutputFile,
}

impl Export {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        self.target.check(&self.file)?;
        let data = DataAccess::find(config)?;
        self.target.fill(&self.file, config, |mut file| data.export(&mut file, &mut ProgressBar::new("export")))
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

    /// Print as JSON what was done
    #[arg(long)]
    json: bool,
}

impl Import {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let cannot = || format!("cannot read {}", self.file.display());
        let given = if is_pipe(&self.file) { None } else { Some(File::open(&self.file).with_context(cannot)?) };
        let data = DataAccess::find_or_make(config)?;
        let file = match given {
            Some(file) if file.metadata().with_context(cannot)?.is_file() => file,
            given => {
                // The import reads its input twice, and a pipe can be read only once.
                let mut spool = scratch(config)?;
                let copied = match given {
                    Some(mut pipe) => io::copy(&mut pipe, &mut spool),
                    None => io::copy(&mut io::stdin().lock(), &mut spool),
                };
                let name = if is_pipe(&self.file) { "stdin".into() } else { self.file.to_string_lossy() };
                copied.with_context(|| format!("cannot copy {name} to the data directory"))?;
                spool
            }
        };
        let mut bar = ProgressBar::new("import");
        let report = data.import(file, self.dry_run, &mut bar)?;
        drop(bar);
        if self.json {
            let mut said = json!(report);
            said["dry_run"] = self.dry_run.into();
            println!("{said}");
        } else {
            self.say(&report);
        }
        if report.bad > 0 {
            let are = if report.bad == 1 { "is" } else { "are" };
            bail!("{} of the lines {are} not good, so nothing was imported", report.bad);
        }
        if report.differing > 0 {
            let users = counted(report.differing, "user");
            let stay = if report.differing == 1 { "is there with other data and stays as it is" } else { STAY };
            bail!("{users} {stay}");
        }
        Ok(())
    }

    fn say(&self, report: &ImportReport) {
        for remark in &report.lines {
            eprintln!("line {}: {}", remark.line, remark.message);
        }
        if report.bad == 0 {
            let added = if self.dry_run { "would add" } else { "added" };
            let were = if report.unchanged == 1 { "was" } else { "were" };
            println!("{added} {}, {} {were} there already", counted(report.added, "user"), report.unchanged);
        }
    }
}

const STAY: &str = "are there with other data and stay as they are";
