//! CORS: which web pages may call the API from a browser (the CORS protocol of the Fetch standard).
//!
//! Guarantees: an origin that is not configured gets no CORS field. A cache keeps the responses to different origins apart (`Vary`).
//!
//! Why not poem's `Cors`: it answers a request of another origin with 403, also where it comes from no browser, and it leaves `Vary` out of
//! responses to requests without `Origin`, which a cache would then serve to other origins.

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};

/// How long a browser may cache the response to a preflight request, in seconds.
const PREFLIGHT_MAX_AGE_S: &str = "86400";
const EXPOSED: &str = "Link, Location, Retry-After, Total-Count, WWW-Authenticate, X-Request-Id";
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";

/// Which web pages may call the API from a browser (the CORS protocol of the Fetch standard).
#[derive(Debug, Clone)]
pub enum CorsOrigins {
    /// Pages of any origin. This is safe because browsers do not attach tokens by themselves, as they do with cookies.
    Any,
    /// Pages of these origins, such as `https://app.example.com`, and our own.
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

    /// Adds the CORS fields to the response to a request from `origin`.
    pub(in crate::http) fn add_to(&self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        if matches!(self, CorsOrigins::Only(_)) {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(allowed) = origin.and_then(|origin| self.allowing(origin)) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
        }
    }
}

/// Whether `request` is a preflight request.
pub(in crate::http) fn is_preflight(request: &Request) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// Returns the response to a preflight request, without the fields that depend on the origin.
pub(in crate::http) fn preflight() -> Response {
    Response::builder()
        .status(StatusCode::NO_CONTENT)
        .header(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS)
        .header(header::ACCESS_CONTROL_ALLOW_HEADERS, "Authorization, Content-Type, X-Request-Id")
        .header(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_MAX_AGE_S)
        .finish()
}
