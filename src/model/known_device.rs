//! A known device: an account, and the network from which it logged in.

use crate::model::ids::PublicId;

/// An account, and a keyed hash of a client's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDevice {
    /// The public id of the account.
    pub user: PublicId,
    /// The hash. It does not reveal the network to who lacks the key.
    pub network_hash: [u8; 16],
}
