//! Authentication: registration, login, verification of tokens, logout, and changes of accounts.
//!
//! Guarantees: only [`Auth::authenticate`] creates a [`Caller`]. An unknown email, a disabled user and a wrong password get the same answer
//! after the same work (I7). The caller's rights are read from the store at each request (I8). Deliberately absent: HTTP, SQL, and
//! the rules of any resource other than users.

mod error;
pub mod key_ring;
pub mod known_devices;
pub mod network;
pub mod passwords;
pub mod service_accounts;
pub mod throttle;
pub mod tokens;
pub mod transfer;

use std::{net::IpAddr, sync::Arc};

use time::OffsetDateTime;

use crate::{
    clock::Clock,
    metrics::METRICS,
    model::{Email, PasswordHash, PublicId, User, UserChange},
    store::{Store, UpdateOutcome},
};
use key_ring::KeyRing;
use known_devices::{FoundDevice, KnownDevices};
use passwords::{
    hasher::Hasher,
    policy::{Password, PasswordPolicy},
};
use throttle::Throttle;
use tokens::{Claims, NewToken, Tokens};

pub use error::AuthError;
pub use tokens::AccessToken;

/// More than the longest time in seconds from when a login reads its user until it issues a token.
const LOGIN_DURATION_MAX_S: u64 = 300;

/// The user of an authenticated request.
///
/// Only [`Auth::authenticate`] creates one, so a handler that takes one as an argument cannot run without a valid token.
pub struct Caller {
    user: Arc<User>,
    claims: Claims,
    expires_in_s: u64,
}

impl Caller {
    /// Returns the user as stored when the request was authenticated.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Returns what the token says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Returns the remaining lifetime of the token in seconds.
    #[must_use]
    pub fn expires_in_s(&self) -> u64 {
        self.expires_in_s
    }
}

/// The operations on accounts and tokens, over the store.
pub struct Auth {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    hasher: Hasher,
    policy: PasswordPolicy,
    key_ring: KeyRing,
    /// Signs and verifies with the keys of the key ring.
    tokens: Arc<Tokens>,
    throttle: Throttle,
    known_devices: KnownDevices,
}

impl Auth {
    /// Combines the parts.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        hasher: Hasher,
        policy: PasswordPolicy,
        key_ring: KeyRing,
        throttle: Throttle,
        known_devices: KnownDevices,
    ) -> Self {
        Self { store, clock, hasher, policy, tokens: key_ring.tokens(), key_ring, throttle, known_devices }
    }

    /// Returns the key ring.
    #[must_use]
    pub fn key_ring(&self) -> &KeyRing {
        &self.key_ring
    }

    /// Returns what signs and verifies tokens.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Returns the requirements for new passwords.
    #[must_use]
    pub fn policy(&self) -> &PasswordPolicy {
        &self.policy
    }

    /// Creates an account and its first token. The account is on disk when this returns. `from` is the client's address, or `None` for the
    /// operator.
    ///
    /// # Errors
    /// [`AuthError::EmailTaken`], [`AuthError::Throttled`], [`AuthError::Busy`], [`AuthError::Store`].
    pub async fn register(
        &self,
        email: Email,
        password: Password,
        from: Option<IpAddr>,
    ) -> Result<AccessToken, AuthError> {
        self.throttle.register(from)?;
        let user = self.add_user(email, password, false, from).await?;
        Ok(self.issue(&user))
    }

    /// Creates an account, which is an administrator's if `admin`. The account is on disk when this returns. `from` is the client's
    /// address, or `None` for the operator.
    ///
    /// # Errors
    /// [`AuthError::EmailTaken`], [`AuthError::Busy`], [`AuthError::Store`].
    pub async fn add_user(
        &self,
        email: Email,
        password: Password,
        admin: bool,
        from: Option<IpAddr>,
    ) -> Result<User, AuthError> {
        if self.store.find_user(&email)?.is_some() {
            return Err(AuthError::EmailTaken(email)); // this saves the hash; the insert below decides
        }
        let now = self.clock.now();
        let user = User {
            public_id: PublicId::new(now),
            email,
            password_hash: self.hasher.hash(password, from).await?,
            admin,
            disabled: false,
            epoch: 0,
            registered_on: now.truncate_to_second(), // as it is stored
        };
        if self.store.insert_user(user.clone()).await? { Ok(user) } else { Err(AuthError::EmailTaken(user.email)) }
    }

    /// Verifies email and password, and issues a token.
    ///
    /// An unknown email takes the same hash computation as a known one (I7). A stored hash that is weaker than the current setting is
    /// replaced.
    ///
    /// # Errors
    /// [`AuthError::InvalidCredentials`], [`AuthError::Throttled`], [`AuthError::Busy`], [`AuthError::Store`].
    pub async fn log_in(
        &self,
        email: &Email,
        password: Password,
        from: Option<IpAddr>,
    ) -> Result<AccessToken, AuthError> {
        let guess = self.throttle.guess(email, from).await?;
        let answer = self.check_and_issue(email, password, from).await;
        let count = match &answer {
            Ok(_) => {
                guess.was_right();
                &METRICS.logins_good
            }
            Err(AuthError::InvalidCredentials) => {
                guess.was_wrong();
                &METRICS.logins_bad
            }
            Err(_) => &METRICS.logins_failed,
        };
        count.inc();
        answer
    }

    async fn check_and_issue(
        &self,
        email: &Email,
        password: Password,
        from: Option<IpAddr>,
    ) -> Result<AccessToken, AuthError> {
        let user = self.store.find_user(email)?;
        let device = self.device(user.as_ref(), from)?;
        let stored = user.as_ref().map(|user| user.password_hash.clone());
        let verdict = self.hasher.verify(password, stored, from, device.is_known).await?;
        let Some(user) = user.filter(|user| verdict.matches && !user.disabled) else {
            return Err(AuthError::InvalidCredentials);
        };
        if let Some(stronger) = verdict.rehashed {
            let replaced = self.store.update_password_hash(user.public_id, user.password_hash.clone(), stronger).await;
            if let Err(error) = replaced {
                // The password was right, and the next login tries again: a full disk must not prevent a login.
                tracing::warn!(%error, "a password hash was not replaced by a stronger one");
            }
        }
        if let Some(device) = device.to_be_stored {
            let stored = self.store.insert_known_device(user.clone(), device, self.clock.unix_s()).await;
            if let Err(error) = stored {
                tracing::warn!(%error, "a known device was not stored"); // neither must this
            }
        }
        Ok(self.issue(&user))
    }

    /// Looks up the device at `from`. `None` for `user`, where there is no account, takes the same steps (I7).
    fn device(&self, user: Option<&User>, from: Option<IpAddr>) -> Result<FoundDevice, AuthError> {
        let Some(from) = from else { return Ok(FoundDevice { is_known: false, to_be_stored: None }) };
        let device = self.known_devices.device(user.map(|user| user.public_id), from);
        let (last_s, now_s) = (self.store.last_login_s(device)?, self.clock.unix_s());
        let to_be_stored = known_devices::is_to_be_stored(last_s, now_s).then_some(device);
        Ok(FoundDevice { is_known: known_devices::is_known(last_s, now_s), to_be_stored })
    }

    /// Verifies an access token and returns its user.
    ///
    /// Signature and expiry are verified first, so that an invalid token causes no disk access. Then the blacklist and the user are read
    /// from the store.
    ///
    /// # Errors
    /// [`AuthError::TokenInvalid`], [`AuthError::TokenExpired`], [`AuthError::TokenBlacklisted`], [`AuthError::Store`].
    pub fn authenticate(&self, token: &str) -> Result<Caller, AuthError> {
        let claims = self.tokens.verify(token).ok_or(AuthError::TokenInvalid)?;
        let now_s = self.clock.unix_s();
        if claims.expires_at_s <= now_s {
            return Err(AuthError::TokenExpired); // it is expired at the very second of `exp` (RFC 7519 §4.1.4)
        }
        let state = self.store.token_state(claims.to_blacklisted(), claims.subject)?;
        if state.blacklisted {
            return Err(AuthError::TokenBlacklisted);
        }
        if claims.expires_at_s <= state.purged_through_s {
            return Err(AuthError::TokenExpired); // I3
        }
        let alive = |user: &Arc<User>| !user.disabled && user.epoch == claims.epoch;
        let user = state.user.filter(alive).ok_or(AuthError::TokenInvalid)?;
        Ok(Caller { user, expires_in_s: claims.expires_at_s - now_s, claims })
    }

    /// Puts the caller's token on the blacklist. The entry is on disk when this returns (I1).
    ///
    /// # Errors
    /// [`AuthError::TokenBlacklisted`] if a concurrent logout of the same token was first; [`AuthError::Store`].
    pub async fn log_out(&self, caller: &Caller) -> Result<(), AuthError> {
        if !self.store.blacklist(caller.claims.to_blacklisted()).await? {
            return Err(AuthError::TokenBlacklisted);
        }
        METRICS.tokens_blacklisted.inc();
        Ok(())
    }

    /// Changes the caller's password, invalidates all their tokens, and issues a new one.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`] if `current` is not the password, also because it was changed concurrently;
    /// [`AuthError::Throttled`], [`AuthError::Busy`], [`AuthError::Store`].
    pub async fn change_password(
        &self,
        caller: &Caller,
        current: Password,
        new: Password,
        from: Option<IpAddr>,
    ) -> Result<AccessToken, AuthError> {
        self.confirm(caller, current, from).await?;
        let password_hash = Some(self.hasher.hash(new, from).await?);
        let expected = Some(caller.user.password_hash.clone());
        let change = UserChange { password_hash, ..UserChange::default() };
        match self.store.update_user(caller.user.public_id, expected, change, self.last_token_expires_at_s()).await? {
            UpdateOutcome::Done(user) => Ok(self.issue(&user)),
            UpdateOutcome::NotFound | UpdateOutcome::LastAdmin => Err(AuthError::WrongPassword),
        }
    }

    /// Invalidates all tokens of the caller, including the one of this request.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`] if the account was removed concurrently; [`AuthError::Store`].
    pub async fn log_out_everywhere(&self, caller: &Caller) -> Result<(), AuthError> {
        let change = UserChange { end_sessions: true, ..UserChange::default() };
        self.change_user(caller.user.public_id, change).await.map(drop)
    }

    /// Removes the caller's own account after verifying `password`.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`], [`AuthError::LastAdmin`], [`AuthError::Throttled`], [`AuthError::Busy`], [`AuthError::Store`].
    pub async fn remove_own_account(
        &self,
        caller: &Caller,
        password: Password,
        from: Option<IpAddr>,
    ) -> Result<(), AuthError> {
        self.confirm(caller, password, from).await?;
        self.remove_user(caller.user.public_id).await.map(drop)
    }

    /// Applies `change` to a user and returns the changed user.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::LastAdmin`], [`AuthError::Store`].
    pub async fn change_user(&self, user: PublicId, change: UserChange) -> Result<User, AuthError> {
        changed(self.store.update_user(user, None, change, self.last_token_expires_at_s()).await?)
    }

    /// Removes a user, which invalidates all their tokens, and returns the removed user.
    ///
    /// # Errors
    /// [`AuthError::UserNotFound`], [`AuthError::LastAdmin`], [`AuthError::Store`].
    pub async fn remove_user(&self, user: PublicId) -> Result<User, AuthError> {
        changed(self.store.remove_user(user, self.last_token_expires_at_s()).await?)
    }

    /// Hashes a new password. `from` is the client's address, or `None` for the operator.
    ///
    /// # Errors
    /// [`AuthError::Busy`].
    pub async fn hash(&self, password: Password, from: Option<IpAddr>) -> Result<PasswordHash, AuthError> {
        Ok(self.hasher.hash(password, from).await?)
    }

    async fn confirm(&self, caller: &Caller, password: Password, from: Option<IpAddr>) -> Result<(), AuthError> {
        let guess = self.throttle.guess(&caller.user.email, from).await?;
        let is_known = self.device(Some(&caller.user), from)?.is_known;
        let verdict = self.hasher.verify(password, Some(caller.user.password_hash.clone()), from, is_known).await?;
        if verdict.matches {
            guess.was_right();
            Ok(())
        } else {
            guess.was_wrong();
            Err(AuthError::WrongPassword)
        }
    }

    fn issue(&self, user: &User) -> AccessToken {
        // I3: after the clock was set back behind the last purge, tokens of that time would be refused from the start.
        let now_s = self.clock.unix_s().max(self.store.purged_through_s());
        let settings = self.tokens.settings();
        let token = NewToken {
            issued_at_s: now_s,
            expires_at_s: now_s + settings.lifetime_s,
            subject: user.public_id,
            admin: user.admin,
            epoch: user.epoch,
        };
        METRICS.tokens_issued.inc();
        AccessToken { user: user.public_id, text: self.tokens.sign(&token), expires_in_s: settings.lifetime_s }
    }

    /// Returns the time at which all tokens issued so far have expired, in seconds since 1970. A login in progress, which may have read the
    /// user before a change, is included.
    fn last_token_expires_at_s(&self) -> u64 {
        let now_s = self.clock.unix_s().max(self.store.purged_through_s()).max(self.tokens.last_issued_at_s());
        now_s + self.tokens.ring().token_lifetime_max_s() + LOGIN_DURATION_MAX_S
    }

    /// Returns the current time in seconds since 1970.
    #[must_use]
    pub fn unix_s(&self) -> u64 {
        self.clock.unix_s()
    }

    /// Returns the current time.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }
}

fn changed(changed: UpdateOutcome) -> Result<User, AuthError> {
    match changed {
        UpdateOutcome::Done(user) => Ok(user),
        UpdateOutcome::NotFound => Err(AuthError::UserNotFound),
        UpdateOutcome::LastAdmin => Err(AuthError::LastAdmin),
    }
}
