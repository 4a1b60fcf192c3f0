//! The cache of callers: users and live tokens that were read lately.
//!
//! Every request asks whether a token is on the blacklist and who its user is. Among millions of users each answer visits several pages of
//! a tree, each behind a lock and most of them out of the processor's cache; here it is one lookup in a hash table. Guarantees: an answer
//! is never older than the last acknowledged commit, because a commit removes what it changed before a reader sees it and before it is
//! acknowledged (I1), and because a reader of an earlier snapshot cannot put it back. The size is bounded; what was not used for long
//! goes first. Deliberately absent: users that do not exist
//! and tokens on the blacklist. Only tokens with a good signature are looked up, so that strangers cannot fill it.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hash},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    model::{BlacklistedToken, PublicId, User},
    store::redb::transaction::Changes,
};

/// The size of a user with an email of usual length and of a token, in bytes, with what the allocator and the hash tables add.
const ENTRY_BYTES: usize = 340;
/// The number of parts with a lock of their own, so that requests seldom wait for each other.
const SHARDS: usize = 64;

/// The cache.
pub(in crate::store) struct CallerCache {
    users: Shards<PublicId, Arc<User>>,
    /// Tokens that are not on the blacklist.
    tokens: Shards<BlacklistedToken, ()>,
}

impl CallerCache {
    /// Creates an empty cache of at most `bytes` bytes, or a little more if that is very few.
    pub(in crate::store) fn new(bytes: usize) -> Self {
        let entries = bytes / ENTRY_BYTES;
        Self { users: Shards::new(entries), tokens: Shards::new(entries) }
    }

    /// Returns the user, or `None` if this is not known here.
    pub(in crate::store) fn user(&self, user: PublicId) -> Option<Arc<User>> {
        self.users.get(&user)
    }

    /// Whether the token is known not to be on the blacklist.
    pub(in crate::store) fn is_live(&self, token: BlacklistedToken) -> bool {
        self.tokens.get(&token).is_some()
    }

    /// Keeps a user that was read from the snapshot after the `commit`th commit, and returns it.
    pub(in crate::store) fn keep_user(&self, user: User, commit: u64) -> Arc<User> {
        let user = Arc::new(user);
        self.users.keep(user.public_id, Arc::clone(&user), commit);
        user
    }

    /// Keeps that a token was not on the blacklist after the `commit`th commit.
    pub(in crate::store) fn keep_live(&self, token: BlacklistedToken, commit: u64) {
        self.tokens.keep(token, (), commit);
    }

    /// Removes what the `commit`th commit changed. The snapshot after it becomes visible afterwards.
    pub(in crate::store) fn remove_changed(&self, changes: &Changes, commit: u64) {
        changes.users.iter().for_each(|user| self.users.remove(user, commit));
        changes.tokens.iter().for_each(|token| self.tokens.remove(token, commit));
    }

    /// Removes everything, because it is not known what the `commit`th commit changed.
    pub(in crate::store) fn clear(&self, commit: u64) {
        self.users.clear(commit);
        self.tokens.clear(commit);
    }
}

/// A bounded hash table in parts with a lock each. It holds at least the entries that were used last, as many as a generation has room for.
struct Shards<K, V> {
    hasher: RandomState,
    parts: Vec<Mutex<Shard<K, V>>>,
    /// The maximum number of entries of a generation of a shard.
    generation_entries_max: usize,
}

/// Entries lie in the tables themselves, next to each other, because one page of memory for each costs more than the rest of a lookup.
struct Shard<K, V> {
    /// What was used since the generations changed.
    young: HashMap<K, V>,
    /// What was used last in the generation before. It is dropped when `young` is full.
    old: HashMap<K, V>,
    /// The last commit that removed an entry. What was read from a snapshot before it may be outdated.
    changed_at: u64,
}

impl<K: Hash + Eq + Copy, V: Clone> Shards<K, V> {
    fn new(entries: usize) -> Self {
        let shard = |_| Mutex::new(Shard { young: HashMap::new(), old: HashMap::new(), changed_at: 0 });
        Self {
            hasher: RandomState::new(),
            parts: (0..SHARDS).map(shard).collect(),
            generation_entries_max: (entries / SHARDS / 2).max(1),
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        let part = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).expect("BUG: there are few shards");
        self.parts[part].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &K) -> Option<V> {
        let mut shard = self.shard(key);
        if let Some(value) = shard.young.get(key) {
            return Some(value.clone());
        }
        let value = shard.old.remove(key)?;
        shard.insert(*key, value.clone(), self.generation_entries_max);
        Some(value)
    }

    fn keep(&self, key: K, value: V, commit: u64) {
        let mut shard = self.shard(&key);
        if shard.changed_at <= commit {
            shard.insert(key, value, self.generation_entries_max);
        }
    }

    fn remove(&self, key: &K, commit: u64) {
        let mut shard = self.shard(key);
        shard.changed_at = commit;
        shard.young.remove(key);
        shard.old.remove(key);
    }

    fn clear(&self, commit: u64) {
        for shard in &self.parts {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            *shard = Shard { young: HashMap::new(), old: HashMap::new(), changed_at: commit };
        }
    }
}

impl<K: Hash + Eq, V> Shard<K, V> {
    fn insert(&mut self, key: K, value: V, generation_entries_max: usize) {
        if self.young.len() >= generation_entries_max {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}
