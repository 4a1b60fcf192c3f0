//! Authentication of a service: extracts a [`Service`] from the `Authorization` header.
//!
//! Guarantees: an operation that takes a [`ServiceAuth`] takes HTTP Basic with the id and the secret, each form-encoded (RFC 6749 §2.3.1),
//! or the secret as a bearer token, before its body is parsed. All refusals are alike. Deliberately absent: `client_id` and `client_secret`
//! in a body, which the same section does not recommend.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};
use zeroize::Zeroizing;

use crate::{
    auth::{AuthError, service_accounts::ServiceCredentials},
    http::middleware::{
        client_address::ClientAddress,
        error::{ApiError, Realm},
        extract::form_decode,
        guard::{self, credentials_of},
    },
    model::{Service, ServiceId},
};

/// The service that a request comes from.
pub struct ServiceAuth(pub Arc<Service>);

/// The name of the security scheme in the OpenAPI document.
pub const SCHEME: &str = "ServiceAuth";

impl<'a> ApiExtractor<'a> for ServiceAuth {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "The secret of a service, which begins with `lks_`. HTTP Basic with the id and the secret is taken as well.",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> poem::Result<Self> {
        Ok(admit(request).map(Self)?)
    }
}

fn admit(request: &Request) -> Result<Arc<Service>, ApiError> {
    let guard = guard::guard(request);
    let challenge = || guard.challenge(Realm::Services);
    let Some(value) = guard.authorization(request, Realm::Services)? else {
        return Err(ApiError::Unauthorized(challenge()));
    };
    let basic = credentials_of("basic", value).map(|encoded| Basic::read(encoded).unwrap_or_default());
    let bearer = credentials_of("bearer", value).map(|secret| std::str::from_utf8(secret).unwrap_or_default());
    let credentials = match (&basic, bearer) {
        (Some(basic), _) => ServiceCredentials::Basic(basic.id, &basic.secret),
        (None, Some(secret)) => ServiceCredentials::Bearer(secret),
        (None, None) => return Err(ApiError::Unauthorized(challenge())),
    };
    let client = ClientAddress::of(request);
    guard.auth.authenticate_service(credentials, client.address()).map_err(|error| match error {
        AuthError::ServiceRefused => ApiError::RefusedService(challenge(), basic.and_then(|basic| basic.id), client),
        error => ApiError::from_auth(error, challenge()),
    })
}

/// The credentials of HTTP Basic (RFC 7617).
#[derive(Default)]
struct Basic {
    id: Option<ServiceId>,
    secret: Zeroizing<String>,
}

impl Basic {
    /// Decodes `id:secret`, or returns `None` if it is malformed.
    fn read(encoded: &[u8]) -> Option<Self> {
        let decoded = Zeroizing::new(BASE64_STANDARD.decode(encoded).ok()?);
        let colon = decoded.iter().position(|byte| *byte == b':')?;
        let (id, secret) = (form_decode(&decoded[..colon])?, form_decode(&decoded[colon + 1..])?);
        Some(Self { id: ServiceId::parse(&id), secret })
    }
}
