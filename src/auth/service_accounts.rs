//! Services: the accounts of programs that ask about tokens. How they are made and changed, and how they authenticate.
//!
//! Guarantees: a secret has 256 random bits and is stored as its SHA-256 hash. A change acts at the next request. Good credentials are
//! never counted or slowed; wrong ones are counted by the client's address, together with logins. Deliberately absent: rights of a single
//! service; each of them may ask about every token.

use std::{net::IpAddr, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{
    auth::{Auth, AuthError},
    model::{SecretHash, SecretRotation, Service, ServiceChange, ServiceId, ServiceName},
    random,
    store::{InsertServiceOutcome, ServiceIndex},
};

/// What each secret begins with, so that programs that search for leaked secrets know it.
pub const SECRET_PREFIX: &str = "lks_";
/// The length of a secret: the prefix and 32 bytes in base64url.
const SECRET_BYTES: usize = SECRET_PREFIX.len() + 43;

/// The longest time that a replaced secret stays valid.
const KEEP_OLD_MAX: Duration = Duration::from_hours(365 * 24);

/// A new secret of a service. It is shown once and stored nowhere; it has no `Debug`.
pub struct ServiceSecret(Zeroizing<String>);

impl ServiceSecret {
    fn new() -> Self {
        let bytes = Zeroizing::new(random::bytes::<32>());
        let text = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        Self(Zeroizing::new(format!("{SECRET_PREFIX}{}", *text)))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a service authenticates with.
#[derive(Clone, Copy)]
pub enum ServiceCredentials<'a> {
    /// The id and the secret (RFC 6749 §2.3.1). The id is `None` if its text is no id.
    Basic(Option<ServiceId>, &'a str),
    /// The secret alone.
    Bearer(&'a str),
}

/// The text does not say how long a replaced secret stays valid.
#[derive(Debug, thiserror::Error)]
#[error("must be from 1s to 365d, such as 90s, 15m, 24h or 7d")]
pub struct KeepOldError;

/// Parses how long a replaced secret stays valid: a whole number of seconds, minutes, hours or days, from `1s` to `365d`.
///
/// # Errors
/// [`KeepOldError`].
pub fn parse_keep_old(text: &str) -> Result<Duration, KeepOldError> {
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(KeepOldError)?;
    let seconds_each = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return Err(KeepOldError),
    };
    let well_formed = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    let count = digits.parse::<u32>().ok().filter(|_| well_formed).ok_or(KeepOldError)?;
    let keep_old = Duration::from_secs(u64::from(count) * seconds_each);
    if keep_old <= KEEP_OLD_MAX { Ok(keep_old) } else { Err(KeepOldError) }
}

/// Returns the hash of `secret`, or `None` if it does not have the form of a secret.
fn hash(secret: &str) -> Option<SecretHash> {
    let well_formed = secret.len() == SECRET_BYTES && secret.starts_with(SECRET_PREFIX);
    well_formed.then(|| SecretHash(Sha256::digest(secret).into()))
}

/// Whether `given` is the hash of a secret of `service` that is valid at `now_s`, in seconds since 1970.
fn is_secret_of(service: &Service, given: SecretHash, now_s: u64) -> bool {
    let is = |hash: SecretHash| bool::from(hash.0.ct_eq(&given.0));
    let replaced = service.replaced_secret.filter(|replaced| replaced.is_valid(now_s));
    is(service.secret) | replaced.is_some_and(|replaced| is(replaced.hash))
}

impl Auth {
    /// Verifies the credentials of a service and returns the service. `from` is the client's address.
    ///
    /// # Errors
    /// [`AuthError::ServiceRefused`] if the service does not exist or is disabled, or the secret is wrong; [`AuthError::Throttled`] instead
    /// after too many of these from one address; [`AuthError::Store`].
    pub fn authenticate_service(
        &self,
        credentials: ServiceCredentials<'_>,
        from: Option<IpAddr>,
    ) -> Result<Arc<Service>, AuthError> {
        let services = self.store.services()?;
        let (ServiceCredentials::Basic(_, secret) | ServiceCredentials::Bearer(secret)) = credentials;
        let given = hash(secret);
        let found = given.and_then(|given| match credentials {
            ServiceCredentials::Basic(id, _) => id.and_then(|id| services.find(id)),
            ServiceCredentials::Bearer(_) => services.find_by_secret(given),
        });
        let now_s = self.clock.unix_s();
        let good = found.filter(|service| given.is_some_and(|given| is_secret_of(service, given, now_s)));
        if let Some(service) = good.filter(|service| !service.disabled) {
            return Ok(Arc::clone(service));
        }
        // After the verification, so that a program with a good secret is let in whatever another one at its address sends. Nobody guesses
        // 256 random bits; the limit keeps a program with a wrong secret from filling the log.
        self.throttle.count_wrong_secret(from)?;
        Err(AuthError::ServiceRefused)
    }

    /// Returns all services, in the order of creation.
    ///
    /// # Errors
    /// [`AuthError::Store`].
    pub fn services(&self) -> Result<Arc<ServiceIndex>, AuthError> {
        Ok(self.store.services()?)
    }

    /// Returns a service.
    ///
    /// # Errors
    /// [`AuthError::ServiceNotFound`], [`AuthError::Store`].
    pub fn find_service(&self, id: ServiceId) -> Result<Service, AuthError> {
        self.store.services()?.find(id).map(|service| Service::clone(service)).ok_or(AuthError::ServiceNotFound)
    }

    /// Adds a service and returns it with its secret. It is on disk when this returns (I1).
    ///
    /// # Errors
    /// [`AuthError::ServiceNameTaken`], [`AuthError::TooManyServices`], [`AuthError::Store`].
    pub async fn add_service(&self, name: ServiceName) -> Result<(Service, ServiceSecret), AuthError> {
        let (now, secret) = (self.clock.now(), ServiceSecret::new());
        let service = Service {
            id: ServiceId::new(now),
            name,
            secret: hash(secret.as_str()).expect("BUG: a new secret has the form of a secret"),
            replaced_secret: None,
            disabled: false,
            created_at: now.truncate_to_second(),
            rotated_at: now.truncate_to_second(),
        };
        match self.store.insert_service(service.clone()).await? {
            InsertServiceOutcome::Done => Ok((service, secret)),
            InsertServiceOutcome::NameTaken => Err(AuthError::ServiceNameTaken(service.name)),
            InsertServiceOutcome::TooMany => Err(AuthError::TooManyServices),
        }
    }

    /// Gives a service a new secret and returns both. The secret before stays valid for `keep_old`, or becomes invalid at once if that is
    /// `None`. A secret that was replaced earlier becomes invalid at once.
    ///
    /// # Errors
    /// [`AuthError::ServiceNotFound`], [`AuthError::Store`].
    pub async fn rotate_service_secret(
        &self,
        id: ServiceId,
        keep_old: Option<Duration>,
    ) -> Result<(Service, ServiceSecret), AuthError> {
        let (now, secret) = (self.clock.now().truncate_to_second(), ServiceSecret::new());
        let rotation = SecretRotation {
            secret: hash(secret.as_str()).expect("BUG: a new secret has the form of a secret"),
            old_valid_until: keep_old.map(|keep_old| now + keep_old),
            rotated_at: now,
        };
        let change = ServiceChange { rotation: Some(rotation), ..ServiceChange::default() };
        self.change_service(id, change).await.map(|service| (service, secret))
    }

    /// Changes a service and returns it after the change, which is on disk when this returns (I1).
    ///
    /// # Errors
    /// [`AuthError::ServiceNotFound`], [`AuthError::Store`].
    pub async fn change_service(&self, id: ServiceId, change: ServiceChange) -> Result<Service, AuthError> {
        self.store.update_service(id, change).await?.ok_or(AuthError::ServiceNotFound)
    }

    /// Removes a service and returns it. Its secret is invalid when this returns.
    ///
    /// # Errors
    /// [`AuthError::ServiceNotFound`], [`AuthError::Store`].
    pub async fn remove_service(&self, id: ServiceId) -> Result<Service, AuthError> {
        self.store.remove_service(id).await?.ok_or(AuthError::ServiceNotFound)
    }
}
