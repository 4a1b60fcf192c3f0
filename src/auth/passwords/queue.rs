//! The admission queue in front of the hashing threads.
//!
//! Guarantees: a job that could not finish within a few seconds is refused at once. Logins go before new hashes. A job whose caller has
//! gone leaves the queue and counts no more. A job that has waited too long is dropped before it starts, so that every admitted job that
//! runs finishes in time. Deliberately absent: what a job computes.
//!
//! Durations are estimated from the work of each job and the recent rate in wall-clock time, because under load the hashing threads get
//! only a share of the processor.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::metrics::{GaugeGuard, METRICS};

/// A job that is expected to finish later than this is refused at once, unless a thread is free. It is much shorter than
/// [`FINISH_MAX`], because the queue may fill while the machine is idle and be worked off while requests take most of the processor:
/// an admitted job should finish, not be dropped after seconds.
const ADMITTED_FINISH_MAX: Duration = Duration::from_millis(1500);
/// An admitted job that is now expected to finish later than this after its arrival is dropped.
const FINISH_MAX: Duration = Duration::from_secs(4);
/// A job that has waited less than this is never dropped, so that a hash that takes seconds by itself is possible.
const WAIT_GRACE: Duration = Duration::from_secs(1);
/// The most queued jobs of one priority, however fast a hash is.
const WAITING_MAX: usize = 1024;
/// The rate that is assumed until the first hash is measured, in seconds per byte of work.
const SECONDS_PER_BYTE: f64 = 2e-9;

/// Priority of a job. Earlier variants run first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::auth) enum HashPriority {
    /// Verification of a password at login.
    Verify,
    /// A hash of a new password.
    NewHash,
}

/// Sort key of the queue: priority, then order of arrival.
type QueuePosition = (HashPriority, u64);
type Task = Box<dyn FnOnce(HashPermit<'_>) + Send>;

struct Job {
    work: u64,
    since: Instant,
    run: Task,
    _counted: GaugeGuard,
}

struct Running {
    work: u64,
    since: Instant,
    _counted: GaugeGuard,
}

/// The queued jobs and the threads that run them.
pub(in crate::auth) struct HashQueue {
    state: Mutex<State>,
    something_to_do: Condvar,
}

struct State {
    closed: bool,
    next: u64,
    waiting: BTreeMap<QueuePosition, Job>,
    /// The running job of each thread.
    running: Vec<Option<Running>>,
    rate: HashRate,
}

impl HashQueue {
    /// Creates a queue for `threads` threads. `usual` is the work of most jobs, in bytes.
    pub(in crate::auth) fn new(threads: usize, usual: u64) -> Self {
        let rate = HashRate { seconds_per_byte: SECONDS_PER_BYTE, usual };
        let running = (0..threads).map(|_| None).collect();
        let state = State { closed: false, next: 0, waiting: BTreeMap::new(), running, rate };
        Self { state: Mutex::new(state), something_to_do: Condvar::new() }
    }

    /// Queues a job. It leaves the queue when the returned entry is dropped.
    ///
    /// # Errors
    /// The estimated wait, if the job could not finish in time.
    pub(in crate::auth) fn join(
        self: &Arc<Self>,
        priority: HashPriority,
        work: u64,
        run: Task,
    ) -> Result<HashQueueEntry, Duration> {
        let now = Instant::now();
        let mut state = self.lock();
        state.drop_late_jobs(now);
        let wait = state.wait(priority, now);
        let in_time = state.has_free_thread() || wait + state.current_rate(now).expected(work) <= ADMITTED_FINISH_MAX;
        let is_full = state.waiting.keys().filter(|position| position.0 == priority).count() >= WAITING_MAX;
        if state.closed || is_full || !in_time {
            return Err(wait);
        }
        let position = (priority, state.next);
        state.next += 1;
        state.waiting.insert(position, Job { work, since: now, run, _counted: METRICS.hashes_waiting.hold() });
        drop(state);
        self.something_to_do.notify_one();
        Ok(HashQueueEntry { queue: Arc::clone(self), position })
    }

    /// Returns the estimated time until a new job of `priority` would start.
    pub(in crate::auth) fn wait(&self, priority: HashPriority) -> Duration {
        self.lock().wait(priority, Instant::now())
    }

    /// Runs jobs until the queue is closed, as the thread number `thread`.
    pub(in crate::auth) fn serve(&self, thread: usize) {
        while let Some(run) = self.take(thread) {
            let permit = HashPermit { queue: self, thread };
            // The thread survives a panic of the job. The caller sees that the reply channel is closed.
            let _ = catch_unwind(AssertUnwindSafe(|| run(permit)));
        }
    }

    /// Ends each thread after its running job. Queued jobs are dropped.
    pub(in crate::auth) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.something_to_do.notify_all();
    }

    fn take(&self, thread: usize) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            state.drop_late_jobs(now);
            if let Some((_, job)) = state.waiting.pop_first() {
                state.running[thread] =
                    Some(Running { work: job.work, since: now, _counted: METRICS.hashes_running.hold() });
                return Some(job.run);
            }
            state = self.something_to_do.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_free_thread(&self) -> bool {
        self.running.iter().flatten().count() + self.waiting.len() < self.running.len()
    }

    /// The current rate of work: the recent rate, or a slower one if a running job already took longer than expected.
    fn current_rate(&self, now: Instant) -> HashRate {
        let running = self.running.iter().flatten();
        running.fold(self.rate, |rate, running| {
            let slower = rate.after(now - running.since, running.work);
            if slower.seconds_per_byte > rate.seconds_per_byte { slower } else { rate }
        })
    }

    /// The estimated time until a new job of `priority` would start.
    fn wait(&self, priority: HashPriority, now: Instant) -> Duration {
        if self.has_free_thread() {
            return Duration::ZERO;
        }
        let rate = self.current_rate(now);
        let rest = |running: &Running| rate.expected(running.work).saturating_sub(now - running.since);
        let running: Duration = self.running.iter().flatten().map(rest).sum();
        let before: u64 = self.waiting.range(..=(priority, u64::MAX)).map(|(_, job)| job.work).sum();
        (running + rate.expected(before)) / u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// Drops jobs that can no longer finish in time, because the rate fell or others went first.
    fn drop_late_jobs(&mut self, now: Instant) {
        let rate = self.current_rate(now);
        self.waiting.retain(|_, job| {
            let waited = now - job.since;
            waited < WAIT_GRACE || waited + rate.expected(job.work) <= FINISH_MAX
        });
    }
}

/// The rate at which the threads work.
#[derive(Clone, Copy)]
struct HashRate {
    seconds_per_byte: f64,
    /// The work of most jobs, in bytes. A smaller job changes the rate less.
    usual: u64,
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
impl HashRate {
    fn expected(self, work: u64) -> Duration {
        // The bound is far beyond what is ever admitted, and keeps sums of durations from overflowing.
        Duration::from_secs_f64((work as f64 * self.seconds_per_byte).min(3600.0))
    }

    /// Returns the rate after a job of `work` bytes took `took`. A slower job changes the rate fully, a faster one by half, because a
    /// refused client can try again while an admitted job must finish in time.
    fn after(self, took: Duration, work: u64) -> Self {
        let work = work.max(1);
        let change = took.as_secs_f64() / work as f64 - self.seconds_per_byte;
        let weight = (work as f64 / self.usual as f64).min(1.0) * if change > 0.0 { 1.0 } else { 0.5 };
        Self { seconds_per_byte: self.seconds_per_byte + change * weight, usual: self.usual }
    }
}

/// A queued job's entry. Dropping it before the job has started removes the job.
pub(in crate::auth) struct HashQueueEntry {
    queue: Arc<HashQueue>,
    position: QueuePosition,
}

impl Drop for HashQueueEntry {
    fn drop(&mut self) {
        let job = self.queue.lock().waiting.remove(&self.position);
        drop(job); // it holds a password: wiped here, after the lock is released
    }
}

/// Permit to use a thread. When it is dropped, the thread is free and the duration of the job is measured.
pub(in crate::auth) struct HashPermit<'a> {
    queue: &'a HashQueue,
    thread: usize,
}

impl HashPermit<'_> {
    /// Adds `work` bytes to the running job and returns true, if no job is queued.
    pub(in crate::auth) fn extend(&self, work: u64) -> bool {
        let mut state = self.queue.lock();
        let is_idle = state.waiting.is_empty();
        if let Some(running) = state.running[self.thread].as_mut().filter(|_| is_idle) {
            running.work += work;
        }
        is_idle
    }
}

impl Drop for HashPermit<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        if let Some(running) = state.running[self.thread].take() {
            state.rate = state.rate.after(running.since.elapsed(), running.work);
        }
    }
}
