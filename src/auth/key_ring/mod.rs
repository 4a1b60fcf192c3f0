//! The key ring: which keys sign and verify tokens, and how one takes the place of another.
//!
//! A rotation publishes the next key for twice the time that a verifier may cache the public keys, then signs with it, and keeps the key
//! before until the last token that it signed has expired. Guarantees: a rotation ends no session, and a verifier with cached keys refuses no
//! token. Of two changes at once the second sees the first. A change is durable before a token is signed or refused by it (I1). Private parts
//! are stored encrypted. Deliberately absent: HS256 keys in an automatic rotation, because the operator has given them to others by hand.

mod lifecycle;

use std::sync::Arc;

use tokio::{sync::Mutex, task::spawn_blocking};
use zeroize::Zeroizing;

use crate::{
    auth::tokens::{
        Ring, RingKey, TokenSettings, Tokens,
        key::{Key, KeyError},
        seal::SealingKey,
    },
    clock::Clock,
    model::{KeyState, SigningAlgorithm, StoredKey},
    store::{Store, StoreError},
};
pub use lifecycle::{JWKS_CACHED_S, KeyRingSettings};
use lifecycle::{PREPUBLICATION_S, apply_due_transitions, log, log_changes, retire_current};

/// The maximum number of keys. Each token is compared with the headers of all of them.
const KEYS_MAX: usize = 64;

/// Why an operation on the key ring was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// No key has this id.
    #[error("There is no such key.")]
    NotFound,
    /// A rotation waits for its key to be known to verifiers.
    #[error("A rotation is under way already; retire its key, or rotate with `now`.")]
    RotationUnderWay,
    /// The key signs now.
    #[error("This key signs the tokens; rotate to another one first.")]
    IsCurrent,
    /// The key is in the ring already.
    #[error("This key is in the key ring already.")]
    Exists,
    /// The ring has as many keys as it may have.
    #[error("The key ring is full; remove retired keys first.")]
    Full,
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The secret does not open the key ring.
    #[error(
        "the secret does not open the key ring; give the secret that was used before, or begin a new key ring with `latchkey key reset`, \
         which ends all sessions"
    )]
    WrongSecret,
    /// A stored key is damaged. Has its id.
    #[error(
        "the key {0} in the key ring is damaged; restore a backup, or begin a new key ring with `latchkey key reset`, which ends all sessions"
    )]
    Damaged(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The secret, and the key derived from it.
struct Secret {
    secret: Zeroizing<Vec<u8>>,
    sealing: SealingKey,
}

impl Secret {
    fn new(secret: Zeroizing<Vec<u8>>) -> Self {
        Self { sealing: SealingKey::new(&secret), secret }
    }
}

/// The operations on the key ring, over the store.
pub struct KeyRing {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    tokens: Arc<Tokens>,
    settings: KeyRingSettings,
    /// It is locked during a change, so that memory gets changes in the order of the disk.
    secret: Mutex<Secret>,
}

impl KeyRing {
    /// Opens the key ring with `secret`, or begins one if there is none.
    ///
    /// # Errors
    /// [`KeyRingError::WrongSecret`], [`KeyRingError::Damaged`], [`KeyRingError::Store`].
    pub async fn open(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        secret: Zeroizing<Vec<u8>>,
        settings: KeyRingSettings,
        token_settings: TokenSettings,
    ) -> Result<Self, KeyRingError> {
        let secret = Secret::new(secret);
        let keys = load_or_begin(&store, &*clock, &secret, &settings, token_settings.lifetime_s).await?;
        let tokens = Arc::new(Tokens::new(token_settings, ring(&keys, &secret.sealing)?));
        Ok(Self { store, clock, tokens, settings, secret: Mutex::new(secret) })
    }

    /// Returns a key ring of one new key that is not stored, for work that neither makes nor reads tokens. Of the stored keys it has the
    /// longest lifetime of their tokens alone.
    ///
    /// # Errors
    /// [`KeyRingError::Store`].
    pub fn detached(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        settings: KeyRingSettings,
        says: TokenSettings,
    ) -> Result<Self, KeyRingError> {
        let (key, secret) = Key::generate(SigningAlgorithm::Hs256);
        let lifetime_s =
            store.signing_keys()?.iter().map(|key| key.token_lifetime_max_s).fold(says.lifetime_s, u64::max);
        let tokens = Arc::new(Tokens::new(says, Ring::of_key(key, lifetime_s)));
        Ok(Self { store, clock, tokens, settings, secret: Mutex::new(Secret::new(secret)) })
    }

    /// Returns what signs and verifies with the keys of this ring.
    #[must_use]
    pub fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens)
    }

    /// Returns all keys, in the order in which they were made.
    ///
    /// # Errors
    /// [`KeyRingError::Store`].
    pub fn keys(&self) -> Result<Vec<StoredKey>, KeyRingError> {
        let mut keys = self.store.signing_keys()?;
        // Keys of the same second have the order of their states: retired, current, next.
        let place = |state| match state {
            KeyState::Retired { .. } => 0,
            KeyState::Current { .. } => 1,
            KeyState::Next { .. } => 2,
        };
        keys.sort_by_cached_key(|key| (key.created_at_s, place(key.state), key.kid.clone()));
        Ok(keys)
    }

    /// Makes a key that signs as soon as every verifier knows it, or at once if `now`. Without an `algorithm` it has that of the settings.
    ///
    /// # Errors
    /// [`KeyRingError::RotationUnderWay`] unless `now`; [`KeyRingError::Full`]; [`KeyRingError::Store`].
    pub async fn rotate(&self, algorithm: Option<SigningAlgorithm>, now: bool) -> Result<StoredKey, KeyRingError> {
        let algorithm = algorithm.unwrap_or(self.settings.algorithm);
        let (key, private) = spawn_blocking(move || Key::generate(algorithm)).await.expect("BUG: it does not panic");
        self.insert(&key, &private, now).await
    }

    /// Adds a private key from PEM, which signs as soon as every verifier knows it.
    ///
    /// # Errors
    /// [`KeyRingError::Key`]; [`KeyRingError::Exists`]; as [`KeyRing::rotate`].
    pub async fn add(&self, pem: &[u8]) -> Result<StoredKey, KeyRingError> {
        let (key, private) = Key::from_pem(pem)?;
        self.insert(&key, &private, false).await
    }

    async fn insert(&self, key: &Key, private: &[u8], now: bool) -> Result<StoredKey, KeyRingError> {
        let secret = self.secret.lock().await;
        let (algorithm, now_s) = (key.algorithm(), self.clock.unix_s());
        let state = if now {
            KeyState::Current { since_s: now_s }
        } else {
            KeyState::Next { signs_from_s: now_s + PREPUBLICATION_S }
        };
        let stored = StoredKey {
            kid: key.kid.clone(),
            algorithm,
            state,
            created_at_s: now_s,
            token_lifetime_max_s: self.tokens.settings().lifetime_s,
            sealed: secret.sealing.seal(&key.kid, algorithm, private),
        };
        let (inserted, latest_issue_s) = (stored.clone(), self.latest_issue_s());
        self.change(&secret, move |keys| {
            if keys.iter().any(|key| key.kid == inserted.kid) {
                return Err(KeyRingError::Exists);
            }
            if keys.len() >= KEYS_MAX {
                return Err(KeyRingError::Full);
            }
            if now {
                keys.retain(|key| !matches!(key.state, KeyState::Next { .. })); // it may have leaked too, and signed nothing
                retire_current(keys, now_s, latest_issue_s);
            } else if keys.iter().any(|key| matches!(key.state, KeyState::Next { .. })) {
                return Err(KeyRingError::RotationUnderWay);
            }
            keys.push(inserted.clone());
            Ok(())
        })
        .await?;
        Ok(stored)
    }

    /// Takes back a key that does not sign yet. Does nothing to a retired one. Returns the key as it was.
    ///
    /// # Errors
    /// [`KeyRingError::NotFound`], [`KeyRingError::IsCurrent`], [`KeyRingError::Store`].
    pub async fn cancel_next(&self, kid: &str) -> Result<StoredKey, KeyRingError> {
        self.remove_if(kid, |state| matches!(state, KeyState::Next { .. })).await
    }

    /// Removes a key that does not sign. Every token that it signed is invalid at the next request. Returns the key as it was.
    ///
    /// # Errors
    /// [`KeyRingError::NotFound`], [`KeyRingError::IsCurrent`], [`KeyRingError::Store`].
    pub async fn remove(&self, kid: &str) -> Result<StoredKey, KeyRingError> {
        self.remove_if(kid, |_| true).await
    }

    /// Removes the key if `is_removed` says so of its state.
    async fn remove_if(&self, kid: &str, is_removed: fn(KeyState) -> bool) -> Result<StoredKey, KeyRingError> {
        let (secret, kid) = (self.secret.lock().await, kid.to_owned());
        self.change(&secret, move |keys| {
            let place = keys.iter().position(|key| key.kid == kid).ok_or(KeyRingError::NotFound)?;
            match keys[place].state {
                KeyState::Current { .. } => Err(KeyRingError::IsCurrent),
                state if is_removed(state) => Ok(keys.remove(place)),
                _ => Ok(keys[place].clone()),
            }
        })
        .await
    }

    /// Encrypts all private parts with a new secret. The next start needs it.
    ///
    /// # Errors
    /// [`KeyRingError::Damaged`], [`KeyRingError::Store`].
    pub async fn reseal(&self, new_secret: Zeroizing<Vec<u8>>) -> Result<(), KeyRingError> {
        let mut secret = self.secret.lock().await;
        let new = Secret::new(new_secret);
        let mut resealed = Vec::new();
        for mut key in self.store.signing_keys()? {
            let private = secret.sealing.open(&key).ok_or_else(|| KeyRingError::Damaged(key.kid.clone()))?;
            key.sealed = new.sealing.seal(&key.kid, key.algorithm, &private);
            resealed.push(key);
        }
        // No other change can come between, because this one holds the lock.
        self.store.update_signing_keys(move |keys| keys.clone_from(&resealed)).await?;
        *secret = new;
        Ok(())
    }

    /// Begins a new key ring and a new data generation, which invalidates all tokens. The first key has the algorithm of the current one.
    ///
    /// # Errors
    /// [`KeyRingError::Store`].
    pub async fn reset(&self) -> Result<(), KeyRingError> {
        let secret = self.secret.lock().await;
        self.store.invalidate_all_tokens().await?;
        let lifetime_s = self.tokens.settings().lifetime_s;
        let keys = load_or_begin(&self.store, &*self.clock, &secret, &self.settings, lifetime_s).await?;
        self.tokens.replace_ring(ring(&keys, &secret.sealing)?);
        Ok(())
    }

    /// Does what is due: signs with the next key, removes retired keys, begins a rotation. Called regularly.
    ///
    /// # Errors
    /// [`KeyRingError::Store`], [`KeyRingError::Damaged`].
    pub async fn maintain(&self) -> Result<(), KeyRingError> {
        let secret = self.secret.lock().await;
        let (now_s, latest_issue_s) = (self.clock.unix_s(), self.latest_issue_s());
        let stored = self.store.signing_keys()?;
        let mut planned = stored.clone();
        apply_due_transitions(&mut planned, now_s, latest_issue_s);
        if planned != stored {
            self.change(&secret, move |keys| {
                apply_due_transitions(keys, now_s, latest_issue_s);
                Ok(())
            })
            .await?;
            log_changes(&stored, &planned);
        } else if !self.is_in_use(&stored) {
            self.tokens.replace_ring(ring(&stored, &secret.sealing)?); // an earlier change had reached the disk although it failed
        }
        drop(secret);
        let is_due = |key: &StoredKey| match (key.state, self.settings.rotation) {
            (KeyState::Current { since_s }, Some(age)) if key.algorithm != SigningAlgorithm::Hs256 => {
                now_s.saturating_sub(since_s) >= age.as_secs()
            }
            _ => false,
        };
        if planned.iter().any(is_due) && !planned.iter().any(|key| matches!(key.state, KeyState::Next { .. })) {
            match self.rotate(None, false).await {
                Ok(key) => log("key_added", &key),
                Err(KeyRingError::RotationUnderWay) => {} // somebody else was first
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Lets `change` change the keys durably, then uses them.
    async fn change<T: Send + 'static>(
        &self,
        secret: &Secret,
        change: impl FnMut(&mut Vec<StoredKey>) -> Result<T, KeyRingError> + Send + 'static,
    ) -> Result<T, KeyRingError> {
        let (result, keys) = self.store.update_signing_keys(change).await?;
        if !self.is_in_use(&keys) {
            self.tokens.replace_ring(ring(&keys, &secret.sealing)?);
        }
        result
    }

    fn is_in_use(&self, stored: &[StoredKey]) -> bool {
        let ring = self.tokens.ring();
        let used =
            |key: &StoredKey| ring.keys().iter().any(|used| used.key().kid == key.kid && used.state() == key.state);
        stored.len() == ring.keys().len() && stored.iter().all(used)
    }

    /// Returns the latest time at which a token may have been issued, in seconds since 1970. It is later than now where the clock was set back.
    fn latest_issue_s(&self) -> u64 {
        self.clock.unix_s().max(self.tokens.last_issued_at_s()).max(self.store.purged_through_s())
    }
}

/// Returns the stored keys, or makes the first one. Notes the lifetime of tokens with the keys that sign.
async fn load_or_begin(
    store: &Store,
    clock: &dyn Clock,
    secret: &Secret,
    settings: &KeyRingSettings,
    lifetime_s: u64,
) -> Result<Vec<StoredKey>, KeyRingError> {
    let stored = store.signing_keys()?;
    let signs_shorter =
        move |key: &StoredKey| !matches!(key.state, KeyState::Retired { .. }) && key.token_lifetime_max_s < lifetime_s;
    if !stored.is_empty() && !stored.iter().any(signs_shorter) {
        return Ok(stored);
    }
    let algorithm = match store.next_ring_algorithm()? {
        Some(algorithm) => algorithm,
        None if settings.secret_is_given => SigningAlgorithm::Hs256,
        None => settings.algorithm,
    };
    let (key, private) = match algorithm {
        SigningAlgorithm::Hs256 => (Key::of_secret(&secret.secret, store.data_generation()?), secret.secret.clone()),
        _ => Key::generate(algorithm),
    };
    let now_s = clock.unix_s();
    let first = StoredKey {
        sealed: secret.sealing.seal(&key.kid, algorithm, &private),
        kid: key.kid,
        algorithm,
        state: KeyState::Current { since_s: now_s },
        created_at_s: now_s,
        token_lifetime_max_s: lifetime_s,
    };
    let begin = move |keys: &mut Vec<StoredKey>| {
        if keys.is_empty() {
            keys.push(first.clone());
        }
        for key in keys.iter_mut().filter(|key| signs_shorter(key)) {
            key.token_lifetime_max_s = lifetime_s;
        }
    };
    Ok(store.update_signing_keys(begin).await?.1)
}

/// Decrypts the stored keys.
fn ring(stored: &[StoredKey], sealing: &SealingKey) -> Result<Ring, KeyRingError> {
    let mut keys = Vec::new();
    let mut unreadable = None;
    for key in stored {
        match sealing.open(key).and_then(|private| Key::read(key.algorithm, &private)) {
            Some(read) => keys.push(RingKey::new(read.with_id(&key.kid), key.state, key.token_lifetime_max_s)),
            None => unreadable = Some(key.kid.clone()),
        }
    }
    match unreadable {
        Some(_) if keys.is_empty() => return Err(KeyRingError::WrongSecret),
        Some(kid) => return Err(KeyRingError::Damaged(kid)),
        None => {}
    }
    let current = keys.iter().filter(|key| matches!(key.state(), KeyState::Current { .. })).count();
    if current == 1 {
        Ok(Ring::new(keys))
    } else {
        Err(KeyRingError::Damaged(format!("that signs ({current} of them)")))
    }
}
