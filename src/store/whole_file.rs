//! A file that is there wholly or not at all: it has another name until it is complete and synced (I6).
//!
//! Guarantees: readable by its owner alone (0600); what was there before stays until the new file takes its place in one
//! step; where the work fails, nothing is left behind.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::sync_dir;
use crate::random;

/// A file in the making. Dropped before [`WholeFile::put`] it is gone.
pub struct WholeFile {
    file: File,
    unfinished: PathBuf,
    path: PathBuf,
    replace: bool,
}

impl WholeFile {
    /// Begins the file that will be `path`, in the same directory under a name of its own.
    ///
    /// # Errors
    /// `AlreadyExists` where there is something at `path` and not `replace`, or a directory; else what the operating system says.
    pub fn create(path: &Path, replace: bool) -> io::Result<Self> {
        refuse_existing(path, replace)?;
        let mut name = path.file_name().ok_or(ErrorKind::InvalidFilename)?.to_owned();
        // Two that write to the same name must not get into each other's file.
        name.push(format!(".new-{:08x}", u32::from_be_bytes(random::bytes())));
        let unfinished = path.with_file_name(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished)?;
        Ok(Self { file, unfinished, path: path.to_owned(), replace })
    }

    /// What to write to.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it is until it is complete.
    #[must_use]
    pub fn unfinished(&self) -> &Path {
        &self.unfinished
    }

    /// Gives the complete file its name. It is durable when this returns.
    ///
    /// # Errors
    /// As [`WholeFile::create`]; nothing was changed then.
    pub fn put(self) -> io::Result<()> {
        self.file.sync_all()?;
        refuse_existing(&self.path, self.replace)?;
        fs::rename(&self.unfinished, &self.path)?;
        match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => sync_dir(dir),
            _ => sync_dir(Path::new(".")),
        }
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.unfinished); // after `put` it has no such name any more
    }
}

fn refuse_existing(path: &Path, replace: bool) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::new(ErrorKind::AlreadyExists, "it is a directory")),
        Ok(_) if !replace => Err(io::Error::new(ErrorKind::AlreadyExists, "it exists (--force replaces it)")),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
