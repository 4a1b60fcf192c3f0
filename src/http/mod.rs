//! HTTP, and the only floor that uses poem. This page shows the path of a request from top to bottom.
//!
//! | folder | what happens there |
//! | --- | --- |
//! | `connection` | a connection is accepted, limited and deciphered; each request head is validated before hyper parses it |
//! | `middleware` | request id, sizes, CORS, log line, router, guard, body, errors: what every request passes, and shared tools |
//! | `api` | the operations: `auth`, `users`, `keys`, `service_accounts`, `token`, `widgets`, and the OpenAPI document |
//! | `pages` | what a browser gets: the start page, Swagger UI, the document; health checks and metrics |
//! | `operator` | the admin socket: the same routes for the operator of this machine, and transfers of whole files |
//!
//! Guarantees: a handler decides nothing about who may enter; it takes a guard's type as an argument and cannot be reached
//! without one (I8). Deliberately absent: cookies and sessions.

mod api;
mod connection;
mod middleware;
pub mod operator;
mod pages;

use std::{sync::Arc, time::Duration};

use poem::Route;
use tokio::sync::watch;

use crate::{
    auth::{Auth, passwords::policy::PasswordPolicy},
    clock::Clock,
    store::Store,
};
use api::{
    auth::AuthApi,
    keys::KeysApi,
    service_accounts::ServicesApi,
    token::{
        TokenApi,
        revocations::{RevocationFeed, RevocationsApi},
    },
    users::UsersApi,
    widgets::WidgetsApi,
};
use middleware::{guard::AuthGuard, openapi::Document, router::Router, stack::MiddlewareStack};
use pages::{Pages, health, well_known};

pub use connection::trusted_proxy::TrustedProxy;
pub use connection::{
    acceptor::serve,
    limits::ConnectionLimits,
    tls::{Tls, TlsError},
    tls_client::connect_tls_unverified,
};
pub use middleware::{cors::CorsOrigins, router::BASE_PATH, stack::Routes};
pub use pages::health::metrics;

/// What the routes depend on.
pub struct RouteDependencies {
    /// Registration, login, tokens, and the rights of users.
    pub auth: Arc<Auth>,
    /// The open database.
    pub store: Arc<Store>,
    /// The clock that deadlines are compared with.
    pub clock: Arc<dyn Clock>,
    /// The domain in the realm of `WWW-Authenticate`.
    pub domain: String,
    /// Whether anyone may register.
    pub signup: bool,
    /// The origins whose web pages may call the API.
    pub cors: CorsOrigins,
    /// The proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Whether the listener uses TLS.
    pub https: bool,
    /// How long a request may wait for an event.
    pub wait_max: Duration,
    /// Becomes `true` when the server stops, which ends waiting requests.
    pub stopping: watch::Receiver<bool>,
}

/// Returns the OpenAPI document as JSON, of a server with these settings.
#[must_use]
pub fn document(signup: bool, policy: &PasswordPolicy) -> String {
    api::document(signup, policy).json
}

/// Builds all routes with their middleware.
#[must_use]
pub fn routes(dependencies: RouteDependencies) -> Routes {
    let RouteDependencies { auth, store, clock, domain, signup, cors, trusted_proxies, https, .. } = dependencies;
    let RouteDependencies { wait_max, stopping, .. } = dependencies;
    let revocations = RevocationsApi(Arc::new(RevocationFeed {
        store: Arc::clone(&store),
        clock: Arc::clone(&clock),
        wait_max,
        stopping,
    }));
    let policy = auth.policy().clone();
    let guard = Arc::new(AuthGuard { auth, domain });
    let auth = AuthApi { guard: Arc::clone(&guard), signup };
    let users = UsersApi { guard: Arc::clone(&guard), store: Arc::clone(&store) };
    let keys = KeysApi { guard: Arc::clone(&guard) };
    let services = ServicesApi { guard: Arc::clone(&guard) };
    let token = TokenApi { guard: Arc::clone(&guard) };
    let widgets = WidgetsApi { store: Arc::clone(&store), clock };
    let Document { json, yaml, mut templates } = api::document(signup, &policy);
    templates.add(
        pages::paths(BASE_PATH)
            .chain(health::paths())
            .chain(well_known::paths(guard.auth.tokens().settings().issuer.as_deref())),
    );
    let pages = Pages { base: BASE_PATH, signup, json, yaml };
    let pages = well_known::add(health::add(pages.add(Route::new()), store), Arc::clone(&guard.auth));
    let router = Router::new(BASE_PATH, (auth, users, keys, services, token, revocations, widgets), pages);
    Arc::new(MiddlewareStack { router, guard, cors, trusted_proxies, https, templates })
}
