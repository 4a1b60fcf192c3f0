//! [`AuthError`]: the reasons why a caller is turned away, without a status code.
//!
//! Guarantees: an unknown email, a disabled user and a wrong password are one variant, so that no answer can tell them apart by accident (I7).

use std::time::Duration;

use crate::{auth::passwords::hasher::HashError, model::Email, store::StoreError};

/// Why someone may not do it, one variant per reason that can be acted on.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The email belongs to an account, perhaps in another letter case.
    #[error("{0} is already registered")]
    EmailTaken(Email),
    /// No such user, a wrong password or a disabled user: one variant, so that nobody tells them apart by accident (I7).
    #[error("email or password does not match")]
    InvalidCredentials,
    /// Altered, malformed, not ours, or its user is gone, disabled, or has ended all sessions.
    #[error("Invalid token. Please log in again.")]
    TokenInvalid,
    /// Its `exp` has come.
    #[error("Access token expired. Please log in again.")]
    TokenExpired,
    /// It was logged out.
    #[error("Token blacklisted. Please log in again.")]
    TokenBlacklisted,
    /// It would leave nobody who can act as an administrator (I9).
    #[error("This is the last enabled administrator; make another one first.")]
    LastAdmin,
    /// There is no user with this public id.
    #[error("There is no such user.")]
    UserNotFound,
    /// Who is logged in gave a wrong password for it.
    #[error("is not the password of this account")]
    WrongPassword,
    /// Too many came from one address, or too many wrong passwords for one account from there; how long to wait.
    #[error("too many tries")]
    Throttled(Duration),
    /// More passwords wait to be hashed than can be in a few seconds; when those that wait now are done.
    #[error("too many logins are waiting")]
    Busy(Duration),
    /// A stored password hash cannot be verified.
    #[error("a stored password hash is unusable: {0}")]
    UnusableHash(String),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<HashError> for AuthError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Busy(wait) => Self::Busy(wait),
            HashError::Unusable(cause) => Self::UnusableHash(cause.to_string()),
        }
    }
}
