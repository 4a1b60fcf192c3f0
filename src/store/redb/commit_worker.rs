//! The commit worker: redb allows one writer at a time, so writes wait in a bounded queue and block no other thread.
//!
//! Group commit: all queued writes share one transaction; a lone write commits immediately. Guarantees: a write is acknowledged after its
//! transaction is durable on disk (I1). A write that fails or panics leaves nothing behind and does not affect the others. After a disk
//! error this thread reopens the file until that works; meanwhile reads continue on what is readable, and writes fail.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use redb::Database;
use tokio::sync::oneshot;

use crate::{
    metrics::METRICS,
    store::{
        error::StoreError,
        redb::{
            backend::StorageFactory,
            handle::DatabaseHandle,
            schema,
            transaction::{Transaction, transact},
        },
    },
};

/// The maximum number of queued writes: about a second of them.
const WAITING_MAX: usize = 4096;
/// The maximum number of writes per commit.
const BATCH_MAX: usize = 1024;
/// The pause after a failed attempt to reopen the file.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// A queued write. It may run more than once, each time in a new transaction, and is acknowledged once.
trait QueuedWrite: Send {
    fn run(&mut self, txn: &Transaction) -> Result<(), StoreError>;
    /// Acknowledges the write. `Ok` means that the last run is durable.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Write<W, T> {
    work: W,
    done: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<W, T> QueuedWrite for Write<W, T>
where
    W: FnMut(&Transaction) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn run(&mut self, txn: &Transaction) -> Result<(), StoreError> {
        self.done = Some((self.work)(txn)?);
        Ok(())
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { done, reply, .. } = *self;
        // The receiver is gone if the client has disconnected. The write is done nevertheless.
        let _ = reply.send(outcome.and_then(|()| done.ok_or(StoreError::GivenUp)));
    }
}

/// Sends writes to the thread that commits them.
pub(in crate::store) struct CommitQueue {
    queue: Option<mpsc::SyncSender<Box<dyn QueuedWrite>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl CommitQueue {
    /// Starts the commit worker. It writes to `handle` and reopens the database from `backend` with a cache of `cache_bytes`.
    pub(in crate::store) fn start(
        handle: Arc<DatabaseHandle>,
        backend: Arc<dyn StorageFactory>,
        cache_bytes: usize,
    ) -> Self {
        let (queue, jobs) = mpsc::sync_channel(WAITING_MAX);
        let worker = CommitWorker { jobs, handle, backend, cache_bytes };
        let thread = thread::Builder::new()
            .name("latchkey-writer".to_owned())
            .spawn(move || worker.work())
            .expect("BUG: a thread can be started while the server starts");
        Self { queue: Some(queue), thread: Some(thread) }
    }

    /// Runs `work` in a transaction and commits it durably. If another write in the same transaction fails, `work` runs again in a new one.
    /// Dropping the future does not stop the write.
    pub(in crate::store) async fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue(work)?.await.unwrap_or(Err(StoreError::GivenUp))
    }

    /// Like [`CommitQueue::write`], but blocks the calling thread.
    pub(in crate::store) fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnMut(&Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue(work)?.blocking_recv().unwrap_or(Err(StoreError::GivenUp))
    }

    /// Queues a probe write after a failed read. It shows whether the database must be reopened.
    pub(in crate::store) fn queue_probe_write(&self) {
        let _ = self.queue(schema::probe_write); // if the queue is full, the queued writes show it
    }

    fn queue<T: Send + 'static>(
        &self,
        work: impl FnMut(&Transaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().expect("BUG: only drop takes the queue away");
        queue.try_send(Box::new(Write { work, done: None, reply })).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Overloaded,
            TrySendError::Disconnected(_) => StoreError::GivenUp,
        })?;
        Ok(answer)
    }
}

impl Drop for CommitQueue {
    /// Finishes the queued writes and ends the thread, so that nothing uses the database afterwards.
    fn drop(&mut self) {
        drop(self.queue.take());
        let _ = self.thread.take().map(thread::JoinHandle::join); // the thread catches all panics
    }
}

/// State of the thread that runs queued writes and commits them.
struct CommitWorker {
    jobs: mpsc::Receiver<Box<dyn QueuedWrite>>,
    handle: Arc<DatabaseHandle>,
    backend: Arc<dyn StorageFactory>,
    cache_bytes: usize,
}

/// A commit failed and the database must be reopened.
struct FailedCommit {
    error: StoreError,
    /// The writes that are not acknowledged yet.
    batch: Vec<Box<dyn QueuedWrite>>,
}

impl CommitWorker {
    fn work(self) {
        while let Ok(first) = self.jobs.recv() {
            let mut batch = vec![first];
            batch.extend(self.jobs.try_iter().take(BATCH_MAX - 1));
            let write = || match self.handle.database() {
                Ok(database) => self.write_batch(&database, batch),
                Err(error) => Err(FailedCommit { error, batch }),
            };
            // A panic here is redb's, because those of jobs were caught. The state of the database in memory is not trusted after it.
            let given_up = |_| Err(FailedCommit { error: StoreError::GivenUp, batch: Vec::new() });
            let written = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(given_up);
            if let Err(broken) = written {
                tracing::error!(error = %broken.error, "a write failed; opening the database again");
                if !self.reopen(broken) {
                    return;
                }
                tracing::info!("the database is open again");
            }
        }
    }

    /// Commits all of `batch` together, or if one of them fails, each separately. Then acknowledges them.
    fn write_batch(&self, database: &Arc<Database>, mut batch: Vec<Box<dyn QueuedWrite>>) -> Result<(), FailedCommit> {
        let started = Instant::now();
        self.handle.invalidate_snapshot();
        let outcome = transact(database, |txn| batch.iter_mut().try_for_each(|job| run(&mut **job, txn)));
        match &outcome {
            Ok(changes) => {
                self.handle.make_commit_visible(changes);
                METRICS.count_commit(batch.len(), started.elapsed());
            }
            // After a disk error redb refuses every transaction; after any other error it does not.
            Err(error) if database.begin_write().is_err() => return Err(FailedCommit { error: error.clone(), batch }),
            Err(_) if batch.len() > 1 => {
                return batch.into_iter().try_for_each(|job| self.write_batch(database, vec![job]));
            }
            Err(_) => {}
        }
        answer(batch, &outcome.map(drop));
        Ok(())
    }

    /// Reopens the file, retrying until it succeeds. Returns `false` if the store is closed meanwhile.
    fn reopen(&self, mut broken: FailedCommit) -> bool {
        let mut said = false;
        loop {
            let mut writable = false;
            // A database that was not closed cleanly is repaired when it is opened.
            let _ = self.handle.replace(|| match schema::open_again(&*self.backend, self.cache_bytes) {
                Ok(database) => {
                    writable = true;
                    Some(database)
                }
                Err(error) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::error!(%error, "the database takes no writes; trying again every second");
                    }
                    schema::open_to_read(&*self.backend, self.cache_bytes).ok()
                }
            });
            // The writes are answered now, so that a caller that learns of the failure can already read again.
            answer(broken.batch.drain(..), &Err(broken.error.clone()));
            if writable {
                METRICS.database_reopened.inc();
                return true;
            }
            let until = Instant::now() + REOPEN_PAUSE;
            loop {
                match self.jobs.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(job) => job.answer(Err(StoreError::GivenUp)),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return false,
                }
            }
        }
    }
}

fn answer(batch: impl IntoIterator<Item = Box<dyn QueuedWrite>>, outcome: &Result<(), StoreError>) {
    for job in batch {
        job.answer(outcome.clone());
    }
}

fn run(job: &mut dyn QueuedWrite, txn: &Transaction) -> Result<(), StoreError> {
    // The panic hook has reported the panic.
    catch_unwind(AssertUnwindSafe(|| job.run(txn))).unwrap_or(Err(StoreError::GivenUp))
}
