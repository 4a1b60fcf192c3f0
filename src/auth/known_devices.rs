//! Known devices: the networks from which an account lately logged in. Its logins from there go before those of strangers.
//!
//! Guarantees: an address is stored only as a keyed hash. The key is derived from the signing key, which is not in the database, so a
//! database without its signing key reveals no address, nor that two accounts share one. For an email without an account the same hash is
//! computed and looked up (I7).

use std::net::IpAddr;

use aws_lc_rs::hmac;

use crate::{
    auth::network::Network,
    model::{KnownDevice, PublicId},
};

/// How long a device is known after a login, in seconds: 30 days.
pub const KNOWN_FOR_S: u64 = 30 * 24 * 60 * 60;
/// How old the stored login must be for a new one to be stored, in seconds: a day, so that few logins write to the disk.
const STORED_EVERY_S: u64 = 24 * 60 * 60;
/// What is hashed with the signing key to derive the key of this module.
const KEY_LABEL: &[u8] = b"latchkey known devices\0";

/// The device of a login, as it was found before the password was verified.
pub(in crate::auth) struct FoundDevice {
    pub(in crate::auth) is_known: bool,
    /// The device, if a login from it is to be stored.
    pub(in crate::auth) to_be_stored: Option<KnownDevice>,
}

/// Hashes networks.
pub struct KnownDevices {
    key: hmac::Key,
}

impl KnownDevices {
    /// Derives the key of the hashes from `signing_key`.
    #[must_use]
    pub fn new(signing_key: &[u8]) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, signing_key), KEY_LABEL);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) }
    }

    /// Returns the device of `user` at `from`. `None` is nobody, whose devices are never stored.
    #[must_use]
    pub fn device(&self, user: Option<PublicId>, from: IpAddr) -> KnownDevice {
        let user = user.unwrap_or(PublicId::from_bytes([0; 16]));
        let mut message = hmac::Context::with_key(&self.key);
        message.update(&user.to_bytes());
        message.update(&Network::of(from).to_bytes());
        let mut network_hash = [0; 16];
        network_hash.copy_from_slice(&message.sign().as_ref()[..16]);
        KnownDevice { user, network_hash }
    }
}

/// Whether a device is known at `now_s` whose last stored login was at `last_s`. All times are in seconds since 1970.
pub(in crate::auth) fn is_known(last_s: Option<u64>, now_s: u64) -> bool {
    last_s.is_some_and(|last| now_s.saturating_sub(last) < KNOWN_FOR_S)
}

/// Whether a login at `now_s` is to be stored, where the last stored one was at `last_s`.
pub(in crate::auth) fn is_to_be_stored(last_s: Option<u64>, now_s: u64) -> bool {
    last_s.is_none_or(|last| now_s.abs_diff(last) >= STORED_EVERY_S)
}
