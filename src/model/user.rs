//! A user, and the password hash.

use time::OffsetDateTime;

use super::{email::Email, ids::PublicId};

/// A password hash as a PHC string (`$scrypt$ln=15,r=8,p=3$salt$hash`). No `Debug`: it must not reach a log.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Takes a PHC string. Whether it can be verified is decided where it is verified.
    #[must_use]
    pub fn new(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What can be changed of a user. What is `None` stays as it is.
#[derive(Clone, Default)]
pub struct UserChange {
    /// Whether the user may do what administrators may.
    pub admin: Option<bool>,
    /// Whether the user is kept out.
    pub disabled: Option<bool>,
    /// A new password's hash.
    pub password_hash: Option<PasswordHash>,
    /// Whether every token issued so far dies.
    pub end_sessions: bool,
}

/// Which users a list is about.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// Those whose email begins with this, in whatever letter case.
    pub email_prefix: Option<String>,
    /// Those who are administrators, or those who are none.
    pub admin: Option<bool>,
    /// Those who are disabled, or those who are not.
    pub disabled: Option<bool>,
}

/// Someone who may log in.
#[derive(Clone)]
pub struct User {
    /// Names the user to others.
    pub public_id: PublicId,
    /// As spelled at registration.
    pub email: Email,
    /// What a login is checked against.
    pub password_hash: PasswordHash,
    /// Whether the user may do what administrators may.
    pub admin: bool,
    /// A disabled user can neither log in nor use a token.
    pub disabled: bool,
    /// How often this user has ended all sessions; a token of an earlier epoch is dead.
    pub epoch: u64,
    /// When the account was made, to the second.
    pub registered_on: OffsetDateTime,
}

impl User {
    /// Whether the user can act as an administrator now.
    #[must_use]
    pub fn is_acting_admin(&self) -> bool {
        self.admin && !self.disabled
    }

    /// The user after `change`. Tokens die with a new password, and where the user gets disabled, so that those of before do
    /// not come back when the user is enabled again.
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
    /// Whether `user` is one of them.
    #[must_use]
    pub fn fits(&self, user: &User) -> bool {
        self.email_prefix.as_ref().is_none_or(|prefix| user.email.key().starts_with(&prefix.to_lowercase()))
            && self.admin.is_none_or(|admin| user.admin == admin)
            && self.disabled.is_none_or(|disabled| user.disabled == disabled)
    }

    /// Whether it lets everyone through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.email_prefix.is_none() && self.admin.is_none() && self.disabled.is_none()
    }
}
