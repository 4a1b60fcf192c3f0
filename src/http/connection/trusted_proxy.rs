//! Trusted proxies: the networks whose connections are exempt from the limit per client, and whose `X-Forwarded-For` counts.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// One address or network of proxies.
#[derive(Debug, Clone)]
pub struct TrustedProxy(IpNet);

impl TrustedProxy {
    /// Whether `address`, in its canonical form, is that of one of the `proxies`.
    #[must_use]
    pub fn is_among(proxies: &[Self], address: IpAddr) -> bool {
        proxies.iter().any(|proxy| proxy.0.contains(&address))
    }
}

impl FromStr for TrustedProxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        match network {
            Some(IpNet::V6(mapped)) if mapped.addr().to_ipv4_mapped().is_some() => {
                Err("must be written as IPv4, such as 10.0.0.0/8".to_owned())
            }
            Some(network) => Ok(Self(network)),
            None => Err("must be an address or a network such as 10.0.0.0/8 or fd00::/8".to_owned()),
        }
    }
}
