//! The one bridge from an error to bytes: status, body, `WWW-Authenticate`, `Retry-After`.
//!
//! Guarantees: every error of the API has one shape (`{"status":"fail","message":…,"errors":…}`); every 401 says how to
//! authenticate (RFC 9110 §11.6.1, RFC 6750 §3); the cause of a 5xx goes to the log once, here, and never to the client.

use std::{collections::BTreeMap, time::Duration};

use poem::{
    IntoResponse, Response,
    error::{MethodNotAllowedError, NotFoundError},
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    payload::Payload,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::Type as _,
};
use serde::Serialize;

use crate::{auth::AuthError, http::middleware::json::Json, store::StoreError};

/// When to try again where nothing says how long it will take.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What is wrong with each field that failed.
pub type FieldErrors = BTreeMap<&'static str, String>;

/// The body of every error.
#[derive(Object, Serialize)]
#[oai(rename = "Failure", skip_serializing_if_is_none)]
pub struct ErrorBody {
    /// Always `fail`.
    status: String,
    /// What went wrong, for a person.
    message: String,
    /// What is wrong with each field that failed; absent where no field did.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<BTreeMap<String, String>>,
}

/// Who may use a resource: names the realm of its challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realm {
    /// Everyone with a token.
    RegisteredUsers,
    /// Administrators.
    AdminUsers,
}

/// What goes into `WWW-Authenticate` (RFC 6750 §3).
#[derive(Debug)]
pub struct Challenge {
    /// Who may use the resource.
    pub realm: Realm,
    /// Whose users they are.
    pub domain: String,
}

impl Challenge {
    fn header(&self, error: Option<(&str, &str)>) -> String {
        let users = match self.realm {
            Realm::RegisteredUsers => "registered_users",
            Realm::AdminUsers => "admin_users",
        };
        let realm = format!(r#"Bearer realm="{users}@{}""#, self.domain);
        match error {
            None => realm,
            Some((code, description)) => format!(r#"{realm}, error="{code}", error_description="{description}""#),
        }
    }
}

/// Everything that the API answers instead of what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: fields failed, each with its reason.
    #[error("Input payload validation failed")]
    Validation(FieldErrors),
    /// 400: the request as a whole cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// 400: more than one token, or more than one way of sending it (RFC 6750 §2).
    #[error("More than one access token was sent")]
    InvalidRequest(Challenge),
    /// 401: no token.
    #[error("Unauthorized")]
    Unauthorized(Challenge),
    /// 401: the token does not count, and why.
    #[error("{1}")]
    InvalidToken(Challenge, String),
    /// 401: email or password does not match.
    #[error("email or password does not match")]
    InvalidCredentials(Challenge),
    /// 403: the resource is for administrators.
    #[error("You are not an administrator")]
    NotAdministrator(Challenge),
    /// 403: strangers may not register here.
    #[error("Registration is closed. Ask an administrator for an account.")]
    SignupClosed,
    /// 404: nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// 405: not with this method; the ones that work.
    #[error("The method is not allowed for this URL")]
    MethodNotAllowed(String),
    /// 409: the name is taken.
    #[error("{0}")]
    Conflict(String),
    /// 413: the body has more bytes than this.
    #[error("The body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// 414: the URL is too long.
    #[error("The URL is too long")]
    UrlTooLong,
    /// 415: neither a form nor JSON.
    #[error("The body must be application/json or application/x-www-form-urlencoded")]
    UnsupportedMediaType,
    /// 431: more or longer header fields than are read.
    #[error("The request header fields are too large")]
    HeadersTooLarge,
    /// 429: too many tries; how long to wait.
    #[error("Too many tries. Please try again later.")]
    TooManyTries(Duration),
    /// Another status that poem answers by itself.
    #[error("{1}")]
    Framework(StatusCode, String),
    /// 503: too much waits already; how long that takes.
    #[error("The server is busy. Please try again soon.")]
    Busy(Duration),
    /// 503: the disk fails. Whether a write happened is unknown; repeating the request is safe.
    #[error("The server cannot reach its data. Please try again soon.")]
    Unavailable(#[source] StoreError),
    /// 503: looking found that the database does not work; whoever looked has logged why.
    #[error("The server cannot reach its data. Please try again soon.")]
    NotReady,
    /// 500: a defect; the cause is for the log.
    #[error("Internal server error")]
    Internal(String),
}

impl ApiError {
    /// A 400 with this message.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    /// Maps an [`AuthError`] to the error that the client sees. A 401 carries `challenge`.
    pub fn from_auth(error: AuthError, challenge: Challenge) -> Self {
        match error {
            AuthError::EmailTaken(_) | AuthError::LastAdmin => Self::Conflict(error.to_string()),
            AuthError::InvalidCredentials => Self::InvalidCredentials(challenge),
            AuthError::TokenInvalid | AuthError::TokenExpired | AuthError::TokenBlacklisted => {
                Self::InvalidToken(challenge, error.to_string())
            }
            AuthError::UserNotFound => Self::NotFound(error.to_string()),
            AuthError::WrongPassword => Self::Validation([("password", error.to_string())].into()),
            AuthError::Throttled(wait) => Self::TooManyTries(wait),
            AuthError::Busy(wait) => Self::Busy(wait),
            AuthError::UnusableHash(_) => Self::Internal(error.to_string()),
            AuthError::Store(error) => error.into(),
        }
    }

    /// What poem answers when it is left alone: our own errors that passed through it, and its own, which are plain text and
    /// lack `Allow`.
    pub fn from_poem(error: poem::Error, allow: impl FnOnce() -> String) -> Self {
        let error = match error.downcast::<Self>() {
            Ok(ours) => return ours,
            Err(error) => error,
        };
        if error.is::<NotFoundError>() {
            return Self::NotFound("The URL was not found on this server".to_owned());
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::MethodNotAllowed(allow());
        }
        match error.status() {
            status if status.is_server_error() => Self::Internal(error.to_string()),
            status => Self::Framework(status, status.canonical_reason().unwrap_or("Request failed").to_owned()),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Validation(_) | Self::BadRequest(_) | Self::InvalidRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) | Self::InvalidToken(..) | Self::InvalidCredentials(_) => StatusCode::UNAUTHORIZED,
            Self::NotAdministrator(_) | Self::SignupClosed => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::BodyTooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UrlTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooManyTries(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Framework(status, _) => *status,
            Self::Busy(_) | Self::Unavailable(_) | Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn challenge(&self) -> Option<String> {
        match self {
            Self::Unauthorized(challenge) | Self::InvalidCredentials(challenge) => Some(challenge.header(None)),
            Self::InvalidToken(challenge, text) => Some(challenge.header(Some(("invalid_token", text)))),
            Self::NotAdministrator(challenge) => {
                Some(challenge.header(Some(("insufficient_scope", &self.to_string()))))
            }
            Self::InvalidRequest(challenge) => Some(challenge.header(Some(("invalid_request", &self.to_string())))),
            _ => None,
        }
    }

    /// When to try again, where that may help.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy(wait) | Self::TooManyTries(wait) => Some(*wait),
            Self::Unavailable(_) | Self::NotReady => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// The answer. Logs the cause of a 5xx; to be called in a span that carries the request's id.
    pub fn into_response(self) -> Response {
        match &self {
            Self::Internal(cause) => tracing::error!(%cause, "internal error"),
            Self::Unavailable(cause) => tracing::error!(%cause, "the store failed"),
            _ => {}
        }
        let (status, challenge, message) = (self.status(), self.challenge(), self.to_string());
        let retry = self.retry_after();
        let allow = if let Self::MethodNotAllowed(allow) = &self { Some(allow.clone()) } else { None };
        let errors = match self {
            Self::Validation(errors) => Some(errors.into_iter().map(|(name, why)| (name.to_owned(), why)).collect()),
            _ => None,
        };
        let body = ErrorBody { status: "fail".to_owned(), message, errors };
        let mut response = Json(body).into_response();
        response.set_status(status);
        let headers = response.headers_mut();
        for (name, text) in [(header::WWW_AUTHENTICATE, challenge), (header::ALLOW, allow)] {
            if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
                headers.insert(name, value);
            }
        }
        if let Some(wait) = retry {
            let whole_seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, whole_seconds.max(1).into());
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Overloaded => Self::Busy(RETRY_AFTER),
            StoreError::Database(_) | StoreError::GivenUp => Self::Unavailable(error),
            StoreError::Record { .. } | StoreError::Refused(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<ApiError> for poem::Error {
    fn from(error: ApiError) -> Self {
        let status = error.status();
        Self::new(error, status)
    }
}

/// The statuses that follow from a rule (`middleware::openapi`) are not repeated at each handler.
impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        MetaResponses { responses: Vec::new() }
    }

    fn register(registry: &mut Registry) {
        <Json<ErrorBody> as Payload>::register(registry);
    }
}

/// An [`ApiError`] of an operation that documents the statuses `A` and, unless it is 0, `B` in the OpenAPI document.
pub struct Documented<const A: u16, const B: u16 = 0>(ApiError);

impl<const A: u16, const B: u16, E: Into<ApiError>> From<E> for Documented<A, B> {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl<const A: u16, const B: u16> From<Documented<A, B>> for poem::Error {
    fn from(error: Documented<A, B>) -> Self {
        error.0.into()
    }
}

impl<const A: u16, const B: u16> ApiResponse for Documented<A, B> {
    fn meta() -> MetaResponses {
        let response = |status| MetaResponse {
            description: "", // `http::openapi` describes each status once
            status: Some(status),
            status_range: None,
            // So that the schema is kept, which every failure in the document refers to.
            content: vec![MetaMediaType { content_type: "application/json", schema: ErrorBody::schema_ref() }],
            headers: Vec::new(),
        };
        MetaResponses { responses: [A, B].into_iter().filter(|status| *status != 0).map(response).collect() }
    }

    fn register(registry: &mut Registry) {
        ApiError::register(registry);
    }
}
