//! The threads that run long reads, such as pages of a list, so that no read holds up a thread that answers requests.
//!
//! Guarantees: the number of running and of queued reads is bounded. The threads have a lower priority than those that answer requests. A
//! queued read whose caller has gone is not run. Deliberately absent: what a read does, and transactions; a read opens its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, TrySendError},
    },
    thread,
};

use tokio::sync::oneshot;

use crate::{
    store::error::StoreError,
    thread_priority::{self, LongWork},
};

/// The number of threads. A read of a page takes at most some milliseconds.
const THREADS: usize = 2;
/// The maximum number of queued reads: together they take less than a second.
const QUEUED_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

/// The threads and their queue. Dropping it finishes the queued reads.
pub(in crate::store) struct ReaderPool {
    queue: Option<mpsc::SyncSender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl ReaderPool {
    pub(in crate::store) fn start() -> Self {
        let (queue, jobs) = mpsc::sync_channel::<Job>(QUEUED_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |number| {
            let jobs = Arc::clone(&jobs);
            let work = move || {
                thread_priority::lower(&LongWork::Bulk);
                loop {
                    let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = job else { return };
                    // The panic hook has reported a panic. The caller sees that its channel is closed.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                }
            };
            let thread = thread::Builder::new().name(format!("latchkey-reader-{number}")).spawn(work);
            thread.expect("BUG: a thread can be started while the server starts")
        };
        Self { queue: Some(queue), threads: (0..THREADS).map(start).collect() }
    }

    /// Runs `read` on one of the threads and returns its result.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] if too many reads are queued; the error of `read`.
    pub(in crate::store) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = move || {
            if !reply.is_closed() {
                let _ = reply.send(read());
            }
        };
        let queue = self.queue.as_ref().expect("BUG: only drop takes the queue away");
        queue.try_send(Box::new(job)).map_err(|refused| match refused {
            TrySendError::Full(_) => StoreError::Overloaded,
            TrySendError::Disconnected(_) => StoreError::GivenUp,
        })?;
        answer.await.unwrap_or(Err(StoreError::GivenUp))
    }
}

impl Drop for ReaderPool {
    fn drop(&mut self) {
        drop(self.queue.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // the thread catches all panics
        }
    }
}
