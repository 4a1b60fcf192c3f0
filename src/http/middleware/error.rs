//! The conversion of every error to a response: status, body, `WWW-Authenticate`, `Retry-After`.
//!
//! Guarantees: every error of the API has one shape (`{"status":"fail","message":…,"errors":…}`). Every 401 has a challenge (RFC 9110
//! §11.6.1, RFC 6750 §3). The cause of a 5xx is logged once, here, and never sent to the client.

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

use crate::{
    auth::{AuthError, key_ring::KeyRingError},
    http::middleware::{audit, client_address::ClientAddress, json::Json},
    model::ServiceId,
    store::StoreError,
};

/// The `Retry-After` of a 503 whose duration is unknown.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Field name to what is wrong with the field.
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

/// Who may use a resource: the realm of its challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realm {
    /// All users.
    RegisteredUsers,
    /// Administrators.
    AdminUsers,
    /// Services.
    Services,
}

/// The challenge in `WWW-Authenticate` (RFC 6750 §3; for services RFC 7617 §2).
#[derive(Debug)]
pub struct Challenge {
    /// Who may use the resource.
    pub realm: Realm,
    /// The domain in the realm, from `--domain`.
    pub domain: String,
}

impl Challenge {
    fn header(&self, error: Option<(&str, &str)>) -> String {
        let users = match self.realm {
            Realm::RegisteredUsers => "registered_users",
            Realm::AdminUsers => "admin_users",
            Realm::Services => return format!(r#"Basic realm="services@{}""#, self.domain), // Basic has no parameter for an error
        };
        let realm = format!(r#"Bearer realm="{users}@{}""#, self.domain);
        match error {
            None => realm,
            Some((code, description)) => format!(r#"{realm}, error="{code}", error_description="{description}""#),
        }
    }
}

/// Why a request failed: one variant per kind of error response.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: fields are invalid. Has the reason for each.
    #[error("Input payload validation failed")]
    Validation(FieldErrors),
    /// 400: the request cannot be parsed. Has the message.
    #[error("{0}")]
    BadRequest(String),
    /// 400: more than one token, or more than one way of sending it (RFC 6750 §2).
    #[error("More than one access token was sent")]
    InvalidRequest(Challenge),
    /// 401: the request has no token.
    #[error("Unauthorized")]
    Unauthorized(Challenge),
    /// 401: the token is invalid. Has the reason.
    #[error("{1}")]
    InvalidToken(Challenge, String),
    /// 401: the credentials of a service are wrong. Has the id that it called itself, if it is one, and the client's address.
    #[error("Unauthorized")]
    RefusedService(Challenge, Option<ServiceId>, ClientAddress),
    /// 401: email or password does not match.
    #[error("email or password does not match")]
    InvalidCredentials(Challenge),
    /// 403: the resource is for administrators.
    #[error("You are not an administrator")]
    NotAdministrator(Challenge),
    /// 403: registration is closed.
    #[error("Registration is closed. Ask an administrator for an account.")]
    SignupClosed,
    /// 404: there is no such resource. Has the message.
    #[error("{0}")]
    NotFound(String),
    /// 405: the method is not allowed. Has the allowed ones, as the value of `Allow`.
    #[error("The method is not allowed for this URL")]
    MethodNotAllowed(String),
    /// 409: the change conflicts with the stored data. Has the message.
    #[error("{0}")]
    Conflict(String),
    /// 410: the cursor is not of this revocation feed.
    #[error("The cursor is not of this feed: the data was restored from a backup. Start again without it.")]
    CursorGone,
    /// 413: the body is too large. Has the maximum in bytes.
    #[error("The body is larger than {0} bytes")]
    BodyTooLarge(usize),
    /// 414: the URL is too long.
    #[error("The URL is too long")]
    UrlTooLong,
    /// 415: the body is neither a form nor JSON.
    #[error("The body must be application/json or application/x-www-form-urlencoded")]
    UnsupportedMediaType,
    /// 431: the header has too many or too long fields.
    #[error("The request header fields are too large")]
    HeadersTooLarge,
    /// 429: a limit on guessing is reached. Has the time to wait.
    #[error("Too many tries. Please try again later.")]
    TooManyTries(Duration),
    /// Another status that poem responds with by itself, and its reason phrase.
    #[error("{1}")]
    Framework(StatusCode, String),
    /// 503: a queue is full. Has the time until it is worked off.
    #[error("The server is busy. Please try again soon.")]
    Busy(Duration),
    /// 503: the disk failed. Whether a write was stored is unknown; repeating the request is safe.
    #[error("The server cannot reach its data. Please try again soon.")]
    Unavailable(#[source] StoreError),
    /// 503: the readiness check failed. It has logged the cause.
    #[error("The server cannot reach its data. Please try again soon.")]
    NotReady,
    /// 500: a defect. Has the cause, which goes to the log only.
    #[error("Internal server error")]
    Internal(String),
}

impl ApiError {
    /// Returns a 400 with this message.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::BadRequest(message.into())
    }

    /// Maps an [`AuthError`] to the error that the client sees. A 401 carries `challenge`.
    pub fn from_auth(error: AuthError, challenge: Challenge) -> Self {
        match error {
            AuthError::EmailTaken(_)
            | AuthError::LastAdmin
            | AuthError::ServiceNameTaken(_)
            | AuthError::TooManyServices => Self::Conflict(error.to_string()),
            AuthError::InvalidCredentials => Self::InvalidCredentials(challenge),
            AuthError::TokenInvalid | AuthError::TokenExpired | AuthError::TokenBlacklisted => {
                Self::InvalidToken(challenge, error.to_string())
            }
            AuthError::ServiceRefused => Self::Unauthorized(challenge),
            AuthError::UserNotFound | AuthError::ServiceNotFound => Self::NotFound(error.to_string()),
            AuthError::WrongPassword => Self::Validation([("password", error.to_string())].into()),
            AuthError::Throttled(wait) => Self::TooManyTries(wait),
            AuthError::Busy(wait) => Self::Busy(wait),
            AuthError::UnusableHash(_) => Self::Internal(error.to_string()),
            AuthError::Store(error) => error.into(),
        }
    }

    /// Converts an error that poem returns: our own error that passed through it, or poem's own, which would be plain text without
    /// `Allow`. `allow` returns the allowed methods of the path.
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
            Self::Unauthorized(_) | Self::InvalidToken(..) | Self::RefusedService(..) | Self::InvalidCredentials(_) => {
                StatusCode::UNAUTHORIZED
            }
            Self::NotAdministrator(_) | Self::SignupClosed => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::CursorGone => StatusCode::GONE,
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
            Self::Unauthorized(challenge)
            | Self::RefusedService(challenge, ..)
            | Self::InvalidCredentials(challenge) => Some(challenge.header(None)),
            Self::InvalidToken(challenge, text) => Some(challenge.header(Some(("invalid_token", text)))),
            Self::NotAdministrator(challenge) => {
                Some(challenge.header(Some(("insufficient_scope", &self.to_string()))))
            }
            Self::InvalidRequest(challenge) => Some(challenge.header(Some(("invalid_request", &self.to_string())))),
            _ => None,
        }
    }

    /// Returns the value of `Retry-After`, if trying again can help.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy(wait) | Self::TooManyTries(wait) => Some(*wait),
            Self::Unavailable(_) | Self::NotReady => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// Converts the error to its response, and logs the cause of a 5xx and the refusal of a service. Call it in a span that has the
    /// request id.
    pub fn into_response(self) -> Response {
        match &self {
            Self::Internal(cause) => tracing::error!(%cause, "internal error"),
            Self::Unavailable(cause) => tracing::error!(%cause, "the store failed"),
            Self::RefusedService(_, id, client) => audit::record_refused_service(*id, *client),
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

impl From<KeyRingError> for ApiError {
    fn from(error: KeyRingError) -> Self {
        match error {
            KeyRingError::NotFound => Self::NotFound(error.to_string()),
            KeyRingError::RotationUnderWay | KeyRingError::IsCurrent | KeyRingError::Exists | KeyRingError::Full => {
                Self::Conflict(error.to_string())
            }
            KeyRingError::Key(error) => Self::bad_request(error.to_string()),
            KeyRingError::WrongSecret | KeyRingError::Damaged(_) => Self::Internal(error.to_string()),
            KeyRingError::Store(error) => error.into(),
        }
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

/// `middleware::openapi` adds the statuses that follow from a rule, so that no handler repeats them.
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
            description: "", // `middleware::openapi` describes each status once
            status: Some(status),
            status_range: None,
            // This keeps the schema in the document, which every error response refers to.
            content: vec![MetaMediaType { content_type: "application/json", schema: ErrorBody::schema_ref() }],
            headers: Vec::new(),
        };
        MetaResponses { responses: [A, B].into_iter().filter(|status| *status != 0).map(response).collect() }
    }

    fn register(registry: &mut Registry) {
        ApiError::register(registry);
    }
}
