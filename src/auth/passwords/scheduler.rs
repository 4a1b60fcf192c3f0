//! Admission: which jobs are queued, refused, evicted or dropped, and the rate of the hashing threads.
//!
//! Guarantees: a job that could not finish within a few seconds is refused at once; only the jobs that would run before it count (see
//! `fair_queue`). A job that has waited too long is dropped before it starts, so that every admitted job that runs finishes in time.
//! Deliberately absent: threads, locks and a clock. The time is an argument, so that a test can simulate hours.
//!
//! Durations are estimated from the work of each job and the recent rate in wall-clock time, because under load the hashing threads get
//! only a share of the processor.

use std::time::{Duration, Instant};

use crate::auth::{
    network::Client,
    passwords::fair_queue::{Demand, FairQueue, Next, Pushed, Ticket},
};

/// A job that is expected to finish later than this is refused at once, unless a thread is free. It is much shorter than
/// [`DROPPED_IF_DONE_AFTER`], because the queue may fill while the machine is idle and be worked off while requests take most of the
/// processor: an admitted job should finish, not be dropped after seconds.
const ADMITTED_IF_DONE_WITHIN: Duration = Duration::from_millis(1500);
/// The same for a job that runs next. Nothing but the running jobs delays it, so it may take longer: where other programs use the
/// processors, a hash takes a second or more, and whoever used least must get in nevertheless.
const NEXT_ADMITTED_IF_DONE_WITHIN: Duration = Duration::from_secs(3);
/// An admitted job that is now expected to finish later than this after its arrival is dropped.
const DROPPED_IF_DONE_AFTER: Duration = Duration::from_secs(4);
/// A job that has waited less than this is never dropped, so that a hash that takes seconds by itself is possible.
const WAIT_GRACE: Duration = Duration::from_secs(1);
/// The rate that is assumed until the first hash is measured, in seconds per byte of work.
const SECONDS_PER_BYTE: f64 = 2e-9;

/// A running job.
struct Running {
    client: Client,
    work: u64,
    since: Instant,
}

/// The queued and running jobs. `T` is what runs.
pub struct Scheduler<T> {
    waiting: FairQueue<T>,
    /// The running job of each thread.
    running: Vec<Option<Running>>,
    rate: HashRate,
    /// Jobs that were evicted or dropped, until [`Scheduler::take_discarded`].
    discarded: Vec<T>,
}

impl<T> Scheduler<T> {
    /// Creates a scheduler for `threads` threads. `usual` is the work of most jobs, in bytes.
    #[must_use]
    pub fn new(threads: usize, usual: u64, now: Instant) -> Self {
        let rate = HashRate { seconds_per_byte: SECONDS_PER_BYTE, usual };
        let running = (0..threads).map(|_| None).collect();
        Self { waiting: FairQueue::new(now), running, rate, discarded: Vec::new() }
    }

    /// Queues a job.
    ///
    /// # Errors
    /// The estimated wait, if the job could not finish in time or the queue is full.
    pub fn join(&mut self, demand: Demand, content: T, now: Instant) -> Result<Ticket, Duration> {
        self.drop_late_jobs(now);
        let wait = self.wait(demand, now);
        let is_next = self.rounds_before(demand, now) <= 1.0;
        let finish_max = if is_next { NEXT_ADMITTED_IF_DONE_WITHIN } else { ADMITTED_IF_DONE_WITHIN };
        if !self.has_free_thread() && wait + self.current_rate(now).expected(demand.work) > finish_max {
            self.discarded.push(content);
            return Err(wait);
        }
        match self.waiting.push(demand, content, now) {
            Ok(Pushed { ticket, evicted }) => {
                self.discarded.extend(evicted);
                Ok(ticket)
            }
            Err(content) => {
                self.discarded.push(content);
                Err(wait)
            }
        }
    }

    /// Removes a job that has not started. It is discarded.
    pub fn leave(&mut self, ticket: Ticket) {
        self.discarded.extend(self.waiting.remove(ticket));
    }

    /// Removes the job that runs next, for the free thread number `thread`, or returns `None` if none is queued.
    pub fn take(&mut self, thread: usize, now: Instant) -> Option<T> {
        self.drop_late_jobs(now);
        let Next { client, work, content } = self.waiting.pop(now)?;
        self.running[thread] = Some(Running { client, work, since: now });
        Some(content)
    }

    /// Adds `work` bytes to the job that `thread` runs and returns true, if no job is queued.
    pub fn extend(&mut self, thread: usize, work: u64, now: Instant) -> bool {
        let is_idle = self.waiting.len() == 0;
        if let Some(running) = self.running[thread].as_mut().filter(|_| is_idle) {
            running.work += work;
            self.waiting.charge(running.client, work, now);
        }
        is_idle
    }

    /// Frees a thread and measures the duration of its job.
    pub fn finish(&mut self, thread: usize, now: Instant) {
        if let Some(running) = self.running[thread].take() {
            self.rate = self.rate.after(now - running.since, running.work);
        }
    }

    /// Removes all queued jobs. They are discarded.
    pub fn clear(&mut self) {
        self.discarded.extend(self.waiting.remove_late(|_, _| true));
    }

    /// Returns the jobs that left the queue without being run since the last call. The caller drops them, after it has released its lock.
    #[must_use]
    pub fn take_discarded(&mut self) -> Vec<T> {
        std::mem::take(&mut self.discarded)
    }

    /// The estimated time until a new job would start.
    #[must_use]
    pub fn wait(&self, demand: Demand, now: Instant) -> Duration {
        if self.has_free_thread() {
            return Duration::ZERO;
        }
        let rate = self.current_rate(now);
        let rest = |running: &Running| rate.expected(running.work).saturating_sub(now - running.since);
        let running: Duration = self.running.iter().flatten().map(rest).sum();
        let before = rate.expected_bytes(self.waiting.work_before(demand, now));
        (running + before) / u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// Estimates how many jobs of this size each thread would run before a new job, without the running ones.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn rounds_before(&self, demand: Demand, now: Instant) -> f64 {
        self.waiting.work_before(demand, now) / (demand.work.max(1) as f64 * self.running.len() as f64)
    }

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

    /// Drops jobs that can no longer finish in time, because the rate fell or others went first.
    fn drop_late_jobs(&mut self, now: Instant) {
        let rate = self.current_rate(now);
        let late = self.waiting.remove_late(|since, work| {
            let waited = now - since;
            waited >= WAIT_GRACE && waited + rate.expected(work) > DROPPED_IF_DONE_AFTER
        });
        self.discarded.extend(late);
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
        self.expected_bytes(work as f64)
    }

    fn expected_bytes(self, work: f64) -> Duration {
        // The bound is far beyond what is ever admitted, and keeps sums of durations from overflowing.
        Duration::from_secs_f64((work * self.seconds_per_byte).min(3600.0))
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
