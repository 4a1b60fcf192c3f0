//! The database that is open now. After a disk error redb refuses everything until the file is opened again, so it is not the
//! same one for as long as the server runs.
//!
//! Guarantees: one is closed before the next is opened, and not while someone reads, so that no page changes under a reader;
//! whoever was answered a write finds it in the next snapshot.

use std::{
    mem,
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

/// Both `None` where there is nothing readable.
struct Open {
    database: Option<Arc<Database>>,
    /// As of the last commit. To begin a transaction and open its tables costs more than what most readers look at in it.
    latest: Option<Arc<Snapshot>>,
}

impl Open {
    fn new(database: Option<Database>) -> Self {
        let database = database.map(Arc::new);
        // Where it cannot be had now, each reader tries for itself.
        let latest = database.as_ref().and_then(|database| Snapshot::of(database).ok());
        Self { database, latest }
    }

    fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        match &self.latest {
            Some(latest) => Ok(Arc::clone(latest)),
            None => Snapshot::of(self.database.as_ref().ok_or(StoreError::GivenUp)?),
        }
    }
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
        Self(RwLock::new(Open::new(Some(database))))
    }

    /// What is there at this moment.
    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).snapshot()
    }

    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).database.clone().ok_or(StoreError::GivenUp)
    }

    /// There was a commit to `database`: from now on readers see it.
    pub(super) fn committed(&self, database: &Arc<Database>) {
        let latest = Snapshot::of(database).ok();
        let before = mem::replace(&mut self.0.write().unwrap_or_else(PoisonError::into_inner).latest, latest);
        drop(before); // not while readers wait
    }

    /// Closes the database as soon as nobody uses it, and takes what `open` gives in its place. Who wants to read meanwhile
    /// waits for `open`.
    ///
    /// # Errors
    /// Where the old one cannot be closed cleanly; it is closed all the same.
    pub(super) fn replace(&self, open: impl FnOnce() -> Option<Database>) -> Result<(), StoreError> {
        loop {
            let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
            current.latest = None;
            let closed = match current.database.take().map(Arc::try_unwrap) {
                Some(Err(used)) => {
                    current.database = Some(used);
                    drop(current);
                    thread::sleep(LOOK_EVERY);
                    continue;
                }
                // One that panicked at a write may panic at this too, and the next one is opened all the same.
                Some(Ok(unused)) => catch_unwind(AssertUnwindSafe(|| unused.close())).unwrap_or(Ok(())),
                None => Ok(()),
            };
            *current = Open::new(open());
            return Ok(closed?);
        }
    }
}
