//! An address to listen on or to ask, as people write it.
//!
//! Guarantees: a name stands for all its addresses. An address without a host is every address of the machine, a port alone is this machine
//! itself.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// A host and a port. The host is an IP address, a name, or every address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    host: Host,
    /// The port; 0 is one that the operating system chooses.
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
    Every,
}

impl ListenAddress {
    /// Returns the addresses that are meant, at least one. For every address it is the unspecified one of IPv6, which on Linux has those of
    /// IPv4 too; [`ListenAddress::is_every`] tells it.
    ///
    /// # Errors
    /// If the name has no address.
    pub async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Every => Ok(vec![SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), self.port)]),
            Host::Name(name) => {
                let mut found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), self.port)).await?.collect();
                found.sort(); // IPv4 first, and each once
                found.dedup();
                if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
            }
        }
    }

    /// Whether every address of the machine is meant.
    #[must_use]
    pub fn is_every(&self) -> bool {
        self.host == Host::Every
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "write ADDRESS:PORT such as 127.0.0.1:5282, [::1]:5282 or localhost:5282, :5282 for every address, or 5282 \
             for this machine alone"
                .to_owned()
        };
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: Host::Ip(address.ip()), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').unwrap_or(("127.0.0.1", text));
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or_else(wrong)?;
        let named = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let host = match host {
            "" => Host::Every,
            "127.0.0.1" => Host::Ip(Ipv4Addr::LOCALHOST.into()),
            name if name.chars().all(named) && !name.starts_with(['-', '.']) => Host::Name(name.to_owned()),
            _ => return Err(wrong()),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
            Host::Every => write!(f, ":{}", self.port),
        }
    }
}
