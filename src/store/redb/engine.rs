//! The open engine: short reads on the calling thread, long reads in the reader pool, writes through the commit worker.
//!
//! Guarantees: a read sees one snapshot; what is known about recent callers is at least as new. A read that fails because of the disk makes the commit worker find out whether the file must be
//! reopened.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Database, StorageError};
use tokio::sync::watch;

pub use redb::StorageBackend;

use crate::{
    model::{BlacklistedToken, PublicId, User},
    store::{
        error::StoreError,
        reader_pool::ReaderPool,
        redb::{
            backend::{self, AccessMode, StorageFactory},
            blacklist,
            caller_cache::CallerCache,
            commit_worker::CommitQueue,
            handle::{DatabaseHandle, Snapshot},
            schema,
            service_cache::ServiceIndex,
            service_table,
            transaction::Transaction,
            users,
        },
    },
};

/// The open database, with its commit worker and its reader pool.
pub(in crate::store) struct RedbEngine {
    backend: Arc<dyn StorageFactory>,
    commits: CommitQueue,
    readers: ReaderPool,
    handle: Arc<DatabaseHandle>,
}

impl RedbEngine {
    /// Opens the file, or creates it, and brings it to the current schema. `cache_bytes` bounds what is kept of it in memory.
    pub(in crate::store) fn open(file: PathBuf, cache_bytes: usize) -> Result<Self, StoreError> {
        let database = schema::open_or_create(&file, page_cache_bytes(cache_bytes))?;
        Ok(Self::over(database, Arc::new(backend::file(file)), cache_bytes))
    }

    /// Opens the database on the storage that `factory` opens, now and again after each failure of it.
    pub(in crate::store) fn open_on<B: StorageBackend>(
        factory: impl Fn(AccessMode) -> io::Result<B> + Send + Sync + 'static,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        let database = schema::open(&factory, Path::new("the database"), page_cache_bytes(cache_bytes))?;
        Ok(Self::over(database, Arc::new(factory), cache_bytes))
    }

    fn over(database: Database, backend: Arc<dyn StorageFactory>, cache_bytes: usize) -> Self {
        let caller_cache = CallerCache::new(cache_bytes / 8);
        let handle = Arc::new(DatabaseHandle::new(database, caller_cache));
        let commits = CommitQueue::start(Arc::clone(&handle), Arc::clone(&backend), page_cache_bytes(cache_bytes));
        Self { backend, commits, readers: ReaderPool::start(), handle }
    }

    /// Finishes the queued writes and closes the file, so that the next start finds it clean.
    pub(in crate::store) fn close(self) -> Result<(), StoreError> {
        drop(self.readers);
        drop(self.commits);
        self.handle.replace(|| None)
    }

    /// The snapshot of the last commit.
    pub(in crate::store) fn snapshot(&self) -> Result<Arc<Snapshot>, StoreError> {
        self.handle.snapshot()
    }

    /// Runs `query` on the snapshot of the last commit.
    pub(in crate::store) fn read<T>(
        &self,
        query: impl FnOnce(&Snapshot) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.noticing_disk_errors(self.snapshot().and_then(|snapshot| query(&snapshot)))
    }

    /// Like [`RedbEngine::read`], but runs `query` in the reader pool: for reads that take longer than a few microseconds.
    pub(in crate::store) async fn read_in_pool<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Snapshot) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let handle = Arc::clone(&self.handle);
        let result = self.readers.run(move || handle.snapshot().and_then(|snapshot| query(&snapshot))).await;
        self.noticing_disk_errors(result)
    }

    /// Returns whether the token is on the blacklist, and its user.
    pub(in crate::store) fn blacklisted_and_user(
        &self,
        token: BlacklistedToken,
        user: PublicId,
    ) -> Result<(bool, Option<Arc<User>>), StoreError> {
        let recent = self.handle.caller_cache();
        match (recent.is_live(token), recent.user(user)) {
            (true, Some(user)) => Ok((false, Some(user))),
            // The snapshot has what the cache does not. Where the cache has a newer value than the snapshot, a commit came between.
            (live, known) => self.read(|snapshot| {
                let blacklisted = !live && blacklist::contains(snapshot, token)?;
                if !live && !blacklisted {
                    recent.keep_live(token, snapshot.commits);
                }
                let found = match known {
                    Some(user) => Some(user),
                    None => users::find(&snapshot.users, user)?.map(|found| recent.keep_user(found, snapshot.commits)),
                };
                Ok((blacklisted, found))
            }),
        }
    }

    /// Returns all services.
    pub(in crate::store) fn services(&self) -> Result<Arc<ServiceIndex>, StoreError> {
        let cache = self.handle.service_cache();
        match cache.get() {
            Some(services) => Ok(services),
            None => self.read(|snapshot| Ok(cache.keep(service_table::all(snapshot)?, snapshot.commits))),
        }
    }

    fn noticing_disk_errors<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Database(_)) = result {
            self.commits.queue_probe_write();
        }
        result
    }

    /// Runs `work` in a transaction that is durable when this returns `Ok`. `work` may run more than once, each time in a new
    /// transaction.
    pub(in crate::store) async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.commits.write(work).await
    }

    /// Like [`RedbEngine::write`], but blocks the calling thread.
    pub(in crate::store) fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnMut(&Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.commits.write_blocking(work)
    }

    /// Returns a receiver that changes when a read that begins afterwards may find more in the revocation feed.
    pub(in crate::store) fn subscribe_revocations(&self) -> watch::Receiver<()> {
        self.handle.subscribe_revocations()
    }

    /// The size of the database in bytes.
    pub(in crate::store) fn bytes(&self) -> Result<u64, StoreError> {
        Ok(self.backend.bytes().map_err(StorageError::from)?)
    }
}

/// Returns the size of redb's page cache. An eighth of the memory is for recent callers, and another for what the allocator adds: pages that
/// one thread frees are not always reused by another.
fn page_cache_bytes(cache_bytes: usize) -> usize {
    cache_bytes / 4 * 3
}
