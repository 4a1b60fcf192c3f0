//! The JSON of `/token`, as the OpenAPI document shows it.

use poem_openapi::{Object, types::Example};
use serde::Serialize;
use serde_json::{Value, json};

use crate::auth::Caller;

/// A token that a service asks about.
#[derive(Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct GivenToken {
    /// The access token. Any other text is taken as a token that is not valid.
    token: String,
    /// Has no effect: there is one type of token.
    token_type_hint: Option<String>,
}

impl Example for GivenToken {
    fn example() -> Self {
        let token =
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIwMWEyMWY5ZiJ9.AUqd9Knf0ic1_5a-8nmpnXlUUBhKOFkrnX0BnjTGRQA";
        Self { token: token.to_owned(), token_type_hint: Some("access_token".to_owned()) }
    }
}

/// What is known of a token (RFC 7662 §2.2). All members but `active` are absent if the token is not valid.
#[derive(Default, Object, Serialize)]
#[oai(skip_serializing_if_is_none)]
pub(super) struct Introspection {
    /// Whether the token is valid now.
    active: bool,
    /// The public id of its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// The email of its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// The email of its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Whether its user is an administrator now.
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<bool>,
    /// `admin` if its user is an administrator now, else empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// When it was issued: seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    /// When it expires: seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    /// The URL of the server that issued it, if the token has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<String>,
    /// Whom it is for, if the token says so: a text, or a list of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<Value>,
    /// Names the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    /// Always `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<String>,
}

impl Introspection {
    /// Returns what is said of every token that is not valid.
    pub(super) fn inactive() -> Self {
        Self::default()
    }

    /// Returns what is said of the valid token of `caller`. The rights are those of the stored user, not those in the token (I8).
    pub(super) fn new(caller: &Caller) -> Self {
        let (user, claims) = (caller.user(), caller.claims());
        let aud = match claims.audience.as_slice() {
            [] => None,
            [name] => Some(json!(name)),
            several => Some(json!(several)),
        };
        Self {
            active: true,
            sub: Some(user.public_id.to_string()),
            username: Some(user.email.to_string()),
            email: Some(user.email.to_string()),
            admin: Some(user.admin),
            scope: Some(if user.admin { "admin".to_owned() } else { String::new() }),
            iat: Some(claims.issued_at_s),
            exp: Some(claims.expires_at_s),
            iss: claims.issuer.clone(),
            aud,
            jti: Some(claims.token_id.to_string()),
            token_type: Some("Bearer".to_owned()),
        }
    }
}
