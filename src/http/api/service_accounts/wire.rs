//! The JSON of services: parameters, bodies and responses, as the OpenAPI document shows them.

use poem_openapi::{ApiResponse, Object, registry::MetaSchema, types::Example};
use serde::Serialize;

use crate::{
    auth::service_accounts::ServiceSecret,
    http::{
        api::timestamp,
        middleware::{extract::Parameter, json::Json, router::BASE_PATH},
    },
    model::{Service, ServiceId},
};

/// The `{id}` in the path.
pub(super) struct IdParam;

impl Parameter for IdParam {
    fn schema() -> MetaSchema {
        MetaSchema::new_with_format("string", "uuid")
    }
}

/// A service to make.
#[derive(Object)]
#[oai(example)]
pub(super) struct NewService {
    /// ASCII letters, digits, `.`, `_` and `-`; unique, whatever its letter case.
    #[oai(validator(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]+$"))]
    name: String,
}

impl Example for NewService {
    fn example() -> Self {
        Self { name: "billing".to_owned() }
    }
}

/// What to change; what is absent or `null` stays as it is.
#[derive(Object)]
#[oai(rename = "ServiceChange", example, skip_serializing_if_is_none)]
pub(super) struct Change {
    /// Whether the service is refused.
    disabled: Option<bool>,
}

impl Example for Change {
    fn example() -> Self {
        Self { disabled: Some(true) }
    }
}

/// What happens to the secret before.
#[derive(Object)]
#[oai(rename = "SecretRotation", example, skip_serializing_if_is_none)]
pub(super) struct Rotation {
    /// How long the secret before stays valid: `90s`, `15m`, `24h` or `7d`, at most `365d`. Without it, it is refused at once.
    #[oai(validator(pattern = "^[1-9][0-9]{0,7}[smhd]$"))]
    keep_old: Option<String>,
}

impl Example for Rotation {
    fn example() -> Self {
        Self { keep_old: Some("24h".to_owned()) }
    }
}

/// A service, without its secret.
#[derive(Object, Serialize)]
#[oai(rename = "Service")]
pub(super) struct ServiceJson {
    /// The user name of HTTP Basic.
    id: String,
    name: String,
    disabled: bool,
    created_at_iso8601: String,
    /// When its secret was made.
    rotated_at_iso8601: String,
    /// Until when the secret before is valid; absent if it is not.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_valid_until_iso8601: Option<String>,
    /// The path of this service.
    link: String,
}

impl ServiceJson {
    /// Returns what is shown of `service` at `now_s`, in seconds since 1970.
    pub(super) fn new(service: &Service, now_s: u64) -> Self {
        Self {
            id: service.id.to_string(),
            name: service.name.to_string(),
            disabled: service.disabled,
            created_at_iso8601: timestamp::iso8601(service.created_at),
            rotated_at_iso8601: timestamp::iso8601(service.rotated_at),
            old_secret_valid_until_iso8601: old_secret_valid_until(service, now_s),
            link: link(service.id),
        }
    }
}

fn old_secret_valid_until(service: &Service, now_s: u64) -> Option<String> {
    let replaced = service.replaced_secret.as_ref().filter(|replaced| replaced.is_valid(now_s))?;
    Some(timestamp::iso8601(replaced.valid_until()))
}

/// All services.
#[derive(Object, Serialize)]
pub(super) struct ServiceList {
    /// In order of creation.
    pub(super) items: Vec<ServiceJson>,
}

/// A service and its secret, which is shown this once.
#[derive(Object, Serialize)]
#[oai(rename = "ServiceSecret")]
pub(super) struct SecretJson {
    /// The user name of HTTP Basic.
    id: String,
    name: String,
    /// The password of HTTP Basic. It begins with `lks_`.
    secret: String,
    /// Until when the secret before is valid; absent if it is not.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    old_secret_valid_until_iso8601: Option<String>,
    /// The path of this service.
    link: String,
}

impl SecretJson {
    pub(super) fn new(service: &Service, secret: &ServiceSecret) -> Self {
        Self {
            id: service.id.to_string(),
            name: service.name.to_string(),
            secret: secret.as_str().to_owned(),
            old_secret_valid_until_iso8601: old_secret_valid_until(service, 0),
            link: link(service.id),
        }
    }
}

#[derive(ApiResponse)]
pub(super) enum Added {
    /// The service was made; its secret.
    #[oai(status = 201)]
    Created(
        Json<SecretJson>,
        /// The path of the new service.
        #[oai(header = "Location")]
        String,
        /// `no-cache`, for caches that know nothing newer.
        #[oai(header = "Pragma")]
        String,
    ),
}

#[derive(ApiResponse)]
pub(super) enum Rotated {
    /// The new secret.
    #[oai(status = 200)]
    Ok(
        Json<SecretJson>,
        /// `no-cache`, for caches that know nothing newer.
        #[oai(header = "Pragma")]
        String,
    ),
}

#[derive(ApiResponse)]
pub(super) enum Deleted {
    /// The service is gone.
    #[oai(status = 204)]
    NoContent,
}

/// Returns the path of a service.
pub(super) fn link(id: ServiceId) -> String {
    format!("{BASE_PATH}/services/{id}")
}
