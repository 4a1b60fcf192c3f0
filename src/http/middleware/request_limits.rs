//! Limits on the size of a request, and the reading of its body.
//!
//! Guarantees: a request whose line or header is too large or malformed is rejected before anything else reads it.

use std::sync::Arc;

use poem::Request;
use tokio::io::AsyncReadExt as _;

use crate::http::{
    connection::{head_validator::Refusal, limits::ConnectionState},
    middleware::{error::ApiError, extract::BODY_BYTES_MAX, router::BASE_PATH},
};

/// The longest path with its query, in bytes.
const URL_BYTES_MAX: usize = 8 * 1024;
/// The most bytes of the names and values of the header fields.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// The initial capacity for a body in bytes. Most bodies fit: a login, and a token that a service asks about.
const BODY_BYTES: usize = 512;
/// How much of a too large body is read and discarded. A client reads the response only after it has sent its request, and a connection
/// that closes in between looks like a failed server.
const BODY_BYTES_DISCARDED_MAX: u64 = 1024 * 1024;

/// Rejects a request whose head is malformed or too large.
pub(in crate::http) fn check(request: &Request, path: &str) -> Result<(), ApiError> {
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
    } else if path.starts_with(BASE_PATH) && percent_encoding::percent_decode_str(path).decode_utf8().is_err() {
        Err(ApiError::bad_request("The path is not valid UTF-8"))
    } else {
        Ok(())
    }
}

/// Reads the body before the request is handled, so that a response never overtakes its request. Of a too large body, one byte beyond the
/// limit is kept, by which the extractor recognises and rejects it.
pub(in crate::http) async fn read_body(request: &mut Request) -> Result<(), ApiError> {
    let body = request.take_body();
    if body.is_empty() {
        return Ok(());
    }
    let broken = |_| ApiError::bad_request("The body ended before it was complete");
    let mut reader = body.into_async_read();
    let mut bytes = Vec::with_capacity(BODY_BYTES);
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
