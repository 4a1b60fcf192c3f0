//! `latchkey check`: whether a database is sound, before someone relies on it.

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use super::progress::Bar;
use crate::{
    auth::stored_hash::StoredHash,
    config::{self, Config},
    model::PasswordHash,
    store::{self, Contents, DataDir},
};

/// Of what.
#[derive(Args)]
pub(super) struct Check {
    /// The file to look at; without it the database of the data directory
    file: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let (path, _dir) = match self.file {
            Some(file) => (file, None),
            None if !DataDir::has_database(&config.data_dir) => {
                bail!("there is no latchkey database in {}", config::absolute(&config.data_dir).display())
            }
            None => {
                let dir = DataDir::take(&config.data_dir)?;
                (dir.database(), Some(dir))
            }
        };
        let mut bar = Bar::new("check");
        let contents = store::check(&path, judge, &mut |done, all| bar.show(done, all))?;
        drop(bar);
        println!("{} is sound: {}", path.display(), describe(&contents));
        Ok(())
    }
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
