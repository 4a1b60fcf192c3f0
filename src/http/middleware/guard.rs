//! Authentication of a request: extracts a [`Caller`] from the `Authorization` header.
//!
//! Guarantees: every operation that takes a [`BearerAuth`] or an [`AdminAuth`] follows RFC 6750 §2.1 and §3, before its body is parsed.
//! Only a token in the header counts, because one in a URL would end up in logs.

use std::sync::Arc;

use poem::{
    Request, RequestBody,
    http::{HeaderValue, header},
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use crate::{
    auth::{Auth, AuthError, Caller},
    http::middleware::{
        audit,
        client_address::ClientAddress,
        error::{ApiError, Challenge, Realm},
        extract::RequestFields,
    },
    model::{Email, Service, User},
};

/// Marks a request of the operator: it came over the admin socket, from a process whose user the operating system has identified. No
/// header of a request can set this mark.
#[derive(Clone, Copy)]
pub struct OperatorRequest;

/// The shared state of the extractors below. It reaches them through the request's extensions.
pub struct AuthGuard {
    /// Verifies tokens.
    pub auth: Arc<Auth>,
    /// The domain in the realm of a challenge.
    pub domain: String,
}

impl AuthGuard {
    /// Returns the challenge for a resource of `realm`.
    pub fn challenge(&self, realm: Realm) -> Challenge {
        Challenge { realm, domain: self.domain.clone() }
    }

    /// Returns the value of `Authorization`, or `None` if there is none.
    ///
    /// # Errors
    /// 400 if there are two, or a token in the query as well (RFC 6750 §2).
    pub(super) fn authorization<'a>(&self, request: &'a Request, realm: Realm) -> Result<Option<&'a [u8]>, ApiError> {
        let mut headers = request.headers().get_all(header::AUTHORIZATION).iter();
        let (first, second) = (headers.next(), headers.next());
        let asks_twice =
            first.is_some() && request.uri().query().is_some() && RequestFields::of_query(request)?.has("access_token");
        if second.is_some() || asks_twice {
            return Err(ApiError::InvalidRequest(self.challenge(realm)));
        }
        Ok(first.map(HeaderValue::as_bytes))
    }

    fn admit(&self, request: &Request, realm: Realm) -> Result<Caller, ApiError> {
        let value = self.authorization(request, realm)?;
        let Some(credentials) = value.and_then(|value| credentials_of("bearer", value)) else {
            return Err(ApiError::Unauthorized(self.challenge(realm)));
        };
        let refuse = |error| ApiError::from_auth(error, self.challenge(realm));
        let token = std::str::from_utf8(credentials).map_err(|_| refuse(AuthError::TokenInvalid))?;
        let caller = self.auth.authenticate(token).map_err(refuse)?;
        if realm == Realm::AdminUsers && !caller.user().admin {
            return Err(ApiError::NotAdministrator(self.challenge(realm)));
        }
        Ok(caller)
    }
}

/// Returns the credentials after `scheme`, in any letter case (RFC 9110 §11.1), or `None` for another scheme or no credentials.
pub(super) fn credentials_of<'a>(scheme: &str, value: &'a [u8]) -> Option<&'a [u8]> {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (name, credentials) = value.split_at(end);
    let credentials = credentials.trim_ascii();
    (name.eq_ignore_ascii_case(scheme.as_bytes()) && !credentials.is_empty()).then_some(credentials)
}

/// Returns the guard of the server that handles `request`.
pub(super) fn guard(request: &Request) -> &AuthGuard {
    request.data::<Arc<AuthGuard>>().expect("BUG: the middleware stack puts the guard into every request")
}

macro_rules! security_scheme {
    ($(#[$doc:meta])* $name:ident($inner:ty), $scheme:literal, $description:literal, $admit:expr) => {
        $(#[$doc])*
        pub struct $name(pub $inner);

        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                registry.create_security_scheme(
                    $scheme,
                    MetaSecurityScheme {
                        ty: "http",
                        description: Some($description),
                        name: None,
                        key_in: None,
                        scheme: Some("bearer"),
                        bearer_format: Some("JWT"),
                        flows: None,
                        openid_connect_url: None,
                    },
                );
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![$scheme]
            }

            async fn from_request(
                request: &'a Request,
                _: &mut RequestBody,
                _: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let admit: fn(&AuthGuard, &Request) -> Result<$inner, ApiError> = $admit;
                Ok(Self(admit(guard(request), request)?))
            }
        }
    };
}

security_scheme!(
    /// The caller of a request with a valid token.
    BearerAuth(Caller),
    "BearerAuth",
    "The access_token that registering or logging in answers with.",
    |guard, request| guard.admit(request, Realm::RegisteredUsers)
);
security_scheme!(
    /// The caller of a request with a valid token of an administrator.
    AdminAuth(Caller),
    "AdminAuth",
    "The access_token of an administrator.",
    |guard, request| guard.admit(request, Realm::AdminUsers)
);
security_scheme!(
    /// The caller of a request with a valid token of an administrator, or `None` for a request of the operator, who has no account.
    AdminOrOperatorAuth(Option<Caller>),
    "AdminAuth",
    "The access_token of an administrator.",
    |guard, request| match request.data::<OperatorRequest>() {
        Some(OperatorRequest) => Ok(None),
        None => guard.admit(request, Realm::AdminUsers).map(Some),
    }
);

impl AdminOrOperatorAuth {
    /// Records in the audit log that the caller did `event` to the account `whom`.
    pub fn audit(&self, event: &'static str, whom: &User, client: ClientAddress) {
        audit::record_by(event, self.email(), whom, client);
    }

    /// Records in the audit log that the caller did `event` to a service.
    pub fn audit_service(&self, event: &'static str, service: &Service, client: ClientAddress) {
        audit::record_service(event, self.email(), service, client);
    }

    fn email(&self) -> Option<&Email> {
        self.0.as_ref().map(|caller| &caller.user().email)
    }
}
