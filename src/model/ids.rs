//! Generated identifiers: the public id of a user, the id of a service, the id of a token.
//!
//! Guarantees: an id is unique and never derived from a secret.

use std::fmt;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::random;

/// The public id of a user: the `sub` claim of tokens. It is not a secret.
///
/// It is a UUID of version 7 (RFC 9562 §5.7), so the order of ids is the order of registration. The table of users needs no second index
/// for it, and new users are written to pages that are already in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicId(Uuid);

impl PublicId {
    /// Creates an id for a user who registers at `now`.
    #[must_use]
    pub fn new(now: OffsetDateTime) -> Self {
        Self::with_tail(now, &random::bytes())
    }

    /// Creates an id for the user number `place` of several who are registered at the same time. Their ids have the order of their numbers
    /// (RFC 9562 §6.2, method 1, with a counter of 32 bits that wraps around).
    #[must_use]
    pub fn in_order(now: OffsetDateTime, place: u64) -> Self {
        let mut tail: [u8; 10] = random::bytes();
        let [.., a, b, c, d] = place.to_be_bytes();
        let counter = u32::from_be_bytes([a, b, c, d]);
        // Version and variant take the place of four bits of the first byte and two of the third.
        for (byte, shift) in tail.iter_mut().zip([28, 20, 14, 6]) {
            [.., *byte] = (counter >> shift).to_be_bytes();
        }
        tail[4] = tail[4] >> 6 | d << 2;
        Self::with_tail(now, &tail)
    }

    fn with_tail(now: OffsetDateTime, tail: &[u8; 10]) -> Self {
        Self(of_moment(now, tail))
    }

    /// Parses the text form. Returns `None` if it is not a UUID in the hyphenated lowercase form that [`fmt::Display`] writes, so that an
    /// id has one spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        in_our_spelling(text).map(Self)
    }

    /// Creates the id from its 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the 16 bytes of the id. Their order is the order of ids.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a service: a UUID of version 7, so that the order of ids is the order of creation. It is not a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(Uuid);

impl ServiceId {
    /// Creates an id for a service that is added at `now`.
    #[must_use]
    pub fn new(now: OffsetDateTime) -> Self {
        Self(of_moment(now, &random::bytes()))
    }

    /// Parses the text form. Returns `None` if it is not a UUID in the form that [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        in_our_spelling(text).map(Self)
    }

    /// Creates the id from its 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the 16 bytes of the id. Their order is the order of ids.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of one token: its `jti` claim (RFC 7519 §4.1.7), a UUID of version 4. Half of its bits are random, the others a MAC over the claims
/// (`auth::tokens::key`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId(Uuid);

impl TokenId {
    /// Creates an id from random bytes: a UUID of version 4 (RFC 9562 §5.4), whose six bits for version and variant are set.
    #[must_use]
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// Creates an id from the operating system's random numbers.
    #[must_use]
    pub fn new() -> Self {
        Self::from_random(random::bytes())
    }

    /// Parses the text form. Returns `None` if it is not a UUID in the form that [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        in_our_spelling(text).map(Self)
    }

    /// Creates the id from its 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the 16 bytes of the id.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

impl Default for TokenId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns the UUID of version 7 of the moment `now` (RFC 9562 §5.7).
fn of_moment(now: OffsetDateTime, tail: &[u8; 10]) -> Uuid {
    let millis = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, tail).into_uuid()
}

fn in_our_spelling(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok()?;
    (*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text).then_some(id)
}
