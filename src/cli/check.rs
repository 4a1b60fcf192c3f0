//! `latchkey check`: whether a database is sound, before someone relies on it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    bulk::{Data, scratch},
    progress::Bar,
};
use crate::{
    auth::stored_hash::StoredHash,
    config::{self, Config},
    model::PasswordHash,
    store::{self, Contents, JudgeHash, Progress, StoreError},
};

/// Of what.
#[derive(Args)]
pub(super) struct Check {
    /// The file to look at; without it the database of the data directory
    file: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let Some(file) = self.file else { return check_data(config) };
        say(&file, &look(|judge, progress| store::check(&file, judge, progress))?);
        Ok(())
    }
}

/// Of a running server, a copy of this moment is looked at; the server itself looked at the file when it opened it.
fn check_data(config: &Config) -> anyhow::Result<()> {
    let database = config::absolute(&config.data_dir).join("latchkey.redb");
    let contents = match Data::find(config)? {
        Data::Here(dir) => look(|judge, progress| store::check(&dir.database(), judge, progress))?,
        server @ Data::Server(..) => {
            let copy = scratch(config)?;
            server.backup(&copy, &mut Bar::new("copy"))?;
            look(|judge, progress| store::check_open(copy, &database, judge, progress))?
        }
    };
    say(&database, &contents);
    Ok(())
}

fn look(check: impl FnOnce(JudgeHash, Progress<'_>) -> Result<Contents, StoreError>) -> anyhow::Result<Contents> {
    let mut bar = Bar::new("check");
    Ok(check(judge, &mut |done, all| bar.show(done, all))?)
}

fn say(path: &Path, contents: &Contents) {
    println!("{} is sound: {}", path.display(), describe(contents));
}

/// What is in a sound database, in words.
pub(super) fn describe(contents: &Contents) -> String {
    let Contents { schema, users, administrators, widgets, blacklisted } = contents;
    format!(
        "{users} users, {administrators} of them administrators, {widgets} widgets, {blacklisted} logged-out tokens, \
         schema {schema}"
    )
}

pub(super) fn judge(hash: &PasswordHash) -> Result<(), String> {
    StoredHash::read(hash).map(drop).map_err(|unusable| unusable.to_string())
}
