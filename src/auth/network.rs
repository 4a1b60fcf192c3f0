//! Which addresses count as one client, and which clients as one block.
//!
//! A subscriber gets one IPv4 address or a /64 of IPv6 addresses, and can choose among the addresses of the latter. Whoever has many
//! addresses usually has neighbouring ones: a /24 of IPv4, a /48 of IPv6 (RFC 6177).
//!
//! Guarantees: an IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is the same client as the IPv4 address.

use std::net::IpAddr;

/// A range of addresses: all that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    /// 4 or 6, or 0 for the operator, who has no address.
    version: u8,
    bits: u64,
}

impl Network {
    /// Returns the network of one client: the IPv4 address, or the /64 of the IPv6 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self::leading(address, 32, 64)
    }

    fn leading(address: IpAddr, bits_v4: u32, bits_v6: u32) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self { version: 4, bits: (address.to_bits() >> (32 - bits_v4)).into() },
            IpAddr::V6(address) => {
                let bits = u64::try_from(address.to_bits() >> 64).expect("BUG: half of 128 bits is 64");
                Self { version: 6, bits: bits >> (64 - bits_v6) }
            }
        }
    }

    /// Returns the network as bytes. No two client networks have the same bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 9] {
        let mut bytes = [self.version; 9];
        bytes[1..].copy_from_slice(&self.bits.to_be_bytes());
        bytes
    }
}

/// Whoever a job is computed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The network of the client itself.
    pub network: Network,
    /// The network of the client and its neighbours: the /24 of an IPv4 address, or the /48 of an IPv6 address.
    pub block: Network,
}

impl Client {
    /// Returns the client at `from`. `None` is the operator, who has no address and is a block of their own.
    #[must_use]
    pub fn at(from: Option<IpAddr>) -> Self {
        let operator = Network { version: 0, bits: 0 };
        from.map_or(Self { network: operator, block: operator }, |address| Self {
            network: Network::of(address),
            block: Network::leading(address, 24, 48),
        })
    }
}
