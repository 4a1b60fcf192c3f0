//! The database that is open now. After a disk error redb refuses everything until the file is opened again, so it is not the
//! same one for as long as the server runs.
//!
//! Guarantees: one is closed before the next is opened, and not while someone reads, so that no page changes under a reader;
//! whoever was answered a write finds it in the next snapshot.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::Duration,
};

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _};

use super::{
    StoreError,
    blacklist::BLACKLIST,
    users::{USERS, Users},
};

/// How often it is looked whether the last reader is gone. Reads take microseconds, a backup seconds.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What readers and the writing thread share.
pub(super) struct Current(RwLock<Open>);

struct Open {
    /// `None` where there is nothing readable.
    database: Option<Arc<Database>>,
    /// What readers share until the next commit: to begin a transaction and open its tables costs more than what most of them look
    /// at in it.
    latest: Option<Arc<Snapshot>>,
}

/// One moment of the database, with the tables open that every request looks at.
pub(super) struct Snapshot {
    pub(super) users: Users,
    pub(super) blacklist: ReadOnlyTable<[u8; 24], ()>,
    txn: ReadTransaction,
    /// Keeps it open.
    _database: Arc<Database>,
}

impl Snapshot {
    fn of(database: &Arc<Database>) -> Result<Arc<Self>, StoreError> {
        let txn = database.begin_read()?;
        let (users, blacklist) = (txn.open_table(USERS)?, txn.open_table(BLACKLIST)?);
        Ok(Arc::new(Self { users, blacklist, txn, _database: Arc::clone(database) }))
    }
}

impl Deref for Snapshot {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.txn
    }
}

impl Current {
    pub(super) fn new(database: Database) -> Self {
        Self(RwLock::new(Open { database: Some(Arc::new(database)), latest: None }))
    }

    /// What is there at this moment.
    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        if let Some(latest) = &self.0.read().unwrap_or_else(PoisonError::into_inner).latest {
            return Ok(Arc::clone(latest));
        }
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = &current.latest {
            return Ok(Arc::clone(latest));
        }
        let latest = Snapshot::of(current.database.as_ref().ok_or(StoreError::GivenUp)?)?;
        Ok(Arc::clone(current.latest.insert(latest)))
    }

    /// Readers look anew from now on. To be called after each commit, before anyone is told of it; and before one, since what a
    /// snapshot shows cannot be written over.
    pub(super) fn forget(&self) {
        let latest = self.0.write().unwrap_or_else(PoisonError::into_inner).latest.take();
        drop(latest); // not while readers wait
    }

    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).database.clone().ok_or(StoreError::GivenUp)
    }

    /// Closes the database as soon as nobody uses it, and takes what `open` gives in its place. Who wants to read meanwhile
    /// waits for `open`.
    ///
    /// # Errors
    /// Where the old one cannot be closed cleanly; it is closed all the same.
    pub(super) fn replace(&self, open: impl FnOnce() -> Option<Database>) -> Result<(), StoreError> {
        loop {
            let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let latest = current.latest.take();
            // One that panicked at a write may panic at this too, and the next one is opened all the same.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(latest)));
            let closed = match current.database.take().map(Arc::try_unwrap) {
                Some(Err(used)) => {
                    current.database = Some(used);
                    drop(current);
                    thread::sleep(LOOK_EVERY);
                    continue;
                }
                Some(Ok(unused)) => catch_unwind(AssertUnwindSafe(|| unused.close())).unwrap_or(Ok(())),
                None => Ok(()),
            };
            current.database = open().map(Arc::new);
            return Ok(closed?);
        }
    }
}
