//! What services find without being told (RFC 8615): the public keys, and the metadata of this authorization server.
//!
//! The public keys are a JWK set (RFC 7517 §5), for services that verify tokens by themselves. The metadata (RFC 8414) is only there where the
//! server knows its public URL. Guarantees: a response costs no I/O and no cryptography, however often it is requested. Pages of any origin
//! may read it, whatever `--cors-origin` says, because it has no secret. Deliberately absent: keys of HS256, which are secret, and
//! `openid-configuration`, because latchkey is no `OpenID` provider.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use poem::{
    Request, Response, Route, get,
    http::{HeaderValue, StatusCode, header},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    auth::{Auth, key_ring::JWKS_CACHED_S},
    http::middleware::router::BASE_PATH,
};

const JWKS: &str = "/.well-known/jwks.json";
const METADATA: &str = "/.well-known/oauth-authorization-server";
/// The media type of a JWK set (RFC 7517 §8.5.2).
const JWK_SET: &str = "application/jwk-set+json";

/// Returns the paths that [`add`] adds for a server with this issuer.
pub fn paths(issuer: Option<&str>) -> impl Iterator<Item = String> {
    [JWKS.to_owned()].into_iter().chain(issuer.map(|_| METADATA.to_owned()))
}

/// Adds the JWK set of the key ring of `auth`, and the metadata if the server has an issuer.
pub fn add(routes: Route, auth: Arc<Auth>) -> Route {
    let issuer = auth.tokens().settings().issuer.clone();
    let routes = routes.at(
        JWKS,
        get(poem::endpoint::make_sync(move |request| {
            let ring = auth.tokens().ring();
            answer(&request, JWK_SET, ring.jwks())
        })),
    );
    match issuer {
        None => routes,
        Some(issuer) => {
            let metadata = metadata(&issuer);
            routes.at(
                METADATA,
                get(poem::endpoint::make_sync(move |request| answer(&request, "application/json", &metadata))),
            )
        }
    }
}

/// Returns the metadata as JSON (RFC 8414 §2).
fn metadata(issuer: &str) -> String {
    let endpoint = |name: &str| format!("{issuer}{BASE_PATH}/token/{name}");
    let metadata = json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}{JWKS}"),
        "introspection_endpoint": endpoint("introspect"),
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
        "revocation_endpoint": endpoint("revoke"),
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
        "response_types_supported": [],
        "grant_types_supported": [], // absent would mean two of them
    });
    metadata.to_string()
}

fn answer(request: &Request, content_type: &str, body: &str) -> Response {
    let etag = format!("\"{}\"", &BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(body))[..22]);
    let response = Response::builder()
        .content_type(content_type)
        .header(header::CACHE_CONTROL, format!("public, max-age={JWKS_CACHED_S}"))
        .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
        .header(header::ETAG, &etag);
    let known = request.headers().get(header::IF_NONE_MATCH).map(HeaderValue::to_str);
    let is_known =
        |tags: &str| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*");
    if known.is_some_and(|tags| tags.is_ok_and(is_known)) {
        return response.status(StatusCode::NOT_MODIFIED).finish();
    }
    response.body(body.to_owned())
}
