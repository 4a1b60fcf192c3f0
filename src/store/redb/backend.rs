//! The backend factory: opens the storage of the database, which is a file, or in tests a simulated disk.
//!
//! Guarantees: it opens what exists and creates nothing.

use std::{
    fs::OpenOptions,
    io::{self, ErrorKind},
    path::PathBuf,
};

use redb::{Builder, Database, DatabaseError, StorageBackend, backends::FileBackend};

use crate::store::redb::copy_on_write::CopyOnWriteStorage;

/// How the storage is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// Read only: works without write permission.
    Read,
    /// Read and write.
    Write,
}

/// Opens the same storage any number of times.
pub(in crate::store) trait StorageFactory: Send + Sync {
    /// Returns its size in bytes.
    fn bytes(&self) -> io::Result<u64>;

    /// Opens the database.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Opens the database copy-on-write: writes stay in memory.
    fn open_over(&self, builder: &Builder) -> Result<Database, DatabaseError>;
}

impl<B: StorageBackend, F: Fn(AccessMode) -> io::Result<B> + Send + Sync> StorageFactory for F {
    fn bytes(&self) -> io::Result<u64> {
        self(AccessMode::Read)?.len()
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(not_empty(self(AccessMode::Write)?)?)
    }

    fn open_over(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(CopyOnWriteStorage::new(not_empty(self(AccessMode::Read)?)?)?)
    }
}

/// Fails if `backend` is empty. redb would create a new database in it, and the loss of the old one would go unnoticed.
pub(in crate::store) fn not_empty<B: StorageBackend>(backend: B) -> io::Result<B> {
    if backend.len()? == 0 { Err(ErrorKind::InvalidData.into()) } else { Ok(backend) }
}

/// Returns the factory for the file at `path`.
pub(in crate::store) fn file(path: PathBuf) -> impl StorageFactory + 'static {
    move |access| {
        let file = OpenOptions::new().read(true).write(access == AccessMode::Write).open(&path)?;
        FileBackend::new(file).map_err(io::Error::other)
    }
}
