//! The one thread that writes: redb has one writer at a time, so a queue in front of it and nobody blocked behind it.
//!
//! Guarantees: an answer is given after its transaction is durable on disk (I1); a write that fails or panics leaves nothing
//! behind and takes no other along; the queue is bounded.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Instant,
};

use redb::{Database, WriteTransaction};
use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use crate::metrics::METRICS;

/// How many writes may wait. At half a millisecond each this is two seconds.
const WAITING_MAX: usize = 4096;

type Job = Box<dyn FnOnce(&Database) + Send>;

/// The handle of the writing thread.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(database: Arc<Database>) -> Self {
        let (jobs, mut queue) = mpsc::channel::<Job>(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("latchkey-writer".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    // A panic was reported by the panic hook, and whoever waits sees the dropped answer.
                    let _ = catch_unwind(AssertUnwindSafe(|| job(&database)));
                }
            })
            .expect("BUG: a thread can be started while the server starts");
        Self { jobs: Some(jobs), thread: Some(thread) }
    }

    /// Runs `work` in a transaction of its own and commits it durably. A caller that goes away does not stop the write.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue(work)?.await.unwrap_or(Err(StoreError::GivenUp))
    }

    /// Like [`Writer::write`] for a thread that may wait.
    pub(super) fn write_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.queue(work)?.blocking_recv().unwrap_or(Err(StoreError::GivenUp))
    }

    fn queue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(move |database: &Database| {
            let started = Instant::now();
            let done = transact(database, work);
            if done.is_ok() {
                METRICS.count_commit(1, started.elapsed());
            }
            // The receiver may be gone: a client that hung up does not undo what it asked for.
            let _ = reply.send(done);
        });
        let jobs = self.jobs.as_ref().expect("BUG: only drop takes the queue away");
        jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::GivenUp,
        })?;
        Ok(answer)
    }
}

impl Drop for Writer {
    /// Finishes what waits and ends the thread, so that nothing holds the database any more.
    fn drop(&mut self) {
        drop(self.jobs.take());
        let _ = self.thread.take().map(thread::JoinHandle::join); // it catches panics; there is none to pass on
    }
}

/// One transaction: durable when this returns `Ok`, without a trace when it returns `Err` from `work`.
pub(super) fn transact<T>(
    database: &Database,
    work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut txn = database.begin_write()?;
    txn.set_durability(redb::Durability::Immediate)?;
    // Reopening after a crash need not scan the file, and every commit is in two phases.
    txn.set_quick_repair(true);
    let done = work(&txn)?;
    txn.commit()?;
    Ok(done)
}
