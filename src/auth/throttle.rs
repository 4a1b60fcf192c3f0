//! Rate limits on guessing: one per address, and one per pair of account and address with a wait that doubles after each failure.
//!
//! Guarantees: failures are never counted for an account alone, so nobody can lock its owner out. Concurrent guesses are decided as if they
//! came one after the other. The memory has a fixed size that is allocated at the start. Time is monotonic, so a changed clock has no
//! effect. All of this also holds for an account that does not exist (I7). Deliberately absent: counts that outlive the process.
//!
//! The counters are a set-associative table. A slot stores the whole hash of its owner, so two owners never share a counter that a stranger
//! could fill. If a set has no free slot, the slot that expires first is replaced. The hash has a random key, so nobody can choose a set.
//! An attacker who wants to evict their own counter needs about as many guesses as there are slots, and each of these is counted too.
//!
//! Why not `governor`: its memory grows with whoever calls (a million addresses took 36 MB, and freeing them walks over all of them), it
//! cannot count what failed only, nor double a wait.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    auth::{error::AuthError, network::Network},
    metrics::METRICS,
    model::Email,
};

/// The wait after the first failure beyond the free ones. Each further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// How long failures are remembered after the last of them.
const REMEMBERED: Duration = Duration::from_hours(24);
/// How long a guess may wait for the outcome of earlier concurrent guesses.
const GUESS_WAIT_MAX: Duration = Duration::from_secs(4);
/// The number of slots that share one hash value (the associativity).
const SLOTS_PER_SET: usize = 8;
const ADDRESS_SLOTS: usize = 8 * 1024;
const ACCOUNT_SLOTS: usize = 16 * 1024;

/// A limit. Of calls: `count` at once and `count` per `period`. Of failures: `count` without a wait, then waits of at most `period`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// No limit.
    Off,
    /// `count` is at least 1.
    Of {
        /// The number of calls or failures.
        count: u32,
        /// The time in which they are counted, or the longest wait.
        period: Duration,
    },
}

/// All limits on guessing.
#[derive(Debug, Clone, Copy)]
pub struct GuessingLimits {
    /// Per address: logins, other calls that verify a password, and wrong secrets of services.
    pub logins: Limit,
    /// Per address: registrations.
    pub registrations: Limit,
    /// Per account and address: wrong passwords.
    pub failures: Limit,
}

/// The counters of all limits.
pub struct Throttle {
    logins: Option<AddressLimit>,
    registrations: Option<AddressLimit>,
    failures: Option<FailureLimit>,
}

impl Throttle {
    /// Allocates all counters.
    #[must_use]
    pub fn new(limits: GuessingLimits) -> Self {
        Self {
            logins: AddressLimit::new(limits.logins),
            registrations: AddressLimit::new(limits.registrations),
            failures: FailureLimit::new(limits.failures),
        }
    }

    /// Counts a registration. `from` is `None` for the operator, who is not counted.
    ///
    /// # Errors
    /// [`AuthError::Throttled`].
    pub fn register(&self, from: Option<IpAddr>) -> Result<(), AuthError> {
        count(self.registrations.as_ref(), from)
    }

    /// Counts a wrong secret of a service, together with the logins from the address. Does not count what it refuses.
    ///
    /// # Errors
    /// [`AuthError::Throttled`].
    pub fn count_wrong_secret(&self, from: Option<IpAddr>) -> Result<(), AuthError> {
        count(self.logins.as_ref(), from)
    }

    /// Counts a guess at the password of `account`, before anything is hashed. The caller reports the outcome on the returned [`Guess`].
    ///
    /// If the guesses in flight could use up the free failures, this waits for their outcome.
    ///
    /// # Errors
    /// [`AuthError::Throttled`]; [`AuthError::Busy`] if the earlier guesses take too long.
    pub async fn guess(&self, account: &Email, from: Option<IpAddr>) -> Result<Guess<'_>, AuthError> {
        count(self.logins.as_ref(), from)?;
        let (Some(failures), Some(from)) = (&self.failures, from) else { return Ok(Guess { of: None }) };
        let owner = failures.table.owner((Network::of(from), account.key()));
        let turn = async {
            loop {
                let settled = failures.settled.notified(); // before looking, so that nothing is missed in between
                match failures.begin(owner) {
                    Decision::Allow => return Ok(Guess { of: Some((failures, owner)) }),
                    Decision::Wait => settled.await,
                    Decision::Refuse(wait) => {
                        METRICS.throttled_account.inc();
                        return Err(AuthError::Throttled(wait));
                    }
                }
            }
        };
        tokio::time::timeout(GUESS_WAIT_MAX, turn).await.unwrap_or(Err(AuthError::Busy(GUESS_WAIT_MAX)))
    }
}

fn count(addresses: Option<&AddressLimit>, from: Option<IpAddr>) -> Result<(), AuthError> {
    let (Some(addresses), Some(from)) = (addresses, from) else { return Ok(()) };
    addresses.count(from).map_err(|wait| {
        METRICS.throttled_address.inc();
        AuthError::Throttled(wait)
    })
}

/// A guess in flight. A guess that is dropped without an outcome counts as neither right nor wrong.
pub struct Guess<'a> {
    of: Option<(&'a FailureLimit, u64)>,
}

impl Guess<'_> {
    /// The password was right: earlier failures are forgotten.
    pub fn was_right(self) {
        self.settle(|slot, _| (slot.failures, slot.free_at, slot.forgotten_at) = (0, 0, 0));
    }

    /// The password was wrong.
    pub fn was_wrong(self) {
        self.settle(|slot, failures| {
            let now = failures.table.now();
            slot.failures = slot.failures.saturating_add(1);
            slot.free_at = now + failures.wait_after(slot.failures);
            slot.forgotten_at = now + micros(REMEMBERED);
        });
    }

    fn settle(mut self, change: impl FnOnce(&mut Slot, &FailureLimit)) {
        if let Some((failures, owner)) = self.of.take() {
            failures.settle(owner, |slot| change(slot, failures));
        }
    }
}

impl Drop for Guess<'_> {
    fn drop(&mut self) {
        if let Some((failures, owner)) = self.of {
            failures.settle(owner, |_| {});
        }
    }
}

/// The call limit per address (GCRA, the generic cell rate algorithm: one number per address, its theoretical arrival time).
struct AddressLimit {
    table: Table,
    every: u64,
    period: u64,
}

impl AddressLimit {
    fn new(limit: Limit) -> Option<Self> {
        let Limit::Of { count, period } = limit else { return None };
        let period = micros(period);
        Some(Self { table: Table::new(ADDRESS_SLOTS), every: (period / u64::from(count)).max(1), period })
    }

    /// Counts a call, or returns how long to wait. A refused call is not counted.
    fn count(&self, from: IpAddr) -> Result<(), Duration> {
        let owner = self.table.owner(Network::of(from));
        let now = self.table.now();
        let mut slots = self.table.lock();
        let Some(slot) = claim(&mut slots, owner, now) else { return Ok(()) };
        let unused_at = slot.forgotten_at.max(now) + self.every;
        if unused_at > now + self.period {
            return Err(Duration::from_micros(unused_at - now - self.period));
        }
        slot.forgotten_at = unused_at;
        Ok(())
    }
}

/// The failures of each account from each address.
struct FailureLimit {
    table: Table,
    free: u32,
    wait_max: u64,
    settled: Notify,
}

enum Decision {
    Allow,
    Wait,
    Refuse(Duration),
}

impl FailureLimit {
    fn new(limit: Limit) -> Option<Self> {
        let Limit::Of { count, period } = limit else { return None };
        Some(Self { table: Table::new(ACCOUNT_SLOTS), free: count, wait_max: micros(period), settled: Notify::new() })
    }

    fn begin(&self, owner: u64) -> Decision {
        let now = self.table.now();
        let mut slots = self.table.lock();
        // Every slot of the set has a guess in flight. A guess that cannot be counted is refused.
        let Some(slot) = claim(&mut slots, owner, now) else { return Decision::Refuse(FIRST_WAIT) };
        let without_wait = slot.failures.saturating_add(slot.in_flight) < self.free;
        if without_wait || slot.in_flight == 0 && slot.free_at <= now {
            slot.in_flight += 1;
            Decision::Allow
        } else if slot.in_flight > 0 {
            Decision::Wait
        } else {
            Decision::Refuse(Duration::from_micros(slot.free_at - now))
        }
    }

    fn settle(&self, owner: u64, change: impl FnOnce(&mut Slot)) {
        let now = self.table.now();
        if let Some(slot) = claim(&mut self.table.lock(), owner, now) {
            change(slot);
            slot.in_flight = slot.in_flight.saturating_sub(1);
        }
        self.settled.notify_waiters();
    }

    fn wait_after(&self, failures: u32) -> u64 {
        let doublings = failures.checked_sub(self.free);
        doublings.map_or(0, |doublings| (micros(FIRST_WAIT) << doublings.min(32)).min(self.wait_max))
    }
}

/// The counter of one owner. Times are in microseconds since the table was made.
#[derive(Clone, Copy, Default)]
struct Slot {
    owner: u64,
    forgotten_at: u64,
    free_at: u64,
    failures: u32,
    in_flight: u32,
}

/// A set-associative table with a fixed number of slots.
struct Table {
    slots: Mutex<Box<[Slot]>>,
    key: RandomState,
    made: Instant,
}

impl Table {
    fn new(places: usize) -> Self {
        let slots = vec![Slot::default(); places].into_boxed_slice();
        Self { slots: Mutex::new(slots), key: RandomState::new(), made: Instant::now() }
    }

    fn owner(&self, name: impl std::hash::Hash) -> u64 {
        self.key.hash_one(name)
    }

    fn now(&self) -> u64 {
        micros(self.made.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Box<[Slot]>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the slot of `owner`. If there is none, replaces the slot that expires first. Returns `None` if every slot of the set has a guess
/// in flight.
fn claim(slots: &mut [Slot], owner: u64, now: u64) -> Option<&mut Slot> {
    let (sets, _) = slots.as_chunks_mut::<SLOTS_PER_SET>();
    let count = sets.len() as u64;
    let set = &mut sets[usize::try_from(owner % count).expect("BUG: less than the length of a slice")];
    let lives = |slot: &Slot| slot.owner == owner && (slot.in_flight > 0 || slot.forgotten_at > now);
    if let Some(place) = set.iter().position(lives) {
        return Some(&mut set[place]);
    }
    let taken = set.iter_mut().filter(|slot| slot.in_flight == 0).min_by_key(|slot| slot.forgotten_at)?;
    *taken = Slot { owner, ..Slot::default() };
    Some(taken)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
