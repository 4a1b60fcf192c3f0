//! A service: the account of a program that asks about tokens.

use std::fmt;

use time::OffsetDateTime;

use super::ids::ServiceId;

const NAME_BYTES_MAX: usize = 64;

/// The name of a service: 1 to 64 of ASCII letters, digits, `.`, `_` and `-`. Two names that differ in letter case alone are the same name.
#[derive(Debug, Clone)]
pub struct ServiceName(String);

/// The text is not the name of a service.
#[derive(Debug, thiserror::Error)]
#[error(
    "must be 1 to {NAME_BYTES_MAX} characters: letters of ASCII, digits, . (dot), _ (underscore) and - (hyphen) only"
)]
pub struct ServiceNameError;

impl ServiceName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`ServiceNameError`] if it is empty, too long or has another character.
    pub fn parse(text: &str) -> Result<Self, ServiceNameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ServiceNameError)
        }
    }

    /// Returns the name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what identifies the name: its letters in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 hash of the secret of a service. A secret has 256 random bits, so that a slow hash would not protect it better.
///
/// It has no `Debug`, because it must not reach a log. Where a secret is verified, `auth` compares it in constant time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

/// A secret that was replaced and is still valid for some time.
#[derive(Clone, Copy)]
pub struct ReplacedSecret {
    /// The hash of the secret.
    pub hash: SecretHash,
    valid_until: OffsetDateTime,
}

impl ReplacedSecret {
    /// Takes a hash and when the secret becomes invalid. It is invalid at this very second.
    #[must_use]
    pub fn new(hash: SecretHash, valid_until: OffsetDateTime) -> Self {
        Self { hash, valid_until }
    }

    /// Returns when the secret becomes invalid.
    #[must_use]
    pub fn valid_until(&self) -> OffsetDateTime {
        self.valid_until
    }

    /// Whether the secret is valid at `now_s`, in seconds since 1970.
    #[must_use]
    pub fn is_valid(&self, now_s: u64) -> bool {
        u64::try_from(self.valid_until.unix_timestamp()).is_ok_and(|until_s| now_s < until_s)
    }
}

/// The account of a program.
#[derive(Clone)]
pub struct Service {
    /// The id that is shown to clients. It is the user name of HTTP Basic.
    pub id: ServiceId,
    /// The name.
    pub name: ServiceName,
    /// The hash of the secret.
    pub secret: SecretHash,
    /// The secret before, if it stays valid for some time.
    pub replaced_secret: Option<ReplacedSecret>,
    /// A disabled service is refused.
    pub disabled: bool,
    /// When the account was made, in whole seconds.
    pub created_at: OffsetDateTime,
    /// When the secret was made, in whole seconds.
    pub rotated_at: OffsetDateTime,
}

/// A new secret for a service.
#[derive(Clone, Copy)]
pub struct SecretRotation {
    /// The hash of the new secret.
    pub secret: SecretHash,
    /// When the secret before becomes invalid, in whole seconds, or `None` for at once.
    pub old_valid_until: Option<OffsetDateTime>,
    /// The time of the change, in whole seconds.
    pub rotated_at: OffsetDateTime,
}

/// A change of a service. A field that is `None` stays as it is.
#[derive(Clone, Copy, Default)]
pub struct ServiceChange {
    /// Whether the service is disabled.
    pub disabled: Option<bool>,
    /// The new secret.
    pub rotation: Option<SecretRotation>,
}

impl Service {
    /// Returns the service after `change`. It has at most one replaced secret: the one before the new one.
    #[must_use]
    pub fn changed(mut self, change: &ServiceChange) -> Self {
        self.disabled = change.disabled.unwrap_or(self.disabled);
        if let Some(rotation) = change.rotation {
            let replaced = |valid_until| ReplacedSecret::new(self.secret, valid_until);
            self.replaced_secret = rotation.old_valid_until.map(replaced);
            self.secret = rotation.secret;
            self.rotated_at = rotation.rotated_at;
        }
        self
    }
}
