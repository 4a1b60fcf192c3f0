//! The public keys that tokens are verified with, as a JWK set (RFC 7517 §5), for services that verify tokens by themselves.
//!
//! Guarantees: a response costs no I/O and no cryptography, however often it is requested. Pages of any origin may read it, whatever
//! `--cors-origin` says, because it has no secret. Deliberately absent: keys of HS256, which are secret.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use poem::{
    Request, Response, Route, get,
    http::{HeaderValue, StatusCode, header},
};
use sha2::{Digest as _, Sha256};

use crate::auth::{Auth, key_ring::JWKS_CACHED_S};

/// The path that issuers of tokens commonly have it at.
const JWKS: &str = "/.well-known/jwks.json";
/// The media type of a JWK set (RFC 7517 §8.5.2).
const JWK_SET: &str = "application/jwk-set+json";

/// Returns the paths that [`add`] adds.
pub fn paths() -> impl Iterator<Item = String> {
    [JWKS.to_owned()].into_iter()
}

/// Adds the JWK set of the key ring of `auth`.
pub fn add(routes: Route, auth: Arc<Auth>) -> Route {
    routes.at(JWKS, get(poem::endpoint::make_sync(move |request| answer(&request, &auth))))
}

fn answer(request: &Request, auth: &Auth) -> Response {
    let ring = auth.tokens().ring();
    let etag = format!("\"{}\"", &BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(ring.jwks()))[..22]);
    let response = Response::builder()
        .content_type(JWK_SET)
        .header(header::CACHE_CONTROL, format!("public, max-age={JWKS_CACHED_S}"))
        .header(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")
        .header(header::ETAG, &etag);
    let known = request.headers().get(header::IF_NONE_MATCH).map(HeaderValue::to_str);
    let is_known =
        |tags: &str| tags.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*");
    if known.is_some_and(|tags| tags.is_ok_and(is_known)) {
        return response.status(StatusCode::NOT_MODIFIED).finish();
    }
    response.body(ring.jwks().to_owned())
}
