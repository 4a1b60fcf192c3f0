//! Where the bytes of the database are: a file, or what a test has in its place to see what a failing disk does.
//!
//! Guarantees: what is opened exists already; nothing is made here.

use std::{
    fs::OpenOptions,
    io::{self, ErrorKind},
    path::PathBuf,
};

use redb::{Builder, Database, DatabaseError, ReadOnlyDatabase, StorageBackend, backends::FileBackend};

use super::overlay::Overlay;

/// What the bytes are opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To look at them: also where they cannot be written.
    Read,
    /// To change them.
    Write,
}

/// Opens the same bytes as often as it is asked to.
pub(super) trait Medium: Send + Sync {
    /// How many there are.
    fn bytes(&self) -> io::Result<u64>;

    /// Opens the database.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Opens it where it was closed cleanly.
    fn open_read_only(&self, builder: &Builder) -> Result<ReadOnlyDatabase, DatabaseError>;

    /// Opens it so that what is written stays in memory.
    fn open_over(&self, builder: &Builder) -> Result<Database, DatabaseError>;
}

impl<B: StorageBackend, F: Fn(Access) -> io::Result<B> + Send + Sync> Medium for F {
    fn bytes(&self) -> io::Result<u64> {
        self(Access::Read)?.len()
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let backend = self(Access::Write)?;
        if backend.len()? == 0 {
            // redb would make a new database in it, and nobody would miss the old one.
            return Err(io::Error::from(ErrorKind::InvalidData).into());
        }
        builder.create_with_backend(backend)
    }

    fn open_read_only(&self, builder: &Builder) -> Result<ReadOnlyDatabase, DatabaseError> {
        builder.open_read_only_with_backend(self(Access::Read)?)
    }

    fn open_over(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_with_backend(Overlay::new(self(Access::Read)?)?)
    }
}

/// The file at `path`.
pub(super) fn file(path: PathBuf) -> impl Medium + 'static {
    move |access| {
        let file = OpenOptions::new().read(true).write(access == Access::Write).open(&path)?;
        FileBackend::new(file).map_err(io::Error::other)
    }
}
