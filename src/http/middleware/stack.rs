//! The middleware stack: what every request passes before its route, and every response after it.
//!
//! Guarantees: each response has a request id, `nosniff` and a cache rule. Each error has the API's shape, also when a handler panics. A
//! request whose line or header is too large or malformed is rejected before anything else reads it. The log contains no query, no
//! header and no body, because any of them may carry a secret.

use std::{any::Any, borrow::Cow, panic::AssertUnwindSafe, sync::Arc, time::Instant};

use futures_util::FutureExt as _;
use poem::{
    Endpoint, Request, Response,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
};
use tokio::io::AsyncReadExt as _;
use tracing::{Instrument as _, Span};
use uuid::{Uuid, fmt::Simple};

use crate::{
    http::{
        BASE,
        connection::{head_validator::Refusal, limits::ConnectionState},
        middleware::{
            client_address::{Client, TrustedProxy},
            error::ApiError,
            extract::BODY_BYTES_MAX,
            guard::Guard,
            openapi::Templates,
            router::Router,
        },
    },
    metrics::METRICS,
    random,
};

/// The longest path with its query, in bytes.
const URL_BYTES_MAX: usize = 8 * 1024;
/// The most bytes of the names and values of the header fields.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// How much of a body that is too large is read all the same and thrown away. A client reads the answer only after it has
/// sent its request, and a connection that is closed in between looks like a broken server.
const BODY_BYTES_DISCARDED_MAX: u64 = 1024 * 1024;
/// How many bytes are logged of a path that is not served.
const UNKNOWN_PATH_BYTES_MAX: usize = 200;
/// The longest request id that is kept.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Without `includeSubDomains`: other servers of the domain are not ours.
const A_YEAR: HeaderValue = HeaderValue::from_static("max-age=31536000");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a browser may remember the answer to a preflight, in seconds.
const PREFLIGHT_MAX_AGE_S: &str = "86400";
const EXPOSED: &str = "Link, Location, Retry-After, Total-Count, WWW-Authenticate, X-Request-Id";
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// Which web pages may call the API from a browser (the CORS protocol of the Fetch standard).
#[derive(Debug, Clone)]
pub enum CorsOrigins {
    /// All of them: tokens are sent by hand and not by the browser, so a foreign page gets nothing it does not have.
    Any,
    /// Those of these origins, such as `https://app.example.com`, and our own.
    Only(Vec<String>),
}

impl CorsOrigins {
    fn allowing(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        match self {
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Only(origins) => {
                origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
            }
        }
    }
}

/// Wraps the routes.
pub struct MiddlewareStack {
    /// What answers.
    pub router: Router,
    /// Lets in; routes find it with the request.
    pub guard: Arc<Guard>,
    /// Who may call from a browser.
    pub cors: CorsOrigins,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Whether browsers are told to come over TLS from now on (RFC 6797).
    pub https: bool,
    /// What is served.
    pub templates: Templates,
}

impl Endpoint for MiddlewareStack {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let id = request_id(request.headers());
        let id_text = id.to_str().unwrap_or_default();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let path = uri.path();
        let origin = request.headers().get(header::ORIGIN).cloned();
        // A template has no names in it. What is not served is logged as it was asked for, up to a length.
        let template = self.templates.of(path);
        let route = template.map_or_else(|| Cow::Owned(loggable(path)), Cow::Borrowed);
        let client = Client::note(&mut request, &self.trusted_proxies);
        // At the level of errors, so that an error says its request also where nothing else is logged.
        let span = || tracing::error_span!("request", id = id_text, %method, route = &*route, %client);
        // A span takes a fifth of the work of a request. What only reads from the API has nothing to log unless it fails.
        let handling = if method.is_safe() && path.starts_with(BASE) { Span::none() } else { span() };
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
        headers.insert(X_REQUEST_ID, id);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if self.https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, A_YEAR);
        }
        self.add_cors(headers, origin.as_ref());
        Ok(response)
    }
}

impl MiddlewareStack {
    async fn answer(&self, mut request: Request, path: &str) -> Result<Response, ApiError> {
        check(&request, path)?;
        read_body(&mut request).await?;
        if is_preflight(&request) {
            return Ok(preflight());
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

    fn add_cors(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        if matches!(self.cors, CorsOrigins::Only(_)) {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(allowed) = origin.and_then(|origin| self.cors.allowing(origin)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

fn check(request: &Request, path: &str) -> Result<(), ApiError> {
    let headers = request.headers();
    let url_bytes = request.uri().path_and_query().map_or(0, |url| url.as_str().len());
    let header_bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let refusal = request.extensions().get::<Refusal>();
    if refusal == Some(&Refusal::Malformed) {
        Err(ApiError::bad_request("The request header is malformed"))
    } else if url_bytes > URL_BYTES_MAX {
        Err(ApiError::UrlTooLong)
    } else if refusal == Some(&Refusal::TooManyFields) || header_bytes > HEADER_BYTES_MAX {
        Err(ApiError::HeadersTooLarge)
    } else if path.starts_with(BASE) && percent_encoding::percent_decode_str(path).decode_utf8().is_err() {
        Err(ApiError::bad_request("The path is not valid UTF-8"))
    } else {
        Ok(())
    }
}

/// Reads the body before anything is decided, so that an answer never overtakes the request. A route sees one byte more of a
/// body that is too large, and refuses it in its turn.
async fn read_body(request: &mut Request) -> Result<(), ApiError> {
    let body = request.take_body();
    if body.is_empty() {
        return Ok(());
    }
    let broken = |_| ApiError::bad_request("The body ended before it was complete");
    let mut reader = body.into_async_read();
    let mut bytes = Vec::new();
    (&mut reader).take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await.map_err(broken)?;
    if bytes.len() > BODY_BYTES_MAX {
        let mut rest = reader.take(BODY_BYTES_DISCARDED_MAX);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await.map_err(broken)?;
    }
    if let Some(connection_state) = request.extensions().get::<Arc<ConnectionState>>() {
        connection_state.body_ended();
    }
    request.set_body(bytes);
    Ok(())
}

/// The beginning of a path, with everything percent-encoded that should have been: a log of JSON escapes neither C1 controls nor
/// what turns the direction of text.
fn loggable(path: &str) -> String {
    let escape = |byte: u8| if byte.is_ascii_graphic() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    path.bytes().take(UNKNOWN_PATH_BYTES_MAX).map(escape).collect()
}

/// A sane id that came with the request is kept, so that a proxy's log and ours can be read together.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |id: &&HeaderValue| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(byte))
    };
    headers.get(X_REQUEST_ID).filter(sane).cloned().unwrap_or_else(|| {
        let mut digits = [0; Simple::LENGTH];
        let name = Uuid::from_u128(random::name()).simple().encode_lower(&mut digits);
        HeaderValue::from_str(name).expect("BUG: hexadecimal digits are a header value")
    })
}

fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS)
        .header(header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, X-Request-Id")
        .header(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE_S)
        .finish()
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
