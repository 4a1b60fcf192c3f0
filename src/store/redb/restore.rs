//! Replaces the database by a backup.
//!
//! Guarantees: the current data does not change before the backup was verified, and the verified file itself is put in place. It gets a new
//! data generation, which invalidates all tokens, because the backup lacks the logouts since it was made. At every moment, also after a
//! crash, the database is the old one or the new one, complete (I6). The old one is kept beside it.

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
    file_access::give_to_owner_of,
    progress::Progress,
    redb::{
        check::{DatabaseContents, HashCheck, check},
        schema::{begin_data_generation, cannot, verify_read_only},
    },
};

/// The result of a restore.
#[derive(Debug)]
pub struct RestoreOutcome {
    /// The counts of the restored database.
    pub contents: DatabaseContents,
    /// The path of the previous database, or `None` if there was none.
    pub kept: Option<PathBuf>,
}

/// Replaces the database of `dir` by a copy of the backup at `from`. The name of the previous database gets `stamp`, which must be unique.
///
/// # Errors
/// [`StoreError::Refused`] has one sentence about the defect of the backup or the error of the disk. The database is unchanged then.
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
        let _ = fs::remove_file(&copy); // it only takes space; the next restore would replace it too
    }
    placed
}

fn copy_to(from: &Path, copy: &Path) -> io::Result<()> {
    match fs::remove_file(copy) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {} // a leftover of a crash
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(copy)?;
    if let Some(dir) = copy.parent() {
        give_to_owner_of(dir, &file);
    }
    io::copy(&mut File::open(from)?, &mut file)?;
    file.sync_all()
}

/// Links the database to a second name and renames the copy over the first, so that the first name always exists: a start without a
/// database would create an empty one.
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

/// Replaces the path of the temporary copy in an error by the backup's path, which the operator knows.
fn with_original_path(copy: &Path, from: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(sentence) => {
            StoreError::Refused(sentence.replace(&copy.display().to_string(), &from.display().to_string()))
        }
        other => other,
    }
}
