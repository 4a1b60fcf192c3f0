//! [`AuthError`]: the reasons for which an operation is refused, without a status code.
//!
//! Guarantees: an unknown email, a disabled user and a wrong password are one variant, so that no
//! response can distinguish them by accident (I7).

use std::time::Duration;

use crate::{
    auth::passwords::hasher::HashError,
    model::{Email, ServiceName},
    store::{SERVICES_MAX, StoreError},
};

/// Why an operation was refused or failed: one variant per reason that the caller can act on.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// An account with this email exists, perhaps in another letter case.
    #[error("{0} is already registered")]
    EmailTaken(Email),
    /// The user does not exist or is disabled, or the password is wrong (I7).
    #[error("email or password does not match")]
    InvalidCredentials,
    /// The token is malformed or has no valid signature, or its user is removed, disabled, or has logged out everywhere.
    #[error("Invalid token. Please log in again.")]
    TokenInvalid,
    /// The time of the token's `exp` claim has passed.
    #[error("Access token expired. Please log in again.")]
    TokenExpired,
    /// The token was logged out.
    #[error("Token blacklisted. Please log in again.")]
    TokenBlacklisted,
    /// The change would leave no enabled administrator (I9).
    #[error("This is the last enabled administrator; make another one first.")]
    LastAdmin,
    /// No user has this public id.
    #[error("There is no such user.")]
    UserNotFound,
    /// The service does not exist or is disabled, or the secret is wrong.
    #[error("the credentials of the service are wrong")]
    ServiceRefused,
    /// No service has this id.
    #[error("There is no such service.")]
    ServiceNotFound,
    /// A service with this name exists, perhaps in another letter case.
    #[error("there is already a service named {0}")]
    ServiceNameTaken(ServiceName),
    /// There are as many services as there may be.
    #[error("there are {SERVICES_MAX} services already, which is the maximum")]
    TooManyServices,
    /// The caller gave a wrong password for their own account.
    #[error("is not the password of this account")]
    WrongPassword,
    /// A limit on guessing is reached: for the address, or for the account from this address. Has the time to wait.
    #[error("too many tries")]
    Throttled(Duration),
    /// The hashing queue is full. Has the estimated time until its current entries are done.
    #[error("too many logins are waiting")]
    Busy(Duration),
    /// The stored password hash can never be verified. Has the reason.
    #[error("a stored password hash is unusable: {0}")]
    UnusableHash(String),
    /// The store failed.
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
