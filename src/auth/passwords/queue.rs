//! The hashing threads and the lock around the [`Scheduler`] that gives them jobs.
//!
//! Guarantees: a job whose caller has gone leaves the queue and counts no more. A job that is refused, evicted or dropped is wiped
//! after the lock is released. Deliberately absent: what a job computes, and which job runs next.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    auth::passwords::{
        fair_queue::{Demand, Ticket},
        scheduler::Scheduler,
    },
    metrics::{GaugeGuard, METRICS},
};

type Task = Box<dyn FnOnce(HashPermit<'_>) + Send>;

struct Job {
    run: Task,
    _counted: GaugeGuard,
}

/// The queued jobs and the threads that run them.
pub(in crate::auth) struct HashQueue {
    state: Mutex<State>,
    something_to_do: Condvar,
}

struct State {
    closed: bool,
    scheduler: Scheduler<Job>,
}

impl HashQueue {
    /// Creates a queue for `threads` threads. `usual` is the work of most jobs, in bytes.
    pub(in crate::auth) fn new(threads: usize, usual: u64) -> Self {
        let state = State { closed: false, scheduler: Scheduler::new(threads, usual, Instant::now()) };
        Self { state: Mutex::new(state), something_to_do: Condvar::new() }
    }

    /// Queues a job. It leaves the queue when the returned entry is dropped.
    ///
    /// # Errors
    /// The estimated wait, if the job could not finish in time.
    pub(in crate::auth) fn join(self: &Arc<Self>, demand: Demand, run: Task) -> Result<HashQueueEntry, Duration> {
        let joined = self.change(|state| {
            let now = Instant::now();
            if state.closed {
                return Err(state.scheduler.wait(demand, now));
            }
            state.scheduler.join(demand, Job { run, _counted: METRICS.hashes_waiting.hold() }, now)
        });
        let ticket = joined?;
        self.something_to_do.notify_one();
        Ok(HashQueueEntry { queue: Arc::clone(self), ticket })
    }

    /// Returns the estimated time until a new job would start.
    pub(in crate::auth) fn wait(&self, demand: Demand) -> Duration {
        self.lock().scheduler.wait(demand, Instant::now())
    }

    /// Runs jobs until the queue is closed, as the thread number `thread`.
    pub(in crate::auth) fn serve(&self, thread: usize) {
        while let Some(run) = self.take(thread) {
            let permit = HashPermit { queue: self, thread, _counted: METRICS.hashes_running.hold() };
            // The thread survives a panic of the job. The caller sees that the reply channel is closed.
            let _ = catch_unwind(AssertUnwindSafe(|| run(permit)));
        }
    }

    /// Ends each thread after its running job. Queued jobs are dropped.
    pub(in crate::auth) fn close(&self) {
        self.change(|state| {
            state.closed = true;
            state.scheduler.clear();
        });
        self.something_to_do.notify_all();
    }

    fn take(&self, thread: usize) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let job = state.scheduler.take(thread, Instant::now());
            let discarded = state.scheduler.take_discarded();
            if let Some(job) = job {
                drop(state);
                drop(discarded);
                return Some(job.run);
            }
            if discarded.is_empty() {
                state = self.something_to_do.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                drop(state);
                drop(discarded);
                state = self.lock();
            }
        }
    }

    /// Runs `change` under the lock. Drops what it discards after the lock is released: jobs hold passwords, which are wiped then.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        let discarded = state.scheduler.take_discarded();
        drop(state);
        drop(discarded);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queued job's entry. Dropping it before the job has started removes the job.
pub(in crate::auth) struct HashQueueEntry {
    queue: Arc<HashQueue>,
    ticket: Ticket,
}

impl Drop for HashQueueEntry {
    fn drop(&mut self) {
        self.queue.change(|state| state.scheduler.leave(self.ticket));
    }
}

/// Permit to use a thread. When it is dropped, the thread is free and the duration of the job is measured.
pub(in crate::auth) struct HashPermit<'a> {
    queue: &'a HashQueue,
    thread: usize,
    _counted: GaugeGuard,
}

impl HashPermit<'_> {
    /// Adds `work` bytes to the running job and returns true, if no job is queued.
    pub(in crate::auth) fn extend(&self, work: u64) -> bool {
        self.queue.lock().scheduler.extend(self.thread, work, Instant::now())
    }
}

impl Drop for HashPermit<'_> {
    fn drop(&mut self) {
        self.queue.lock().scheduler.finish(self.thread, Instant::now());
    }
}
