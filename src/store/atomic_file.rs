//! Writes a file atomically: it has no name, or a temporary one, until it is complete and synced (I6).
//!
//! Guarantees: the file is readable by its owner alone (0600). An existing file stays until the new one replaces it in one step. If the
//! work fails, nothing is left behind. A kill leaves nothing behind either, where the file system supports unnamed files.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use crate::{random, store::unnamed_file};

/// A file that is being written. Dropping it before [`AtomicFile::put`] removes it.
pub struct AtomicFile {
    file: File,
    /// Its temporary name, or `None` if it has none.
    unfinished: Option<PathBuf>,
    path: PathBuf,
    replace: bool,
}

impl AtomicFile {
    /// Creates the file that will be `path`, in the same directory.
    ///
    /// # Errors
    /// `AlreadyExists` if `path` exists and `replace` is false, or it is a directory; any other error of the operating system.
    pub fn create(path: &Path, replace: bool) -> io::Result<Self> {
        refuse_existing(path, replace)?;
        let other = other_name(path)?;
        let (file, unfinished) = match unnamed_file::create(dir_of(path)) {
            Some(file) => (file, None),
            None => (unnamed_file::create_named(&other)?, Some(other)),
        };
        Ok(Self { file, unfinished, path: path.to_owned(), replace })
    }

    /// Returns the file to write to.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the complete file its name. It is durable when this returns.
    ///
    /// # Errors
    /// As [`AtomicFile::create`]; nothing was changed then.
    pub fn put(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        refuse_existing(&self.path, self.replace)?;
        if self.unfinished.is_none() {
            match unnamed_file::link(&self.file, &self.path) {
                // A link cannot replace a file and a rename needs a name. Only a kill between the two leaves the temporary file.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && self.replace => {
                    let other = other_name(&self.path)?;
                    unnamed_file::link(&self.file, &other)?;
                    self.unfinished = Some(other);
                }
                linked => linked?,
            }
        }
        if let Some(unfinished) = &self.unfinished {
            fs::rename(unfinished, &self.path)?;
        }
        sync_dir(dir_of(&self.path))
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            let _ = fs::remove_file(unfinished); // fails after `put`, when the file has its final name
        }
    }
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns a temporary name beside `path`. It is random, so that two processes that write `path` do not share it.
fn other_name(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.file_name().ok_or(ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".new-{:08x}", u32::from_be_bytes(random::bytes())));
    Ok(path.with_file_name(name))
}

fn refuse_existing(path: &Path, replace: bool) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::new(ErrorKind::AlreadyExists, "it is a directory")),
        Ok(_) if !replace => Err(io::Error::new(ErrorKind::AlreadyExists, "it exists (--force replaces it)")),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Syncs a directory, so that files created or renamed in it survive a power loss.
pub(in crate::store) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
