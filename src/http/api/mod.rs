//! The resources of the API, one file or folder each, named like their URLs: [`auth`], [`users`], [`keys`],
//! [`service_accounts`] (`/services`), [`token`], [`widgets`].
//!
//! This file puts them together and describes them: which operations there are and what the OpenAPI document says of the API as
//! a whole. [`timestamp`] has the text formats of times that the resources answer with.
//!
//! Guarantees: the document describes the operations that are served and no others. Deliberately absent: decisions about who may
//! call an operation (`middleware::guard`).

pub(in crate::http) mod auth;
pub(in crate::http) mod keys;
pub(in crate::http) mod service_accounts;
mod tag;
pub(in crate::http) mod timestamp;
pub(in crate::http) mod token;
pub(in crate::http) mod users;
pub(in crate::http) mod widgets;

use std::collections::HashMap;

use poem::{endpoint::BoxEndpoint, http::Method};
use poem_openapi::{
    LicenseObject, OpenApi, OpenApiService,
    registry::{MetaApi, Registry},
};

use crate::{
    auth::passwords::policy::PasswordPolicy,
    http::middleware::{
        openapi::{self, Document},
        router::BASE_PATH,
    },
};

const DESCRIPTION: &str = "The login server in one file.\n\n\
    **Try it:** run *Register* (or *Log in*) below, copy the `access_token` of its answer, press **Authorize**, paste it, and \
    run *Who am I*. *Log out* kills that token for good.";

/// Every operation under [`BASE_PATH`] that the document describes.
pub(in crate::http) type Api = (
    auth::AuthApi,
    users::UsersApi,
    keys::KeysApi,
    service_accounts::ServicesApi,
    token::TokenApi,
    token::revocations::RevocationsApi,
    widgets::WidgetsApi,
);

/// The operations of [`Api`] without their state: enough to write the document.
struct ApiWithoutState;

impl OpenApi for ApiWithoutState {
    fn meta() -> Vec<MetaApi> {
        <Api>::meta()
    }

    fn register(registry: &mut Registry) {
        <Api>::register(registry);
    }

    fn add_routes(self, _: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}

/// The OpenAPI document of a server where anyone may register (`signup`) and new passwords must satisfy `policy`.
pub(in crate::http) fn document(signup: bool, policy: &PasswordPolicy) -> Document {
    let license = LicenseObject::new("MIT").url("https://spdx.org/licenses/MIT");
    let service = OpenApiService::new(ApiWithoutState, "latchkey", env!("CARGO_PKG_VERSION"))
        .license(license)
        .description(DESCRIPTION)
        .server(BASE_PATH);
    openapi::complete(&service.spec(), BASE_PATH, signup, policy)
}
