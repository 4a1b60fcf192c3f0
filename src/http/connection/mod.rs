//! The connection layer: everything between the listening socket and a parsed request.
//!
//! A connection passes these files in this order: [`acceptor`] accepts it and runs its task, [`limits`] decides whether there is
//! room for it and how long each phase may take, [`tls`] performs the handshake where TLS is configured, [`validated_stream`] passes
//! the bytes to hyper and each request head to [`head_validator`] first. [`trusted_proxy`] lists the peers that forward requests of many
//! clients. [`tls_client`] is the client side of TLS, for `latchkey health`.
//!
//! Guarantees: hyper parses no request head that another server could read differently. Deliberately absent: anything about the
//! content of a request; that is the middleware's and the API's.

pub(in crate::http) mod acceptor;
pub(in crate::http) mod head_validator;
pub(in crate::http) mod limits;
pub(in crate::http) mod tls;
pub(in crate::http) mod tls_client;
pub(in crate::http) mod trusted_proxy;
pub(in crate::http) mod validated_stream;
