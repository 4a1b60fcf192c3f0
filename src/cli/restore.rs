//! `latchkey restore`: replaces the database by a backup while the server is stopped.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use time::macros::format_description;

use super::{
    check::{describe, with_contents},
    client::InitFlag,
    progress::ProgressBar,
    stdout::print_line,
};
use crate::{
    auth::passwords::stored_hash::StoredHash,
    clock::{Clock as _, SystemClock},
    config::Config,
    store::{self, DataDir},
};

/// From what.
#[derive(Args)]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,

    #[command(flatten)]
    make: InitFlag,

    /// Print as JSON what was done
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        self.make.check(config)?;
        let dir = DataDir::take(&config.data_dir)?;
        let form = format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:3]Z");
        let stamp = SystemClock.now().format(form).expect("BUG: a date of today can be written");
        let mut bar = ProgressBar::new("restore");
        let restored =
            store::restore(&dir, &self.file, &stamp, StoredHash::check, &mut |done, all| bar.show(done, all))?;
        drop(bar);
        if self.json {
            let kept = restored.kept.as_deref().map(Path::to_string_lossy);
            let said = json!({ "file": self.file.to_string_lossy(), "kept": kept });
            return print_line(with_contents(said, &restored.contents));
        }
        print_line(format_args!("restored {}: {}", self.file.display(), describe(&restored.contents)))?;
        if let Some(kept) = restored.kept {
            print_line(format_args!("the database from before is {}", kept.display()))?;
        }
        print_line("everybody has to log in again")
    }
}
