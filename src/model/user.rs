//! A user, and what is kept of the password.

use time::OffsetDateTime;

use super::{Email, PublicId};

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
