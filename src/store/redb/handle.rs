//! Handle of the open database, its cached snapshot and the caches of recent callers and of services.
//!
//! After a disk error redb refuses every call until the file is opened again, so the handle replaces its database while the server
//! runs.
//!
//! Guarantees: a database is closed before the next is opened, and not while a snapshot of it is in use, so that no page changes under a
//! reader. An acknowledged write is in the next snapshot, and no earlier value of what it changed is in the cache.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::Duration,
};

use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase as _};
use tokio::sync::watch;

use crate::store::{
    error::StoreError,
    redb::{
        caller_cache::CallerCache,
        service_cache::ServiceCache,
        tables::{BLACKLIST, KNOWN_DEVICES, ReadOnlyBytesTable, USERS, Users},
        transaction::Changes,
    },
};

/// How often the wait for the last reader polls. Reads take microseconds, a backup takes seconds.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Handle of the open database, with the snapshot that readers share. Readers and the commit worker each hold one.
pub(in crate::store) struct DatabaseHandle {
    open: RwLock<OpenDatabase>,
    caller_cache: CallerCache,
    /// Changes when the next snapshot may have more of the revocation feed.
    revoked: watch::Sender<()>,
    service_cache: ServiceCache,
}

struct OpenDatabase {
    /// `None` if no database is readable.
    database: Option<Arc<Database>>,
    /// The snapshot that readers share until the next commit. Beginning a transaction and opening its tables costs more than most reads.
    latest: Option<Arc<Snapshot>>,
    /// The number of commits so far. Opening the file again counts as one.
    commits: u64,
}

/// A read transaction, with the tables open that every request reads.
pub(in crate::store) struct Snapshot {
    pub(in crate::store) users: Users,
    pub(in crate::store) blacklist: ReadOnlyTable<[u8; 24], ()>,
    pub(in crate::store) known_devices: ReadOnlyBytesTable,
    /// The number of commits that are certainly in it. It may have one more.
    pub(in crate::store) commits: u64,
    txn: ReadTransaction,
    /// Keeps the database open.
    _database: Arc<Database>,
}

impl Snapshot {
    fn of(database: &Arc<Database>, commits: u64) -> Result<Arc<Self>, StoreError> {
        let txn = database.begin_read()?;
        let (users, blacklist) = (txn.open_table(USERS)?, txn.open_table(BLACKLIST)?);
        let known_devices = txn.open_table(KNOWN_DEVICES)?;
        Ok(Arc::new(Self { users, blacklist, known_devices, commits, txn, _database: Arc::clone(database) }))
    }
}

impl Deref for Snapshot {
    type Target = ReadTransaction;

    fn deref(&self) -> &ReadTransaction {
        &self.txn
    }
}

impl DatabaseHandle {
    /// Takes an open database. `caller_cache` must be empty.
    pub(in crate::store) fn new(database: Database, caller_cache: CallerCache) -> Self {
        let open = OpenDatabase { database: Some(Arc::new(database)), latest: None, commits: 0 };
        let (service_cache, revoked) = (ServiceCache::default(), watch::Sender::default());
        Self { open: RwLock::new(open), caller_cache, service_cache, revoked }
    }

    pub(in crate::store) fn caller_cache(&self) -> &CallerCache {
        &self.caller_cache
    }

    pub(in crate::store) fn service_cache(&self) -> &ServiceCache {
        &self.service_cache
    }

    /// Returns the snapshot of the last commit.
    pub(in crate::store) fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        if let Some(latest) = &self.open.read().unwrap_or_else(PoisonError::into_inner).latest {
            return Ok(Arc::clone(latest));
        }
        let mut handle = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = &handle.latest {
            return Ok(Arc::clone(latest));
        }
        let database = handle.database.as_ref().ok_or(StoreError::GivenUp)?;
        let latest = Snapshot::of(database, handle.commits)?;
        Ok(Arc::clone(handle.latest.insert(latest)))
    }

    /// Drops the cached snapshot. Called before each commit, because redb cannot reuse pages that a snapshot still shows.
    pub(in crate::store) fn invalidate_snapshot(&self) {
        let latest = self.open.write().unwrap_or_else(PoisonError::into_inner).latest.take();
        drop(latest); // dropped after the lock is released, so that no reader waits for it
    }

    /// Makes a commit visible to the next reader. Called after each commit, by the only thread that commits, and before the writers are
    /// acknowledged.
    pub(in crate::store) fn make_commit_visible(&self, changes: &Changes) {
        let commits = self.open.read().unwrap_or_else(PoisonError::into_inner).commits + 1;
        self.caller_cache.remove_changed(changes, commits);
        if changes.services {
            self.service_cache.clear(commits);
        }
        let mut handle = self.open.write().unwrap_or_else(PoisonError::into_inner);
        handle.commits = commits;
        let latest = handle.latest.take();
        drop(handle);
        drop(latest);
        if changes.are_revocations() {
            self.revoked.send_replace(());
        }
    }

    /// Returns a receiver that changes when a snapshot that is taken afterwards may have more of the revocation feed.
    pub(in crate::store) fn subscribe_revocations(&self) -> watch::Receiver<()> {
        self.revoked.subscribe()
    }

    pub(in crate::store) fn database(&self) -> Result<Arc<Database>, StoreError> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).database.clone().ok_or(StoreError::GivenUp)
    }

    /// Waits until the database is unused, closes it, and replaces it by the result of `open`. Readers wait while `open` runs.
    ///
    /// # Errors
    /// If the old one cannot be closed cleanly. It is replaced nevertheless.
    pub(in crate::store) fn replace(&self, open: impl FnOnce() -> Option<Database>) -> Result<(), StoreError> {
        loop {
            let mut handle = self.open.write().unwrap_or_else(PoisonError::into_inner);
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
            handle.commits += 1;
            self.service_cache.clear(handle.commits);
            self.caller_cache.clear(handle.commits); // a commit that failed may be on the disk nevertheless
            handle.database = open().map(Arc::new);
            drop(handle);
            self.revoked.send_replace(()); // for the same reason
            return Ok(closed?);
        }
    }
}
