//! The JSON of users: parameters, bodies and responses, as the OpenAPI document shows them.

use poem_openapi::{ApiResponse, Object, registry::MetaSchema, types::Example};
use serde::Serialize;

use crate::{
    auth::passwords::stored_hash::StoredHash,
    http::{
        api::timestamp,
        middleware::{extract::Parameter, json::Json, router::BASE_PATH},
    },
    model::{PublicId, User},
};

/// The `{public_id}` in the path.
pub(super) struct IdParam;

impl Parameter for IdParam {
    fn schema() -> MetaSchema {
        MetaSchema::new_with_format("string", "uuid")
    }
}

/// A user to make.
#[derive(Object)]
#[oai(example)]
pub(super) struct NewUser {
    /// An email address; its letter case does not matter.
    #[oai(validator(max_length = 254))]
    email: String,
    /// Compared in Unicode form NFKC; nothing is trimmed.
    password: String,
    /// Whether the user is an administrator.
    #[oai(default)]
    admin: bool,
}

impl Example for NewUser {
    fn example() -> Self {
        let password = "correct-horse-battery".to_owned();
        Self { email: "colleague@example.com".to_owned(), password, admin: false }
    }
}

/// What to change; what is absent or `null` stays as it is.
#[derive(Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(super) struct Change {
    /// Whether the user is an administrator.
    admin: Option<bool>,
    /// Whether the user is kept out. Disabling ends every session.
    disabled: Option<bool>,
    /// A new password. It ends every session.
    password: Option<String>,
}

impl Example for Change {
    fn example() -> Self {
        Self { admin: None, disabled: Some(true), password: None }
    }
}

/// A user, as administrators see one.
#[derive(Object, Serialize)]
#[oai(rename = "User")]
pub(in crate::http) struct UserJson {
    email: String,
    public_id: String,
    admin: bool,
    disabled: bool,
    /// Such as `02/28/20 11:38:53 PM UTC`.
    registered_on: String,
    registered_on_iso8601: String,
    /// The format of a password hash that another system made, such as `Django pbkdf2_sha256`. A later login replaces the hash, when
    /// no password is queued.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    foreign_password_hash: Option<String>,
    /// The path of this user.
    link: String,
}

impl UserJson {
    pub(in crate::http) fn new(user: &User) -> Self {
        let hash = Some(&user.password_hash).filter(|hash| hash.is_foreign());
        let format = |hash| StoredHash::read(hash).map_or("unknown", |hash| hash.format());
        Self {
            email: user.email.to_string(),
            public_id: user.public_id.to_string(),
            admin: user.admin,
            disabled: user.disabled,
            registered_on: timestamp::us(user.registered_on),
            registered_on_iso8601: timestamp::iso8601(user.registered_on),
            foreign_password_hash: hash.map(|hash| format(hash).to_owned()),
            link: link(user.public_id),
        }
    }
}

#[derive(ApiResponse)]
pub(super) enum Added {
    /// The user was made.
    #[oai(status = 201)]
    Created(
        Json<UserJson>,
        /// The path of the new user.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
pub(super) enum Deleted {
    /// The user is gone, and with the user every token.
    #[oai(status = 204)]
    NoContent,
}

/// Returns the path of a user.
pub(super) fn link(public_id: PublicId) -> String {
    format!("{BASE_PATH}/users/{public_id}")
}
