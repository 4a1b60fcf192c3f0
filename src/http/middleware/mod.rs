//! The middleware and the tools that handlers share.
//!
//! A request passes [`stack`] (its order, the log line, panics) with [`request_id`], [`request_limits`] (sizes, body) and [`cors`], then
//! [`router`] (path and method to operation), [`guard`] or [`service_guard`] (who is the caller), and [`extract`] (fields of the body, the
//! path and the query). A response is written by [`json`] and [`paging`], or by [`error`] where the request failed. [`client_address`] says
//! where a request came from, [`audit`] logs what an account did, and [`openapi`] completes the OpenAPI document with what follows from
//! these rules.
//!
//! Deliberately absent: the operations themselves, which are in `api`.

pub(in crate::http) mod audit;
pub(in crate::http) mod client_address;
pub(in crate::http) mod cors;
pub(in crate::http) mod error;
pub(in crate::http) mod extract;
pub(in crate::http) mod guard;
pub(in crate::http) mod json;
pub(in crate::http) mod openapi;
mod openapi_examples;
pub(in crate::http) mod paging;
pub(in crate::http) mod request_id;
pub(in crate::http) mod request_limits;
pub(in crate::http) mod router;
pub(in crate::http) mod service_guard;
pub(in crate::http) mod stack;
