//! Door 2: HTTP. The only room that knows poem.
//!
//! One page to see what is served: the route table, and the order in which a request passes the layers: the transport with
//! its limits (`transport`, `limits`, `wire`, `head`, `tls`), the frame (`frame`: id, size, CORS, errors), the route (`paths`), the
//! guard (`guard`), the fields of the body (`fields`), the handler, the body of the answer (`json`).
//!
//! Guarantees: a handler decides nothing about who may enter; it takes a guard's type as an argument and cannot be reached
//! without one (I8). Deliberately absent: cookies and sessions.

mod audit;
mod auth;
pub mod bulk;
mod client;
mod error;
mod fields;
mod frame;
mod guard;
mod head;
mod json;
mod limits;
mod moment;
mod openapi;
pub mod operator;
mod ops;
mod pages;
mod paging;
mod paths;
mod tls;
mod tls_client;
mod transport;
mod users;
mod widgets;
mod wire;

use std::{collections::HashMap, sync::Arc};

use poem::{Route, endpoint::BoxEndpoint, http::Method};
use poem_openapi::{
    LicenseObject, OpenApi, OpenApiService, Tags,
    registry::{MetaApi, Registry},
};

use crate::{
    auth::{Auth, password::PasswordPolicy},
    clock::Clock,
    store::Store,
};

pub use client::TrustedProxy;
pub use frame::CorsOrigins;
pub use limits::Limits;
pub use ops::metrics;
pub use tls::{Tls, TlsError};
pub use tls_client::shake_hands;
pub use transport::serve;

/// What all routes of the API begin with.
pub const BASE: &str = "/api/v1";

#[derive(Tags)]
enum Tag {
    /// Register, log in, log out.
    Auth,
    /// Administrators manage users.
    Users,
    /// The protected sample resource: reading needs a token, writing an administrator's.
    Widgets,
}

const DESCRIPTION: &str = "The login server in one file.\n\n\
    **Try it:** run *Register* (or *Log in*) below, copy the `access_token` of its answer, press **Authorize**, paste it, and \
    run *Who am I*. *Log out* kills that token for good.";

/// What the HTTP door needs.
pub struct Parts {
    /// Decides who may enter.
    pub auth: Arc<Auth>,
    /// Keeps the widgets.
    pub store: Arc<Store>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The domain that challenges name.
    pub domain: String,
    /// Whether strangers may register.
    pub signup: bool,
    /// Which web pages may call from a browser.
    pub cors: CorsOrigins,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Whether this server itself speaks TLS, and nothing else.
    pub https: bool,
}

/// Everything under [`BASE`] that the document describes.
type Api = (auth::AuthApi, users::UsersApi, widgets::WidgetsApi);

/// The operations without anything behind them: enough for a document.
struct Shape;

impl OpenApi for Shape {
    fn meta() -> Vec<MetaApi> {
        <Api>::meta()
    }

    fn register(registry: &mut Registry) {
        <Api>::register(registry);
    }

    fn add_routes(self, _: &mut HashMap<String, HashMap<Method, BoxEndpoint<'static>>>) {}
}

/// The OpenAPI document as JSON, of a server with these settings.
#[must_use]
pub fn document(signup: bool, policy: &PasswordPolicy) -> String {
    openapi::complete(&service(Shape).spec(), BASE, signup, policy).json
}

fn service<T: OpenApi>(api: T) -> OpenApiService<T, ()> {
    let license = LicenseObject::new("MIT").url("https://spdx.org/licenses/MIT");
    OpenApiService::new(api, "latchkey", env!("CARGO_PKG_VERSION"))
        .license(license)
        .description(DESCRIPTION)
        .server(BASE)
}

/// Everything that is served, shared by all who serve it.
pub type Routes = Arc<frame::Frame>;

/// Everything that is served.
#[must_use]
pub fn routes(parts: Parts) -> Routes {
    let policy = parts.auth.policy().clone();
    let guard = Arc::new(guard::Guard { auth: parts.auth, domain: parts.domain });
    let auth = auth::AuthApi { guard: Arc::clone(&guard), signup: parts.signup };
    let users = users::UsersApi { guard: Arc::clone(&guard), store: Arc::clone(&parts.store) };
    let widgets = widgets::WidgetsApi { store: Arc::clone(&parts.store), clock: parts.clock };
    let openapi::Document { json, yaml, mut templates } =
        openapi::complete(&service(Shape).spec(), BASE, parts.signup, &policy);
    templates.add(pages::paths(BASE).chain(ops::paths()));
    let pages = pages::Pages { base: BASE, signup: parts.signup, json, yaml };
    let paths = paths::Paths::new(BASE, (auth, users, widgets), ops::add(pages.add(Route::new()), parts.store));
    let Parts { cors, trusted_proxies, https, .. } = parts;
    Arc::new(frame::Frame { paths, guard, cors, trusted_proxies, https, templates })
}
