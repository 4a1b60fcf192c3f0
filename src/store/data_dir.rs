//! The data directory: the database, the signing key, and the lock that admits one process.
//!
//! Guarantees: everything made here is readable by its owner alone (0700, 0600). The key is complete or absent (I6). A second process is
//! refused before it touches anything.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, ErrorKind, Read as _, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::store::{atomic_file::sync_dir, file_access};

/// Why the data directory is unusable.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds its lock.
    #[error("{0} is in use by another latchkey; stop that one first")]
    InUse(PathBuf),
    /// A file to be written is one of its own.
    #[error("{0} is a file that latchkey works with; write to another one")]
    OwnFile(PathBuf),
    /// The operating system reports an error.
    #[error("cannot {verb} {path}")]
    Io {
        /// The attempted operation.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// The data directory, locked until this is dropped.
pub struct DataDir {
    path: PathBuf,
    /// The operating system releases it when the process ends.
    _lock: File,
}

const DATABASE_FILE: &str = "latchkey.redb";
/// The name of the socket in the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
const KEY_FILE: &str = "signing.key";
const LOCK_FILE: &str = "latchkey.lock";

impl DataDir {
    /// Creates the directory if it is missing, and locks it for this process.
    ///
    /// # Errors
    /// [`DataDirError`] if another process holds it, or it cannot be created or written.
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        let io = |verb, path: &Path| {
            let path = path.to_owned();
            move |source| DataDirError::Io { verb, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create the data directory", path))?;
        let path = path.canonicalize().map_err(io("open the data directory", path))?;
        let empty = fs::read_dir(&path).map_err(io("read the data directory", &path))?.next().is_none();
        if empty {
            // A new container volume has mode 0755. The mode of a directory with other files in it is left as it is, and so is that of one
            // that belongs to another user, such as a volume that Kubernetes gives to a group.
            let _ = fs::set_permissions(&path, Permissions::from_mode(0o700));
        }
        file_access::check_dir(&path).map_err(io("use the data directory", &path))?;
        let lock_path = path.join(LOCK_FILE);
        let lock = open_lock(&path, &lock_path).map_err(io("write to the data directory", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path)),
            Err(TryLockError::Error(source)) => Err(io("lock", &lock_path)(source)),
        }
    }

    /// Whether the directory at `path`, which need not exist, has a database.
    ///
    /// # Errors
    /// If this user may not know.
    pub fn has_database(path: &Path) -> io::Result<bool> {
        path.join(DATABASE_FILE).try_exists()
    }

    /// Returns the absolute path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the admin socket.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.path.join(ADMIN_SOCKET)
    }

    /// Returns the path of the database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE_FILE)
    }

    /// Fails if `path` is one of the files in use in `dir`, so that a copy never overwrites them.
    ///
    /// # Errors
    /// [`DataDirError::OwnFile`].
    pub fn refuse_own(dir: &Path, path: &Path) -> Result<(), DataDirError> {
        let own = [DATABASE_FILE, KEY_FILE, LOCK_FILE].map(|name| dir.join(name).canonicalize().ok());
        match path.canonicalize() {
            Ok(path) if own.contains(&Some(path.clone())) => Err(DataDirError::OwnFile(path)),
            _ => Ok(()), // a path that does not exist is none of them
        }
    }

    /// Whether there is a stored signing key.
    ///
    /// # Errors
    /// [`DataDirError`] if this user may not know.
    pub fn has_signing_key(&self) -> Result<bool, DataDirError> {
        let path = self.path.join(KEY_FILE);
        path.try_exists().map_err(|source| DataDirError::Io { verb: "look for", path, source })
    }

    /// Returns the text of the stored signing key without its line end. At the first call it is created by `make`.
    ///
    /// # Errors
    /// [`DataDirError`] if it cannot be read or written.
    pub fn signing_key(&self, make: impl FnOnce() -> Zeroizing<String>) -> Result<Zeroizing<Vec<u8>>, DataDirError> {
        let path = self.path.join(KEY_FILE);
        let io = |verb| {
            let path = path.clone();
            move |source| DataDirError::Io { verb, path, source }
        };
        if !self.has_signing_key()? {
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
        file_access::give_to_owner_of(&self.path, &file);
        file.write_all(contents)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_dir(&self.path)
    }
}

/// Opens the lock, or creates it. Only what was created here is given to the owner of `dir`, who could have put a link to another file
/// there.
fn open_lock(dir: &Path, path: &Path) -> io::Result<File> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(created) => {
            file_access::give_to_owner_of(dir, &created);
            Ok(created)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => OpenOptions::new().write(true).open(path),
        Err(error) => Err(error),
    }
}

/// Reads a file that holds one secret, without the line end that editors and `openssl rand` add. Warns where everybody can read it.
///
/// # Errors
/// If the file cannot be read, or others can write to it.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = File::open(path)?;
    file_access::check_secret(path, &file.metadata()?)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.read_to_end(&mut bytes)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Ok(bytes)
}
