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

/// The path of the one operation that only reads and whose method is not safe: a token does not go into a URL.
const INTROSPECTION_PATH: &str = "/api/v1/token/introspect";

/// It has no `includeSubDomains`, because the domain may have other servers.
const A_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// All routes with their middleware, shared by all listeners.
pub type Routes = Arc<MiddlewareStack>;

/// The middleware around all routes.
pub struct MiddlewareStack {
    /// The operations and pages.
    pub router: Router,
    /// Authenticates requests. Extractors find it in the request's extensions.
    pub guard: Arc<AuthGuard>,
    /// The origins whose web pages may call the API.
    pub cors: CorsOrigins,
    /// The proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Whether responses have `Strict-Transport-Security` (RFC 6797).
    pub https: bool,
    /// The templates of all served paths, for the log and `Allow`.
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
        // A template contains no data of the request. A path that is not served is logged as requested, up to a length.
        let template = self.templates.of(path);
        let route = template.map_or_else(|| Cow::Owned(loggable(path)), Cow::Borrowed);
        let client = ClientAddress::note(&mut request, &self.trusted_proxies);
        // The span has the level of errors, so that an error is logged with its request whatever the configured level.
        let span = || tracing::error_span!("request", id = id_text, %method, route = &*route, %client);
        // A span takes a fifth of the work of a request. A request that only reads logs nothing unless it fails.
        let only_reads = method.is_safe() && path.starts_with(BASE_PATH) || path == INTROSPECTION_PATH;
        let handling = if only_reads { Span::none() } else { span() };
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
            // poem would remove the body and its length (RFC 9110 §9.3.2); hyper removes only the body.
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

/// Returns the start of a path with everything but visible ASCII percent-encoded. The JSON log would escape neither C1 control characters
/// nor characters that change the direction of text.
fn loggable(path: &str) -> String {
    let escape = |byte: u8| if byte.is_ascii_graphic() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().take(UNKNOWN_PATH_BYTES_MAX).map(escape).collect()
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
