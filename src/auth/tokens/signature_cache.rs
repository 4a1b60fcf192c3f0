//! The cache of good signatures: which token texts were found to be signed well.
//!
//! Checking a signature of ES256 takes as long as the rest of a request, and the server has seen most tokens before. Guarantees: only the
//! outcome of the signature check is kept, for the exact text, and only a good one, so that strangers can neither fill the cache nor push a
//! good token out of it. A text is known by a SHA-256 with a random prefix, so that nobody can choose two texts with the same hash. The size is
//! bounded; what was not used for long goes first. Deliberately absent: expiry, blacklist and user, which are read at each request.

use std::{
    collections::HashSet,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};

use crate::random;

/// The number of parts with a lock of their own, so that requests seldom wait for each other.
const SHARDS: usize = 64;
/// The maximum number of texts in a generation of a shard. Both generations of all shards take about 5 MB.
const GENERATION_ENTRIES_MAX: usize = 1024;

/// A hash of a token text.
type TextHash = [u8; 16];

/// The cache.
pub(super) struct SignatureCache {
    prefix: [u8; 32],
    shards: Vec<Mutex<Shard>>,
}

#[derive(Default)]
struct Shard {
    /// What was used since the generations changed.
    young: HashSet<TextHash>,
    /// What was used last in the generation before. It is dropped when `young` is full.
    old: HashSet<TextHash>,
}

impl SignatureCache {
    pub(super) fn new() -> Self {
        Self { prefix: random::bytes(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Returns whether `token` has a good signature: as is known, or else as `verify` finds.
    pub(super) fn verify_cached(&self, token: &str, verify: impl FnOnce() -> bool) -> bool {
        let hash = self.hash(token);
        if self.shard(&hash).contains(&hash) {
            return true;
        }
        let good = verify();
        if good {
            self.shard(&hash).insert(hash);
        }
        good
    }

    fn hash(&self, token: &str) -> TextHash {
        let mut context = Context::new(&SHA256);
        context.update(&self.prefix);
        context.update(token.as_bytes());
        *context.finish().as_ref().first_chunk().expect("BUG: a SHA-256 has 32 bytes")
    }

    fn shard(&self, hash: &TextHash) -> MutexGuard<'_, Shard> {
        self.shards[usize::from(hash[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn contains(&mut self, hash: &TextHash) -> bool {
        if self.young.contains(hash) {
            return true;
        }
        let found = self.old.remove(hash);
        if found {
            self.insert(*hash);
        }
        found
    }

    fn insert(&mut self, hash: TextHash) {
        if self.young.len() >= GENERATION_ENTRIES_MAX {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(hash);
    }
}
