//! `latchkey check`: verifies that a database file is sound.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::{
    progress::ProgressBar,
    transfer::{DataAccess, scratch},
};
use crate::{
    auth::passwords::stored_hash::StoredHash,
    config::{self, Config},
    model::PasswordHash,
    store::{self, Contents, JudgeHash, Progress, StoreError},
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
            let contents = check_with(|judge, progress| store::check(&file, judge, progress))?;
            (file, contents)
        } else {
            let database = config::absolute(&config.data_dir).join("latchkey.redb");
            let contents = check_data(config, &database)?;
            (database, contents)
        };
        if self.json {
            println!("{}", with_contents(json!({ "database": database.to_string_lossy() }), &contents));
        } else {
            println!("{} is sound: {}", database.display(), describe(&contents));
        }
        Ok(())
    }
}

/// Of a running server, a copy of this moment is looked at; the server itself looked at the file when it opened it.
fn check_data(config: &Config, database: &Path) -> anyhow::Result<Contents> {
    match DataAccess::find(config)? {
        DataAccess::InProcess(dir, _) => check_with(|judge, progress| store::check(&dir.database(), judge, progress)),
        server @ DataAccess::Server(..) => {
            let copy = scratch(config)?;
            server.backup(&copy, &mut ProgressBar::new("copy"))?;
            check_with(|judge, progress| store::check_open(copy, database, judge, progress))
        }
    }
}

fn check_with(check: impl FnOnce(JudgeHash, Progress<'_>) -> Result<Contents, StoreError>) -> anyhow::Result<Contents> {
    let mut bar = ProgressBar::new("check");
    Ok(check(judge, &mut |done, all| bar.show(done, all))?)
}

/// What is in a sound database, in words.
pub(super) fn describe(contents: &Contents) -> String {
    let Contents { schema, users, administrators, widgets, blacklisted } = contents;
    let administrators = match administrators {
        1 => "1 of them an administrator".to_owned(),
        n => format!("{n} of them administrators"),
    };
    let (users, widgets) = (counted(*users, "user"), counted(*widgets, "widget"));
    format!("{users}, {administrators}, {widgets}, {}, schema {schema}", counted(*blacklisted, "logged-out token"))
}

/// The same for scripts, added to what `said` has.
pub(super) fn with_contents(mut said: Value, contents: &Contents) -> Value {
    let Contents { schema, users, administrators, widgets, blacklisted } = contents;
    said["schema"] = json!(schema);
    said["users"] = json!(users);
    said["administrators"] = json!(administrators);
    said["widgets"] = json!(widgets);
    said["blacklisted"] = json!(blacklisted);
    said
}

/// Why a password hash can never be verified, where it cannot.
pub(super) fn judge(hash: &PasswordHash) -> Result<(), String> {
    StoredHash::read(hash).map(drop).map_err(|unusable| unusable.to_string())
}

/// `1 user`, `2 users`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
