//! The id of a request, which its response and its log lines carry.

use poem::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::{Uuid, fmt::Simple};

use crate::random;

pub(in crate::http) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id of a client that is kept.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Returns the id that came with the request if it is short and has only harmless characters, so that it can be found in a proxy's log
/// too; else a new one.
pub(in crate::http) fn of(headers: &HeaderMap) -> HeaderValue {
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
