//! A user, and the password hash.

use time::OffsetDateTime;

use super::{email::Email, ids::PublicId};

/// The text of a password hash, such as `$scrypt$ln=15,r=8,p=3$salt$hash`. It has no `Debug`, because it must not reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes the text unchecked. `auth` parses it when it is verified.
    #[must_use]
    pub fn new(phc: String) -> Self {
        Self(phc)
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is anything but scrypt as a PHC string, which is the format of new hashes.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        !self.0.starts_with("$scrypt$")
    }
}

/// A change of a user. A field that is `None` stays as it is.
#[derive(Clone, Default)]
pub struct UserChange {
    /// Whether the user is an administrator.
    pub admin: Option<bool>,
    /// Whether the user is disabled.
    pub disabled: Option<bool>,
    /// The hash of the new password.
    pub password_hash: Option<PasswordHash>,
    /// Whether all tokens issued so far become invalid.
    pub end_sessions: bool,
}

/// Selects users of a list. A field that is `None` selects all.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Users whose email starts with this, in any letter case and spelling ([`Email::search_key`]).
    pub email_prefix: Option<String>,
    /// Users who are administrators (`true`), or who are not.
    pub admin: Option<bool>,
    /// Users who are disabled (`true`), or who are not.
    pub disabled: Option<bool>,
}

/// An account.
#[derive(Clone)]
pub struct User {
    /// The id that is shown to clients.
    pub public_id: PublicId,
    /// The email as spelled at registration.
    pub email: Email,
    /// The hash that a login verifies the password against.
    pub password_hash: PasswordHash,
    /// Whether the user is an administrator.
    pub admin: bool,
    /// A disabled user can neither log in nor use a token.
    pub disabled: bool,
    /// How often all tokens of this user were invalidated. A token of an earlier epoch is invalid.
    pub epoch: u64,
    /// The time of registration, in whole seconds.
    pub registered_on: OffsetDateTime,
}

impl User {
    /// Whether the user is an enabled administrator.
    #[must_use]
    pub fn is_acting_admin(&self) -> bool {
        self.admin && !self.disabled
    }

    /// Returns the user after `change`. A new password or disabling the user increments the epoch, so that old tokens stay invalid when
    /// the user is enabled again.
    #[must_use]
    pub fn changed(mut self, change: &UserChange) -> Self {
        let disabling = change.disabled == Some(true) && !self.disabled;
        if change.end_sessions || change.password_hash.is_some() || disabling {
            self.epoch += 1;
        }
        self.admin = change.admin.unwrap_or(self.admin);
        self.disabled = change.disabled.unwrap_or(self.disabled);
        if let Some(password_hash) = &change.password_hash {
            self.password_hash = password_hash.clone();
        }
        self
    }
}

impl UserFilter {
    /// Whether the filter selects `user`.
    #[must_use]
    pub fn fits(&self, user: &User) -> bool {
        self.email_prefix.as_ref().is_none_or(|prefix| user.email.key().starts_with(&Email::search_key(prefix)))
            && self.admin.is_none_or(|admin| user.admin == admin)
            && self.disabled.is_none_or(|disabled| user.disabled == disabled)
    }

    /// Whether the filter selects by flags.
    #[must_use]
    pub fn has_flags(&self) -> bool {
        self.admin.is_some() || self.disabled.is_some()
    }

    /// Whether the filter selects all users.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.email_prefix.is_none() && !self.has_flags()
    }
}
