//! Access tokens: signs claims into a JWT and verifies a JWT, with the keys of the key ring. The only folder that uses jsonwebtoken.
//!
//! Guarantees: [`Tokens::verify`] accepts exactly the tokens that [`Tokens::sign`] creates with a key of the ring. The header is compared byte
//! for byte with those of the ring's keys before anything is decoded, so that the algorithm is the key's and no other `alg`, `typ`, `kid`,
//! `crit`, `jwk`, `jku` or `x5c` is ever interpreted (RFC 8725 §3.1). A token is
//! accepted only if its signature was verified. Where that takes long, the id of the token is compared first, which has a MAC over the
//! claims. Deliberately absent: time. The caller compares `exp` with the clock, because the library's own check accepts a token at the second of its `exp` and
//! grants leeway.
//!
//! `claims` is what a token says; `key` is one key; `seal` encrypts private parts; `signature_cache` keeps the outcome of slow checks.

mod claims;
pub mod key;
pub mod seal;
mod signature_cache;

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Header, jwk::JwkSet};

use crate::{
    metrics::METRICS,
    model::{KeyState, PublicId, SigningAlgorithm},
    random,
};
use key::{Key, SIGNATURE_BYTES_MAX};
use signature_cache::SignatureCache;

pub use claims::{Claims, NewToken};

/// The longest token that is decoded. Our own have about 400 bytes, and at most 8,000 with a long issuer and audience.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// A new access token.
pub struct AccessToken {
    /// The user it authenticates.
    pub user: PublicId,
    /// The JWT in compact serialization (RFC 7515 §7.1).
    pub text: String,
    /// Its lifetime in seconds.
    pub expires_in_s: u64,
}

/// A key of the ring, prepared for use.
pub struct RingKey {
    key: Key,
    state: KeyState,
    /// The longest lifetime of the tokens that it signs, in seconds.
    token_lifetime_max_s: u64,
    /// The start of each token that it signs: the encoded header and the dot after it.
    prefix: String,
}

impl RingKey {
    /// Prepares a key whose tokens live for at most `token_lifetime_max_s` seconds.
    ///
    /// # Panics
    /// Never: a header serializes.
    #[must_use]
    pub fn new(key: Key, state: KeyState, token_lifetime_max_s: u64) -> Self {
        let mut header = Header::new(match key.algorithm() {
            SigningAlgorithm::Es256 => Algorithm::ES256,
            SigningAlgorithm::EdDsa => Algorithm::EdDSA,
            SigningAlgorithm::Rs256 => Algorithm::RS256,
            SigningAlgorithm::Hs256 => Algorithm::HS256,
        });
        header.kid = Some(key.kid.clone());
        let header = serde_json::to_vec(&header).expect("BUG: a header of plain text serializes");
        Self { prefix: BASE64_URL_SAFE_NO_PAD.encode(header) + ".", key, state, token_lifetime_max_s }
    }

    /// Returns the key.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Returns what the key is for.
    #[must_use]
    pub fn state(&self) -> KeyState {
        self.state
    }
}

/// The keys that sign and verify tokens.
pub struct Ring {
    keys: Vec<RingKey>,
    /// The public keys as a JWK set (RFC 7517 §5).
    jwks: String,
}

impl Ring {
    /// Puts keys together. Exactly one of them must be current.
    ///
    /// # Panics
    /// If no key is current.
    #[must_use]
    pub fn new(mut keys: Vec<RingKey>) -> Self {
        // The current key comes first, because it signed most tokens.
        keys.sort_by_key(|key| !matches!(key.state, KeyState::Current { .. }));
        let first = keys.first().expect("BUG: a key ring has a key");
        assert!(matches!(first.state, KeyState::Current { .. }), "BUG: a key of the ring is current");
        let public = JwkSet { keys: keys.iter().filter_map(|key| key.key.jwk()).collect() };
        let jwks = serde_json::to_string(&public).expect("BUG: a set of plain text serializes");
        Self { keys, jwks }
    }

    /// Returns a ring of one key, which signs tokens that live for at most `token_lifetime_max_s` seconds.
    #[must_use]
    pub fn of_key(key: Key, token_lifetime_max_s: u64) -> Self {
        Self::new(vec![RingKey::new(key, KeyState::Current { since_s: 0 }, token_lifetime_max_s)])
    }

    /// Returns the keys, the current one first.
    #[must_use]
    pub fn keys(&self) -> &[RingKey] {
        &self.keys
    }

    /// Returns the longest lifetime of the tokens that these keys have signed, in seconds.
    #[must_use]
    pub fn token_lifetime_max_s(&self) -> u64 {
        self.keys.iter().map(|key| key.token_lifetime_max_s).max().unwrap_or(0)
    }

    /// Returns the public keys as a JWK set (RFC 7517 §5). HS256 has none.
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
    }
}

/// What new tokens say, beside what they say of their user.
#[derive(Debug, Clone, Default)]
pub struct TokenSettings {
    /// The lifetime of a new token in seconds.
    pub lifetime_s: u64,
    /// `iss`, if the server has a public URL.
    pub issuer: Option<String>,
    /// `aud`.
    pub audience: Vec<String>,
}

/// Signs and verifies tokens.
pub struct Tokens {
    settings: TokenSettings,
    ring: RwLock<Arc<Ring>>,
    signatures: SignatureCache,
    last_issued_at_s: AtomicU64,
}

impl Tokens {
    /// Signs and verifies with the keys of `ring`.
    #[must_use]
    pub fn new(settings: TokenSettings, ring: Ring) -> Self {
        let tokens = Self {
            settings,
            ring: RwLock::new(Arc::new(ring)),
            signatures: SignatureCache::new(),
            last_issued_at_s: AtomicU64::new(0),
        };
        METRICS.set_signing_keys(tokens.ring().keys.iter().map(|key| key.state));
        tokens
    }

    /// Returns what new tokens say.
    #[must_use]
    pub fn settings(&self) -> &TokenSettings {
        &self.settings
    }

    /// Returns the keys in use.
    #[must_use]
    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the keys in use.
    pub fn replace_ring(&self, ring: Ring) {
        METRICS.set_signing_keys(ring.keys.iter().map(|key| key.state));
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }

    /// Returns the latest `iat` of the tokens that this process signed, in seconds since 1970, or 0. It may be later than the current time
    /// where the clock was set back.
    #[must_use]
    pub fn last_issued_at_s(&self) -> u64 {
        self.last_issued_at_s.load(Ordering::Acquire)
    }

    /// Returns a JWT with these claims, signed with the current key.
    ///
    /// # Panics
    /// Never: plain claims serialize.
    #[must_use]
    pub fn sign(&self, token: &NewToken) -> String {
        self.last_issued_at_s.fetch_max(token.issued_at_s, Ordering::AcqRel);
        let ring = self.ring();
        let current = &ring.keys[0];
        let token_id = current.key.token_id(token, random::bytes());
        let payload = claims::encode(token, token_id, self.settings.issuer.as_deref(), &self.settings.audience);
        let mut token = current.prefix.clone();
        token.push_str(&payload);
        let signature = current.key.sign(token.as_bytes());
        token.push('.');
        BASE64_URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// Returns the claims of a token, also of an expired one, or `None` if [`Tokens::sign`] did not create it with a key of the ring.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let ring = self.ring();
        let key = ring.keys.iter().find(|key| token.starts_with(&key.prefix))?;
        let (signed, signature) = token.rsplit_once('.')?;
        let payload = signed.strip_prefix(&key.prefix)?;
        let verify = || {
            let mut room = [0; SIGNATURE_BYTES_MAX + 4]; // the decoder needs more than the signature
            decoded(signature, &mut room).is_some_and(|signature| key.key.verifies(signed.as_bytes(), signature))
        };
        let claims = if key.key.is_slow_to_verify() {
            let claims = claims::decode(payload)?;
            let is_good = || key.key.has_valid_token_id(&claims) && verify();
            self.signatures.verify_cached(token, is_good).then_some(claims)?
        } else {
            verify().then(|| claims::decode(payload)).flatten()?
        };
        METRICS.count_token_of(key.state);
        Some(claims)
    }
}

/// Decodes base64url (RFC 7515 §2) into `room`. Returns `None` if `text` is malformed or the result does not fit.
fn decoded<'a>(text: &str, room: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, room).ok()?;
    room.get(..length)
}
