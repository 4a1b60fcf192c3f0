//! The address of the client: the peer of the connection, or the address that a trusted proxy reports.
//!
//! Guarantees: `X-Forwarded-For` counts only as far as trusted proxies wrote it. The header is read from the right, where the nearest
//! proxy wrote. The first address that is no trusted proxy is the client. The client may have invented everything before it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use poem::{Addr, FromRequest, Request, RequestBody};

use crate::http::connection::trusted_proxy::TrustedProxy;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The address that a request comes from, or none if it came from the operator over the admin socket.
#[derive(Debug, Clone, Copy)]
pub struct ClientAddress(Option<IpAddr>);

impl ClientAddress {
    /// Determines the client address of `request` behind `proxies`, and stores it in the request for later extractors.
    pub fn note(request: &mut Request, proxies: &[TrustedProxy]) -> Self {
        let Self(Some(mut hop)) = Self::connected(request) else { return Self(None) };
        if proxies.is_empty() {
            return Self(Some(hop));
        }
        let headers = request.headers().get_all(X_FORWARDED_FOR).iter().rev();
        // As bytes, because a proxy appends to the client's own field, which need not be text.
        let mut entries = headers.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        while TrustedProxy::is_among(proxies, hop) {
            let Some(next) = entries.next().and_then(address) else { break };
            hop = next;
        }
        let client = Self(Some(hop));
        request.extensions_mut().insert(client);
        client
    }

    /// Returns the client address of a request, as [`ClientAddress::note`] determined it.
    pub fn of(request: &Request) -> Self {
        request.extensions().get().copied().unwrap_or_else(|| Self::connected(request))
    }

    /// Returns the address, or `None` for the operator.
    pub fn address(self) -> Option<IpAddr> {
        self.0
    }

    fn connected(request: &Request) -> Self {
        match &request.remote_addr().0 {
            // A client that connected over IPv4 is written as IPv4, also on an IPv6 listener, because firewalls use that form.
            Addr::SocketAddr(address) => Self(Some(address.ip().to_canonical())),
            Addr::Unix(_) | Addr::Custom(..) => Self(None),
        }
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("local"),
        }
    }
}

impl<'a> FromRequest<'a> for ClientAddress {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self::of(request))
    }
}

/// Parses one entry: an address, with a port if the proxy adds one.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let entry = str::from_utf8(entry.trim_ascii()).ok()?;
    let with_port = || entry.parse().map(|address: SocketAddr| address.ip()).ok();
    entry.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}
