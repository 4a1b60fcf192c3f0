//! The database that is open now. After a disk error redb refuses everything until the file is opened again, so it is not the
//! same one for as long as the server runs.
//!
//! Guarantees: one is closed before the next is opened, and not while someone reads, so that no page changes under a reader.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::Duration,
};

use redb::{Database, ReadTransaction, ReadableDatabase as _};

use super::StoreError;

/// How often it is looked whether the last reader is gone. Reads take microseconds, a backup seconds.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What readers and the writing thread share; `None` where there is nothing readable.
pub(super) struct Current(RwLock<Option<Arc<Database>>>);

/// One moment of the database.
pub(super) struct Snapshot {
    txn: ReadTransaction,
    /// Keeps it open.
    _database: Arc<Database>,
}

impl Deref for Snapshot {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.txn
    }
}

impl Current {
    pub(super) fn new(database: Database) -> Self {
        Self(RwLock::new(Some(Arc::new(database))))
    }

    /// What is there at this moment.
    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let database = self.database()?;
        Ok(Snapshot { txn: database.begin_read()?, _database: database })
    }

    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::GivenUp)
    }

    /// Closes the database as soon as nobody uses it, and takes what `open` gives in its place. Who wants to read meanwhile
    /// waits for `open`.
    ///
    /// # Errors
    /// Where the old one cannot be closed cleanly; it is closed all the same.
    pub(super) fn replace(&self, open: impl FnOnce() -> Option<Database>) -> Result<(), StoreError> {
        loop {
            let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let closed = match current.take().map(Arc::try_unwrap) {
                Some(Err(used)) => {
                    *current = Some(used);
                    drop(current);
                    thread::sleep(LOOK_EVERY);
                    continue;
                }
                // One that panicked at a write may panic at this too, and the next one is opened all the same.
                Some(Ok(unused)) => catch_unwind(AssertUnwindSafe(|| unused.close())).unwrap_or(Ok(())),
                None => Ok(()),
            };
            *current = open().map(Arc::new);
            return Ok(closed?);
        }
    }
}
