//! The data directory: the database, the signing key, and the lock that admits one process.
//!
//! Guarantees: everything made here is readable by its owner alone (0700, 0600). The key is complete or absent (I6). A second process is
//! refused before it touches anything.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::store::atomic_file::sync_dir;

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another latchkey has it.
    #[error("{0} is in use by another latchkey; stop that one first")]
    InUse(PathBuf),
    /// It would be written over.
    #[error("{0} is a file that latchkey works with; write to another one")]
    OwnFile(PathBuf),
    /// The operating system says no.
    #[error("cannot {verb} {path}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// The data directory, held for as long as this lives.
pub struct DataDir {
    path: PathBuf,
    /// Released by the operating system when the process ends, however it ends.
    _lock: File,
}

const DATABASE_FILE: &str = "latchkey.redb";
/// The name of the socket in the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
const KEY_FILE: &str = "signing.key";
const LOCK_FILE: &str = "latchkey.lock";

impl DataDir {
    /// Makes the directory where it is missing, and takes it for this process.
    ///
    /// # Errors
    /// [`DataDirError`] where another process has it, or it cannot be made or written.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        let io = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { verb, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create the data directory", path))?;
        let path = path.canonicalize().map_err(io("open the data directory", path))?;
        let empty = fs::read_dir(&path).map_err(io("read the data directory", &path))?.next().is_none();
        if empty {
            // A container volume comes up 0755. A directory that has other things in it is not ours to close.
            fs::set_permissions(&path, Permissions::from_mode(0o700))
                .map_err(io("write to the data directory", &path))?;
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io("write to the data directory", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path)),
            Err(TryLockError::Error(source)) => Err(io("lock", &lock_path)(source)),
        }
    }

    /// Whether there is a database in the directory at `path`, which need not exist.
    #[must_use]
    pub fn has_database(path: &Path) -> bool {
        path.join(DATABASE_FILE).exists()
    }

    /// The absolute path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where commands reach a running server.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.path.join(ADMIN_SOCKET)
    }

    /// Where the database is.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// Whether `path` may be written: a copy never takes the place of the files that are in use in `dir`.
    ///
    /// # Errors
    /// [`DataDirError::OwnFile`].
    pub fn refuse_own(dir: &Path, path: &Path) -> Result<(), DataDirError> {
        let own = [DATABASE_FILE, KEY_FILE, LOCK_FILE].map(|name| dir.join(name).canonicalize().ok());
        match path.canonicalize() {
            Ok(path) if own.contains(&Some(path.clone())) => Err(DataDirError::OwnFile(path)),
            _ => Ok(()), // where it does not exist it is none of them
        }
    }

    /// The text of the signing key kept here, from `make` at the first call; without the line end.
    ///
    /// # Errors
    /// [`DataDirError`] where it cannot be read or written.
    pub fn signing_key(&self, make: impl FnOnce() -> Zeroizing<String>) -> Result<Zeroizing<Vec<u8>>, DataDirError> {
        let path = self.path.join(KEY_FILE);
        let io = |verb| {
            let path = path.clone();
            move |source| DataDirError::Io { verb, path, source }
        };
        if !path.try_exists().map_err(io("look for"))? {
            self.write_once(&path, make().as_bytes()).map_err(io("write"))?;
        }
        read_secret(&path).map_err(io("read"))
    }

    fn write_once(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let unfinished = path.with_extension("key.new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(contents)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_dir(&self.path)
    }
}

/// The bytes of a file that holds one secret, without the line end that editors and `openssl rand` add.
///
/// # Errors
/// Where the file cannot be read.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(fs::read(path)?);
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}
