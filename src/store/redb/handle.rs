//! Handle of the open database and its cached snapshot.
//!
//! After a disk error redb refuses every call until the file is opened again, so the handle replaces its database while the server
//! runs.
//!
//! Guarantees: a database is closed before the next is opened, and not while a snapshot of it is in use, so that no page changes under a
//! reader. An acknowledged write is in the next snapshot.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::Duration,
};

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _};

use crate::store::{
    error::StoreError,
    redb::tables::{BLACKLIST, KNOWN_DEVICES, ReadOnlyBytesTable, USERS, Users},
};

/// How often the wait for the last reader polls. Reads take microseconds, a backup takes seconds.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Handle of the open database, with the snapshot that readers share. Readers and the commit worker each hold one.
pub(in crate::store) struct DatabaseHandle(RwLock<OpenDatabase>);

struct OpenDatabase {
    /// `None` if no database is readable.
    database: Option<Arc<Database>>,
    /// The snapshot that readers share until the next commit. Beginning a transaction and opening its tables costs more than most reads.
    latest: Option<Arc<Snapshot>>,
}

/// A read transaction, with the tables open that every request reads.
pub(in crate::store) struct Snapshot {
    pub(in crate::store) users: Users,
    pub(in crate::store) blacklist: ReadOnlyTable<[u8; 24], ()>,
    pub(in crate::store) known_devices: ReadOnlyBytesTable,
    txn: ReadTransaction,
    /// Keeps the database open.
    _database: Arc<Database>,
}

impl Snapshot {
    fn of(database: &Arc<Database>) -> Result<Arc<Self>, StoreError> {
        let txn = database.begin_read()?;
        let (users, blacklist) = (txn.open_table(USERS)?, txn.open_table(BLACKLIST)?);
        let known_devices = txn.open_table(KNOWN_DEVICES)?;
        Ok(Arc::new(Self { users, blacklist, known_devices, txn, _database: Arc::clone(database) }))
    }
}

impl Deref for Snapshot {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.txn
    }
}

impl DatabaseHandle {
    pub(in crate::store) fn new(database: Database) -> Self {
        Self(RwLock::new(OpenDatabase { database: Some(Arc::new(database)), latest: None }))
    }

    /// Returns the snapshot of the last commit.
    pub(in crate::store) fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        if let Some(latest) = &self.0.read().unwrap_or_else(PoisonError::into_inner).latest {
            return Ok(Arc::clone(latest));
        }
        let mut handle = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = &handle.latest {
            return Ok(Arc::clone(latest));
        }
        let latest = Snapshot::of(handle.database.as_ref().ok_or(StoreError::GivenUp)?)?;
        Ok(Arc::clone(handle.latest.insert(latest)))
    }

    /// Drops the cached snapshot. Called after each commit and before its writers are acknowledged, so that the next reader sees the
    /// commit. Called before each commit too, because redb cannot reuse pages that a snapshot still shows.
    pub(in crate::store) fn invalidate_snapshot(&self) {
        let latest = self.0.write().unwrap_or_else(PoisonError::into_inner).latest.take();
        drop(latest); // dropped after the lock is released, so that no reader waits for it
    }

    pub(in crate::store) fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).database.clone().ok_or(StoreError::GivenUp)
    }

    /// Waits until the database is unused, closes it, and replaces it by the result of `open`. Readers wait while `open` runs.
    ///
    /// # Errors
    /// If the old one cannot be closed cleanly. It is replaced nevertheless.
    pub(in crate::store) fn replace(&self, open: impl FnOnce() -> Option<Database>) -> Result<(), StoreError> {
        loop {
            let mut handle = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let latest = handle.latest.take();
            // A database that panicked at a write may panic here too. It is replaced nevertheless.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(latest)));
            let closed = match handle.database.take().map(Arc::try_unwrap) {
                Some(Err(used)) => {
                    handle.database = Some(used);
                    drop(handle);
                    thread::sleep(POLL_INTERVAL);
                    continue;
                }
                Some(Ok(unused)) => catch_unwind(AssertUnwindSafe(|| unused.close())).unwrap_or(Ok(())),
                None => Ok(()),
            };
            handle.database = open().map(Arc::new);
            return Ok(closed?);
        }
    }
}
