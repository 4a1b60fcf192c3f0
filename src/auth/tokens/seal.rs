//! Encrypts the private parts of signing keys, so that a stolen database or backup forges no token.
//!
//! The key of the encryption is derived from the secret, which is not in the database, by HKDF (RFC 5869). Each private part is encrypted by
//! AES-256-GCM with a random nonce, and bound to the id and the algorithm of its key: a part that was moved to another key does not open.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use zeroize::Zeroizing;

use crate::{
    model::{SigningAlgorithm, StoredKey},
    random,
};

/// What is derived from the secret here, so that other uses of the secret have other keys.
const INFO: &[u8] = b"latchkey key ring\0";

/// Encrypts and decrypts private parts.
pub struct SealingKey(LessSafeKey);

impl SealingKey {
    /// Derives the key from `secret`, which has enough entropy for a key.
    ///
    /// # Panics
    /// Never: the lengths are constants.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let derived = Salt::new(HKDF_SHA256, &[]).extract(secret);
        let derived = derived.expand(&[INFO], &AES_256_GCM).map(UnboundKey::from);
        Self(LessSafeKey::new(derived.expect("BUG: HKDF gives a key of this length")))
    }

    /// Returns the nonce (12 bytes), the encrypted `private` part and its tag (16 bytes).
    #[must_use]
    pub(in crate::auth) fn seal(&self, kid: &str, algorithm: SigningAlgorithm, private: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = random::bytes();
        let mut encrypted = private.to_vec();
        let aad = Aad::from(associated_data(kid, algorithm));
        let sealed = self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut encrypted);
        sealed.expect("BUG: a private part is shorter than the limit of AES-GCM");
        [nonce.as_slice(), &encrypted].concat()
    }

    /// Returns the private part of `key`, or `None` if another secret encrypted it or it was altered.
    pub(in crate::auth) fn open(&self, key: &StoredKey) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, encrypted) = key.sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut private = Zeroizing::new(encrypted.to_vec());
        let aad = Aad::from(associated_data(&key.kid, key.algorithm));
        let length = self.0.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut private).ok()?.len();
        private.truncate(length);
        Some(private)
    }
}

fn associated_data(kid: &str, algorithm: SigningAlgorithm) -> Vec<u8> {
    format!("{kid}\0{algorithm}").into_bytes()
}
