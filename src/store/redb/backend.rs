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

/// What the bytes are opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessMode {
    /// To look at them: also where they cannot be written.
    Read,
    /// To change them.
    Write,
}

/// Opens the same bytes as often as it is asked to.
pub(in crate::store) trait StorageFactory: Send + Sync {
    /// How many there are.
    fn bytes(&self) -> io::Result<u64>;

    /// Opens the database.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Opens it so that what is written stays in memory.
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

/// In nothing redb would make a new database, and nobody would miss the old one.
pub(in crate::store) fn not_empty<B: StorageBackend>(backend: B) -> io::Result<B> {
    if backend.len()? == 0 { Err(ErrorKind::InvalidData.into()) } else { Ok(backend) }
}

/// The file at `path`.
pub(in crate::store) fn file(path: PathBuf) -> impl StorageFactory + 'static {
    move |access| {
        let file = OpenOptions::new().read(true).write(access == AccessMode::Write).open(&path)?;
        FileBackend::new(file).map_err(io::Error::other)
    }
}
