//! Stored password hashes: our own, and those of users imported from other systems.
//!
//! Guarantees: a hash is parsed completely before anything is computed, and one whose parameters exceed the bounds here never runs. The
//! comparison takes constant time. A hash of another kind than the current scrypt setting is verified as it is; the next login that
//! succeeds without load replaces it. Deliberately absent: making any hash except scrypt.
//!
//! | file | what it has |
//! | --- | --- |
//! | `hash_function` | the functions, their bounds and their work |
//! | `modular_crypt` | texts that begin with `$`: PHC strings, bcrypt, passlib, SHA-crypt, phpass, WordPress, Drupal, Firebase |
//! | `frameworks` | Django, Werkzeug, ASP.NET Identity |
//! | `ldap` | texts that begin with a scheme in braces: LDAP servers, Dovecot |
//! | `refused` | what is known and not verified, with the reason |
//! | `encoding`, `parsed_hash` | base64 and numbers; what every parser returns |

mod encoding;
mod frameworks;
mod hash_function;
mod ldap;
mod modular_crypt;
mod parsed_hash;
mod refused;

use crate::{
    auth::passwords::{policy::Password, scrypt_cost::ScryptCost},
    model::PasswordHash,
};
use hash_function::HashFunction;
use parsed_hash::{OUTPUT_BYTES_MAX, ParsedHash};

/// The longest text that is parsed. No known format is longer.
const TEXT_BYTES_MAX: usize = 512;
/// The shortest accepted output in bytes. A shorter one could match by chance.
const OUTPUT_BYTES_MIN: usize = 10;

/// Why a stored hash can never be verified.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnusableHash(String);

/// A parsed hash whose parameters are within bounds.
pub struct StoredHash {
    parsed: ParsedHash,
    is_foreign: bool,
}

impl StoredHash {
    /// Checks whether a hash can be verified. The error is the reason why it cannot.
    ///
    /// # Errors
    /// As [`StoredHash::read`].
    pub fn check(hash: &PasswordHash) -> Result<(), String> {
        Self::read(hash).map(drop).map_err(|unusable| unusable.to_string())
    }

    /// Parses a hash and checks its parameters against the bounds. Nothing is computed.
    ///
    /// # Errors
    /// [`UnusableHash`] if it is malformed, of an unknown kind, or exceeds the bounds.
    pub fn read(hash: &PasswordHash) -> Result<Self, UnusableHash> {
        let text = hash.as_str();
        if text.len() > TEXT_BYTES_MAX {
            return Err(UnusableHash(format!("it is longer than {TEXT_BYTES_MAX} bytes")));
        }
        let parsed = modular_crypt::parse(text)
            .or_else(|| modular_crypt::hash_of_md5(text))
            .or_else(|| ldap::parse(text))
            .or_else(|| frameworks::django_or_werkzeug(text))
            .or_else(|| frameworks::asp_net(text))
            .unwrap_or_else(|| Err(refused::explain(text)))
            .map_err(UnusableHash)?;
        if !(OUTPUT_BYTES_MIN..=OUTPUT_BYTES_MAX).contains(&parsed.expected.len()) {
            return Err(UnusableHash("its output is too short or too long".to_owned()));
        }
        if parsed.function.output_bytes().is_some_and(|bytes| bytes != parsed.expected.len()) {
            return Err(UnusableHash("its output has the wrong length".to_owned()));
        }
        if parsed.salt.is_empty() {
            return Err(UnusableHash("it has no salt".to_owned()));
        }
        Ok(Self { parsed, is_foreign: hash.is_foreign() })
    }

    /// Returns the name of its format, such as `Django pbkdf2_sha256`.
    #[must_use]
    pub fn format(&self) -> &'static str {
        self.parsed.format
    }

    /// Whether `password` matches. This is as expensive as computing the hash.
    #[must_use]
    pub fn matches(&self, password: &Password) -> bool {
        self.parsed.function.matches(password, &self.parsed.salt, &self.parsed.expected)
    }

    /// Returns the work of one verification, as the number of scrypt bytes that take about as long.
    pub(in crate::auth) fn work(&self) -> u64 {
        self.parsed.function.work(self.parsed.expected.len())
    }

    /// Whether a new hash of cost `cost` should replace this one.
    #[must_use]
    pub fn is_weaker_than(&self, cost: ScryptCost) -> bool {
        match &self.parsed.function {
            HashFunction::Scrypt(stored) if !self.is_foreign => stored.work() < cost.work(),
            _ => true,
        }
    }
}
