//! What the operator alone may do to the key ring: add a key from a file, encrypt the ring with another secret, begin a new one.
//!
//! Guarantees: whoever could do this could make tokens for everybody, so these paths exist on the admin socket alone.

use poem::{Request, Response, http::StatusCode};
use zeroize::Zeroizing;

use crate::{
    auth::Auth,
    http::{
        api::keys::KeyJson,
        middleware::{audit, client_address::ClientAddress, error::ApiError},
    },
};

/// The largest body that is read: a key or a secret, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Answers a request for `/keys` and what follows, given as `operation`. Returns `None` if there is no such operation.
pub(super) async fn answer(auth: &Auth, operation: &str, request: Request) -> Option<Response> {
    let answer = match operation {
        "/add" => add(auth, request).await,
        "/reseal" => reseal(auth, request).await,
        "/reset" => reset(auth).await,
        _ => return None,
    };
    Some(answer.unwrap_or_else(ApiError::into_response))
}

async fn body(request: Request) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let read = request.into_body().into_bytes_limit(BODY_BYTES_MAX).await;
    read.map(|bytes| Zeroizing::new(bytes.to_vec())).map_err(|_| ApiError::BodyTooLarge(BODY_BYTES_MAX))
}

async fn add(auth: &Auth, request: Request) -> Result<Response, ApiError> {
    let pem = body(request).await?;
    let key = auth.key_ring().add(&pem).await?;
    audit::record_key("key_added", None, &key, ClientAddress::OPERATOR);
    Ok(json(&serde_json::json!(KeyJson::new(&key, &auth.tokens().ring()))))
}

async fn reseal(auth: &Auth, request: Request) -> Result<Response, ApiError> {
    auth.key_ring().reseal(body(request).await?).await?;
    audit::record_operator("key_ring_resealed");
    Ok(json(&serde_json::json!({ "message": "resealed" })))
}

async fn reset(auth: &Auth) -> Result<Response, ApiError> {
    auth.key_ring().reset().await?;
    audit::record_operator("key_ring_reset");
    Ok(json(&serde_json::json!({ "message": "reset" })))
}

fn json(body: &serde_json::Value) -> Response {
    Response::builder().status(StatusCode::OK).content_type("application/json").body(body.to_string())
}
