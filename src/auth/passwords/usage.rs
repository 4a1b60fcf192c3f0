//! How much work each network used lately: a sum that decays exponentially.
//!
//! Guarantees: the memory has a fixed size that is allocated at the start. A network that is not in the table has used nothing. If a set
//! has no free slot, the network that used least is forgotten, so that a client with many addresses makes only others of its kind look
//! newer than they are. The hash has a random key, so nobody can choose a set.

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use crate::auth::network::Network;

/// The time in which usage falls to half.
const HALF_LIFE: Duration = Duration::from_mins(1);
/// The number of slots that share one hash value (the associativity).
const SLOTS_PER_SET: usize = 8;
/// At some 8 hashes a second, 8 half-lives fill half of the table. What is forgotten then is less than a hundredth of a hash.
const SLOTS: usize = 8 * 1024;

/// Work that decays: the binary logarithm of the work in bytes, plus the time in half-lives at which this work would have been done.
///
/// All usage decays at the same rate, so two values compare without a look at the clock, and a value changes only when work is added.
#[derive(Debug, Clone, Copy)]
pub(in crate::auth) struct Usage(f64);

impl Usage {
    pub(in crate::auth) const NONE: Self = Self(f64::NEG_INFINITY);

    pub(in crate::auth) fn compare(self, other: Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }

    /// Returns the usage with `work` bytes more, done at `now`.
    fn plus(self, work: u64, now: f64) -> Self {
        let added = log2(work) + now;
        let (more, less) = (self.0.max(added), self.0.min(added));
        Self(more + (less - more).exp2().ln_1p() / std::f64::consts::LN_2)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a measure, not a count")]
fn log2(work: u64) -> f64 {
    (work.max(1) as f64).log2()
}

#[derive(Clone, Copy)]
struct Slot {
    owner: u64,
    usage: Usage,
}

/// The usage of networks: of clients and of blocks.
pub(in crate::auth) struct UsageTable {
    slots: Box<[Slot]>,
    key: RandomState,
    /// When the table was made.
    epoch: Instant,
}

impl UsageTable {
    pub(in crate::auth) fn new(now: Instant) -> Self {
        let slots = vec![Slot { owner: 0, usage: Usage::NONE }; SLOTS].into_boxed_slice();
        Self { slots, key: RandomState::new(), epoch: now }
    }

    /// Returns what `network` used. Networks of different `level` are counted separately.
    pub(in crate::auth) fn get(&self, level: u8, network: Network) -> Usage {
        let owner = self.owner(level, network);
        let (sets, _) = self.slots.as_chunks::<SLOTS_PER_SET>();
        let slot = sets[set_of(owner, sets.len())].iter().find(|slot| slot.owner == owner);
        slot.map_or(Usage::NONE, |slot| slot.usage)
    }

    /// Adds `work` bytes to what `network` used, and returns the sum.
    pub(in crate::auth) fn charge(&mut self, level: u8, network: Network, work: u64, now: Instant) -> Usage {
        let (owner, now) = (self.owner(level, network), self.half_lives(now));
        let (sets, _) = self.slots.as_chunks_mut::<SLOTS_PER_SET>();
        let set = &mut sets[set_of(owner, sets.len())];
        let found = set.iter().position(|slot| slot.owner == owner);
        let least = || (0..SLOTS_PER_SET).min_by(|a, b| set[*a].usage.compare(set[*b].usage)).unwrap_or(0);
        let slot = found.unwrap_or_else(least);
        let before = if found.is_some() { set[slot].usage } else { Usage::NONE };
        set[slot] = Slot { owner, usage: before.plus(work, now) };
        set[slot].usage
    }

    /// Returns what is left of `usage` at `now`, in bytes.
    pub(in crate::auth) fn bytes(&self, usage: Usage, now: Instant) -> f64 {
        (usage.0 - self.half_lives(now)).exp2()
    }

    fn half_lives(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.epoch).as_secs_f64() / HALF_LIFE.as_secs_f64()
    }

    fn owner(&self, level: u8, network: Network) -> u64 {
        self.key.hash_one((level, network))
    }
}

fn set_of(owner: u64, sets: usize) -> usize {
    usize::try_from(owner % sets as u64).expect("BUG: less than the length of a slice")
}
