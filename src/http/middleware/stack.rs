//! The middleware stack: what every request passes before its route, and every response after it.
//!
//! Guarantees: each response has a request id, `nosniff` and a cache rule. Each error has the API's shape, also when a handler panics. The
//! log contains no query, no header and no body, because any of them may carry a secret.

use std::{any::Any, borrow::Cow, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures_util::FutureExt as _;
use poem::{
    Endpoint, Request, Response,
    http::{HeaderValue, Method, header},
};
use tracing::{Instrument as _, Span};

use crate::{
    http::{
        connection::trusted_proxy::TrustedProxy,
        middleware::{
            client_address::ClientAddress,
            cors::{self, CorsOrigins},
            error::ApiError,
            guard::AuthGuard,
            openapi::PathTemplates,
            request_id, request_limits,
            router::{BASE_PATH, Router},
        },
    },
    metrics::METRICS,
};

/// How many bytes are logged of a path that is not served.
const UNKNOWN_PATH_BYTES_MAX: usize = 200;

/// Without `includeSubDomains`: other servers of the domain are not ours.
const A_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Everything that is served, shared by all listeners.
pub type Routes = Arc<MiddlewareStack>;

/// Wraps the routes.
pub struct MiddlewareStack {
    /// What answers.
    pub router: Router,
    /// Lets in; routes find it with the request.
    pub guard: Arc<AuthGuard>,
    /// Who may call from a browser.
    pub cors: CorsOrigins,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Whether browsers are told to come over TLS from now on (RFC 6797).
    pub https: bool,
    /// What is served.
    pub templates: PathTemplates,
}

impl Endpoint for MiddlewareStack {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let id = request_id::of(request.headers());
        let id_text = id.to_str().unwrap_or_default();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let path = uri.path();
        let origin = request.headers().get(header::ORIGIN).cloned();
        // A template has no names in it. What is not served is logged as it was asked for, up to a length.
        let template = self.templates.of(path);
        let route = template.map_or_else(|| Cow::Owned(loggable(path)), Cow::Borrowed);
        let client = ClientAddress::note(&mut request, &self.trusted_proxies);
        // At the level of errors, so that an error says its request also where nothing else is logged.
        let span = || tracing::error_span!("request", id = id_text, %method, route = &*route, %client);
        // A span takes a fifth of the work of a request. What only reads from the API has nothing to log unless it fails.
        let handling = if method.is_safe() && path.starts_with(BASE_PATH) { Span::none() } else { span() };
        let started = Instant::now();
        let answer = self.answer(request, path).instrument(handling.clone()).await;
        let mut response = answer.unwrap_or_else(|error| {
            let failing = if handling.is_none() { span() } else { handling };
            failing.in_scope(|| error.into_response())
        });
        let (took, status) = (started.elapsed(), response.status().as_u16());
        let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // The target is part of the log's format: operators filter by it (`--log latchkey::http::frame=warn`).
        tracing::info!(
            target: "latchkey::http::frame", id = id_text, %method, route = &*route, %client, status, duration_us, "answered"
        );
        METRICS.count_request(template, method.as_str(), status, took);

        let headers = response.headers_mut();
        headers.insert(request_id::X_REQUEST_ID, id);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if self.https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, A_YEAR);
        }
        self.cors.add_to(headers, origin.as_ref());
        Ok(response)
    }
}

impl MiddlewareStack {
    async fn answer(&self, mut request: Request, path: &str) -> Result<Response, ApiError> {
        request_limits::check(&request, path)?;
        request_limits::read_body(&mut request).await?;
        if cors::is_preflight(&request) {
            return Ok(cors::preflight());
        }
        if request.method() == Method::HEAD {
            // poem would take the body off and with it the length (RFC 9110 §9.3.2); hyper takes off the body alone.
            request.set_method(Method::GET);
        }
        request.set_data(Arc::clone(&self.guard));
        match AssertUnwindSafe(self.router.call(request)).catch_unwind().await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(ApiError::from_poem(error, || self.templates.allow(path))),
            Err(panic) => {
                METRICS.panics.inc();
                Err(ApiError::Internal(format!("a handler panicked: {}", panic_text(&*panic))))
            }
        }
    }
}

/// The beginning of a path, with everything percent-encoded that should have been: a log of JSON escapes neither C1 controls nor
/// what turns the direction of text.
fn loggable(path: &str) -> String {
    let escape = |byte: u8| if byte.is_ascii_graphic() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().take(UNKNOWN_PATH_BYTES_MAX).map(escape).collect()
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
