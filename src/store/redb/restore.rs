//! Puts a copy in the place of the database.
//!
//! Guarantees: nothing of the present data changes before the copy was found sound; what is put in place is the very file
//! that was looked at, with a new generation: the copy knows nothing of the tokens that were logged out since it was made, so
//! no token from before lives on; at every moment, also of a crash, the database is the old one or the new one, whole (I6); the old one
//! is kept beside it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::store::{
    atomic_file::sync_dir,
    data_dir::DataDir,
    error::StoreError,
    progress::Progress,
    redb::{
        check::{DatabaseContents, HashCheck, check},
        schema::{begin_data_generation, cannot, verify_read_only},
    },
};

/// What was done.
#[derive(Debug)]
pub struct RestoreOutcome {
    /// What is in the database now.
    pub contents: DatabaseContents,
    /// Where the database from before is; `None` where there was none.
    pub kept: Option<PathBuf>,
}

/// Makes the copy at `from` the database of `dir`. The old one gets `stamp`, which must be new each time, into its name.
///
/// # Errors
/// [`StoreError::Refused`] says what is wrong with the copy or with the disk; the database is what it was.
pub fn restore(
    dir: &DataDir,
    from: &Path,
    stamp: &str,
    check_hash: HashCheck,
    progress: Progress<'_>,
) -> Result<RestoreOutcome, StoreError> {
    verify_read_only(from)?;
    let database = dir.database();
    let copy = database.with_extension("redb.restoring");
    let placed = copy_to(from, &copy).map_err(|error| cannot("copy", from, &error)).and_then(|()| {
        let contents = check(&copy, check_hash, progress).map_err(|error| with_original_path(&copy, from, error))?;
        begin_data_generation(&copy).map_err(|error| with_original_path(&copy, from, error))?;
        let kept = put(&copy, &database, stamp).map_err(|error| cannot("replace", &database, &error))?;
        Ok(RestoreOutcome { contents, kept })
    });
    if placed.is_err() {
        let _ = fs::remove_file(&copy); // it would only take room; the next restore replaces it too
    }
    placed
}

fn copy_to(from: &Path, copy: &Path) -> io::Result<()> {
    match fs::remove_file(copy) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {} // left by a crash
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy)?;
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()
}

/// Keeps the database under a second name and lets the copy take its first one, so that this name is never missing: a start
/// that finds no database would make an empty one.
fn put(copy: &Path, database: &Path, stamp: &str) -> io::Result<Option<PathBuf>> {
    let dir = database.parent().expect("BUG: the database is in the data directory");
    let kept = database.with_extension(format!("redb.before-restore-{stamp}"));
    let kept = match fs::hard_link(database, &kept) {
        Ok(()) => Some(kept),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
        Err(_) => {
            copy_to(database, &kept)?; // a file system without hard links
            Some(kept)
        }
    };
    sync_dir(dir)?;
    fs::rename(copy, database)?;
    sync_dir(dir)?;
    Ok(kept)
}

/// The file that the operator knows is `from`.
fn with_original_path(copy: &Path, from: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(sentence) => {
            StoreError::Refused(sentence.replace(&copy.display().to_string(), &from.display().to_string()))
        }
        other => other,
    }
}
