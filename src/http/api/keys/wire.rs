//! The JSON of signing keys: parameters, bodies and responses, as the OpenAPI document shows them.

use poem_openapi::{
    ApiResponse, Object,
    registry::MetaSchema,
    types::{Any, Example},
};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    auth::tokens::Ring,
    http::{
        api::timestamp,
        middleware::{extract::Parameter, json::Json, router::BASE_PATH},
    },
    model::{KeyState, StoredKey},
};

/// The `{kid}` in the path.
pub(super) struct KidParam;

impl Parameter for KidParam {
    fn schema() -> MetaSchema {
        MetaSchema::new("string")
    }
}

/// How the key is replaced.
#[derive(Object)]
#[oai(example)]
pub(super) struct Rotation {
    /// `ES256`, `EdDSA`, `RS256` or `HS256`. By default as `--signing-algorithm` says.
    #[oai(validator(pattern = "^(ES256|EdDSA|RS256|HS256)$"))]
    algorithm: Option<String>,
    /// Whether it signs at once, because the key before has leaked. A verifier with cached keys may refuse its tokens for a few minutes.
    #[oai(default)]
    now: bool,
}

impl Example for Rotation {
    fn example() -> Self {
        Self { algorithm: Some("EdDSA".to_owned()), now: false }
    }
}

/// A key that signs tokens, without its private part.
#[derive(Object, Serialize)]
#[oai(rename = "SigningKey")]
pub(in crate::http) struct KeyJson {
    /// The id of the key, as in the header of the tokens that it signs.
    kid: String,
    /// `ES256`, `EdDSA`, `RS256` or `HS256`.
    algorithm: String,
    /// `next`: it signs soon. `current`: it signs. `retired`: tokens that it signed are good until they expire.
    state: String,
    /// When it was made.
    created_at: String,
    /// From when it signs, or since when.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    signs_from: Option<String>,
    /// Since when it signs no more.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    retired_at: Option<String>,
    /// When it is removed, because the last token that it signed has expired.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    removed_at: Option<String>,
    /// The public key (RFC 7517 §4). HS256 has none.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    jwk: Option<Any<Value>>,
}

impl KeyJson {
    /// Describes `key`. `ring` has its public part.
    pub(in crate::http) fn new(key: &StoredKey, ring: &Ring) -> Self {
        let (signs_from, retired_at, removed_at) = match key.state {
            KeyState::Next { signs_from_s } => (Some(signs_from_s), None, None),
            KeyState::Current { since_s } => (Some(since_s), None, None),
            KeyState::Retired { since_s, until_s } => (None, Some(since_s), Some(until_s)),
        };
        let jwk = ring.keys().iter().find(|used| used.key().kid == key.kid).and_then(|used| used.key().jwk());
        Self {
            kid: key.kid.clone(),
            algorithm: key.algorithm.to_string(),
            state: key.state.name().to_owned(),
            created_at: moment(key.created_at_s),
            signs_from: signs_from.map(moment),
            retired_at: retired_at.map(moment),
            removed_at: removed_at.map(moment),
            jwk: jwk.map(|jwk| Any(serde_json::to_value(jwk).expect("BUG: a key of plain text serializes"))),
        }
    }
}

/// All signing keys.
#[derive(Object, Serialize)]
pub(super) struct KeyList {
    /// In the order in which they were made.
    pub(super) items: Vec<KeyJson>,
}

#[derive(ApiResponse)]
pub(super) enum Rotated {
    /// The key was made.
    #[oai(status = 201)]
    Created(
        Json<KeyJson>,
        /// The path of the new key.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
pub(super) enum KeyRemoved {
    /// The key is gone, and every token that it signed is invalid.
    #[oai(status = 204)]
    NoContent,
}

/// Returns the path of a key.
pub(super) fn link(kid: &str) -> String {
    format!("{BASE_PATH}/keys/{kid}")
}

/// Returns a time in seconds since 1970 as of RFC 3339.
fn moment(unix_s: u64) -> String {
    let moment = i64::try_from(unix_s).ok().and_then(|unix_s| OffsetDateTime::from_unix_timestamp(unix_s).ok());
    timestamp::iso8601(moment.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}
