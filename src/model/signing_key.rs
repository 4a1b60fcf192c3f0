//! A key that signs tokens, as it is stored.

use std::{fmt, str::FromStr};

/// How a key signs (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// ECDSA with the curve P-256 and SHA-256.
    Es256,
    /// `EdDSA` with the curve Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// HMAC with SHA-256, whose key is secret.
    Hs256,
}

impl SigningAlgorithm {
    /// Every algorithm.
    pub const ALL: [Self; 4] = [Self::Es256, Self::EdDsa, Self::Rs256, Self::Hs256];

    /// Returns the value of `alg` in the header of a token.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Hs256 => "HS256",
        }
    }
}

impl fmt::Display for SigningAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SigningAlgorithm {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(text));
        found.ok_or("must be ES256, EdDSA, RS256 or HS256")
    }
}

/// What a key of the key ring is for. Times are in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It is published and signs later.
    Next {
        /// The time from which it signs.
        signs_from_s: u64,
    },
    /// It signs new tokens.
    Current {
        /// The time since which it signs.
        since_s: u64,
    },
    /// It signs no more. Tokens that it signed are good until they expire.
    Retired {
        /// The time since which it signs no more.
        since_s: u64,
        /// The time by which the last token that it signed has expired.
        until_s: u64,
    },
}

impl KeyState {
    /// Returns `next`, `current` or `retired`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Next { .. } => "next",
            Self::Current { .. } => "current",
            Self::Retired { .. } => "retired",
        }
    }
}

/// A key of the key ring. It has no `Debug`, so that its private part reaches no log.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The id of the key: the `kid` of the tokens that it signs.
    pub kid: String,
    /// How it signs.
    pub algorithm: SigningAlgorithm,
    /// What it is for.
    pub state: KeyState,
    /// When it was made or added, in seconds since 1970.
    pub created_at_s: u64,
    /// The longest lifetime of the tokens that it signs, in seconds.
    pub token_lifetime_max_s: u64,
    /// The private part, encrypted.
    pub sealed: Vec<u8>,
}
