//! `latchkey check`: verifies that a database file is sound.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{
    progress::ProgressBar,
    stdout::print_line,
    transfer::{DataAccess, scratch},
};
use crate::{
    auth::passwords::stored_hash::StoredHash,
    config::{self, Config},
    store::{self, DatabaseContents, HashCheck, Progress, StoreError},
};

/// Of what.
#[derive(Args)]
pub(super) struct Check {
    /// The file to look at; without it the database of the data directory
    file: Option<PathBuf>,

    /// Print as JSON what is in it
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let (database, contents) = if let Some(file) = self.file {
            let contents = check_with(|check_hash, progress| store::check(&file, check_hash, progress))?;
            (file, contents)
        } else {
            let database = config::absolute(&config.data_dir).join("latchkey.redb");
            let contents = check_data(config, &database)?;
            (database, contents)
        };
        if self.json {
            return print_line(with_contents(json!({ "database": database.to_string_lossy() }), &contents));
        }
        print_line(format_args!("{} is sound: {}", database.display(), describe(&contents)))?;
        contents.mailbox_duplicates.iter().try_for_each(print_line)
    }
}

/// Verifies the database of the data directory. If a server runs, a copy is verified; the server has verified its own file at its start.
fn check_data(config: &Config, database: &Path) -> anyhow::Result<DatabaseContents> {
    match DataAccess::find(config)? {
        DataAccess::InProcess(dir, _) => {
            check_with(|check_hash, progress| store::check(&dir.database(), check_hash, progress))
        }
        server @ DataAccess::Server(..) => {
            let copy = scratch(config)?;
            server.backup(&copy, &mut ProgressBar::new("copy"))?;
            check_with(|check_hash, progress| store::check_open(copy, database, check_hash, progress))
        }
    }
}

fn check_with(
    check: impl FnOnce(HashCheck, Progress<'_>) -> Result<DatabaseContents, StoreError>,
) -> anyhow::Result<DatabaseContents> {
    let mut bar = ProgressBar::new("check");
    Ok(check(StoredHash::check, &mut |done, all| bar.show(done, all))?)
}

/// Describes the counts of a database in words.
pub(super) fn describe(contents: &DatabaseContents) -> String {
    let DatabaseContents { schema, users, administrators, widgets, blacklisted, mailbox_duplicates: _ } = contents;
    let administrators = match administrators {
        1 => "1 of them an administrator".to_owned(),
        n => format!("{n} of them administrators"),
    };
    let (users, widgets) = (counted(*users, "user"), counted(*widgets, "widget"));
    format!("{users}, {administrators}, {widgets}, {}, schema {schema}", counted(*blacklisted, "logged-out token"))
}

/// Adds the counts of a database to the JSON object `said`.
pub(super) fn with_contents(mut said: Value, contents: &DatabaseContents) -> Value {
    let DatabaseContents { schema, users, administrators, widgets, blacklisted, mailbox_duplicates } = contents;
    said["schema"] = json!(schema);
    said["users"] = json!(users);
    said["administrators"] = json!(administrators);
    said["widgets"] = json!(widgets);
    said["blacklisted"] = json!(blacklisted);
    if !mailbox_duplicates.is_empty() {
        said["mailbox_duplicates"] = json!(mailbox_duplicates);
    }
    said
}

/// `1 user`, `2 users`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
