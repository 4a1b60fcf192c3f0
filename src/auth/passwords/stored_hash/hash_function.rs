//! The functions that password hashes of other systems are made with, next to our own scrypt.
//!
//! Guarantees: the parameters of a function that exists are within the bounds here, so time and memory of a verification are bounded. The
//! comparison takes constant time. Deliberately absent: texts; the other files of this folder parse them.

use argon2::Argon2;
use aws_lc_rs::{cipher, iv::FixedLength};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::Hmac;
use md5::Md5;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::auth::passwords::{policy::Password, scrypt_cost::ScryptCost};

/// The maximum cost of bcrypt.
pub(super) const BCRYPT_COST_MAX: u32 = 14;
/// The maximum number of iterations of PBKDF2.
pub(super) const PBKDF2_ROUNDS_MAX: u32 = 2_000_000;
/// The maximum number of rounds of SHA-crypt.
pub(super) const SHA_CRYPT_ROUNDS_MAX: u32 = 1_000_000;
/// The maximum number of rounds of phpass, as a power of two.
pub(super) const PHPASS_LOG_ROUNDS_MAX: u8 = 19;

/// The longest password in bytes that a function verifies whose time grows with rounds times bytes. A longer one does not match. libxcrypt
/// and Drupal have the same limit.
const ROUNDS_PASSWORD_BYTES_MAX: usize = 512;

/// The work of one unit, as the number of scrypt bytes that take about as long. A rough estimate is enough for the admission queue.
const ARGON2_KIB_WORK: u64 = 320;
const BCRYPT_ROUND_WORK: u64 = 30_000;
const SHA1_ROUND_WORK: u64 = 150;
const SHA256_ROUND_WORK: u64 = 150;
const SHA512_ROUND_WORK: u64 = 300;
const SHA_CRYPT_ROUND_WORK: u64 = 400;
const PHPASS_ROUND_WORK: u64 = 150;

/// A cryptographic digest (FIPS 180-4), or MD5 (RFC 1321).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DigestKind {
    Md5,
    Sha1,
    Sha256,
    Sha512,
}

impl DigestKind {
    fn bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn round_work(self) -> u64 {
        match self {
            Self::Md5 | Self::Sha1 => SHA1_ROUND_WORK,
            Self::Sha256 => SHA256_ROUND_WORK,
            Self::Sha512 => SHA512_ROUND_WORK,
        }
    }

    fn of(self, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        let all = Zeroizing::new(parts.concat());
        Zeroizing::new(match self {
            Self::Md5 => Md5::digest(&*all).to_vec(),
            Self::Sha1 => Sha1::digest(&*all).to_vec(),
            Self::Sha256 => Sha256::digest(&*all).to_vec(),
            Self::Sha512 => Sha512::digest(&*all).to_vec(),
        })
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => hmac::<Hmac<Md5>>(key, message),
            Self::Sha1 => hmac::<Hmac<Sha1>>(key, message),
            Self::Sha256 => hmac::<Hmac<Sha256>>(key, message),
            Self::Sha512 => hmac::<Hmac<Sha512>>(key, message),
        }
    }

    fn pbkdf2(self, password: &[u8], salt: &[u8], rounds: u32, output: &mut [u8]) {
        match self {
            Self::Md5 => pbkdf2::pbkdf2_hmac::<Md5>(password, salt, rounds, output),
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, rounds, output),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, rounds, output),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, rounds, output),
        }
    }
}

fn hmac<M: hmac::Mac + hmac::KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mac = <M as hmac::KeyInit>::new_from_slice(key).expect("BUG: HMAC takes a key of any length");
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

/// What is computed from the password before the hash function gets it.
pub(super) enum Prehash {
    Nothing,
    /// MD5, in hexadecimal: what Drupal 7 made of the hashes of Drupal 6.
    Md5Hex,
    /// SHA-256, in hexadecimal: Django's `bcrypt_sha256`.
    Sha256Hex,
    /// SHA-256, in base64: passlib's first `bcrypt-sha256`.
    Sha256Base64,
    /// HMAC-SHA-256 with this key, in base64: passlib's second `bcrypt-sha256`.
    HmacSha256Base64(Vec<u8>),
    /// HMAC-SHA-384 with a constant key, in base64: `WordPress` since 6.8.
    WordPress,
}

impl Prehash {
    fn apply(&self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        let base64 = |bytes: &[u8]| BASE64_STANDARD.encode(bytes).into_bytes();
        Zeroizing::new(match self {
            Self::Nothing => password.to_vec(),
            Self::Md5Hex => hex(&DigestKind::Md5.of(&[password])),
            Self::Sha256Hex => hex(&DigestKind::Sha256.of(&[password])),
            Self::Sha256Base64 => base64(&DigestKind::Sha256.of(&[password])),
            Self::HmacSha256Base64(key) => base64(&DigestKind::Sha256.hmac(key, password)),
            Self::WordPress => base64(&hmac::<Hmac<Sha384>>(b"wp-sha384", password)),
        })
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// A function from password and salt to the bytes that are stored.
pub(super) enum HashFunction {
    /// RFC 7914.
    Scrypt(ScryptCost),
    /// scrypt, whose output is the key that encrypts `signer_key` (AES-256-CTR).
    FirebaseScrypt { cost: ScryptCost, signer_key: Vec<u8> },
    /// RFC 9106.
    Argon2(Box<Argon2<'static>>),
    /// bcrypt with this cost.
    Bcrypt { cost: u32, prehash: Prehash },
    /// RFC 8018 with HMAC and this number of iterations.
    Pbkdf2 { digest: DigestKind, rounds: u32 },
    /// SHA-crypt. The crate that verifies it parses the whole text.
    ShaCrypt { text: String, rounds: u32 },
    /// The digest of the digest and the password, two to the power of `log_rounds` times, in the encoding of phpass.
    Phpass { digest: DigestKind, log_rounds: u8, prehash: Prehash },
    /// One digest of the password and the salt.
    SaltedDigest(DigestKind),
    /// One HMAC of the password, with the salt as its key.
    SaltedHmac(DigestKind),
}

impl HashFunction {
    /// Whether `password` and `salt` give `expected`. This is as expensive as computing the hash.
    pub(super) fn matches(&self, password: &Password, salt: &[u8], expected: &[u8]) -> bool {
        let all = password.bytes();
        let typed = &all[..all.len().min(self.password_bytes_max())];
        let mut actual = Zeroizing::new(vec![0; expected.len()]);
        match self {
            Self::Scrypt(cost) => cost.derive(password, salt, &mut actual),
            Self::FirebaseScrypt { cost, signer_key } => {
                let mut key = Zeroizing::new([0; 32]);
                cost.derive(password, salt, &mut *key);
                actual = Zeroizing::new(aes_256_ctr(&key, signer_key));
            }
            Self::Argon2(argon2) => {
                argon2.hash_password_into(typed, salt, &mut actual).expect("BUG: bounded parameters are valid");
            }
            Self::Bcrypt { cost, prehash } => {
                // As in Python's bcrypt: the password with a zero byte at its end, cut off after 72 bytes. A zero byte inside the
                // password has no special meaning.
                let mut bytes = prehash.apply(typed);
                bytes.push(0);
                bytes.truncate(72);
                let salt = salt.try_into().expect("BUG: a bcrypt salt was read as 16 bytes");
                let length = actual.len();
                actual.copy_from_slice(&bcrypt::bcrypt(*cost, salt, &bytes)[..length]);
            }
            Self::Pbkdf2 { digest, rounds } => digest.pbkdf2(typed, salt, *rounds, &mut actual),
            Self::ShaCrypt { text, .. } => {
                let matches = ShaCrypt::SHA512.verify_password(typed, text.as_str()).is_ok();
                return matches && typed.len() == all.len();
            }
            Self::Phpass { digest, log_rounds, prehash } => {
                let typed = prehash.apply(typed);
                let mut sum = digest.of(&[salt, &typed]);
                for _ in 0..1_u32 << log_rounds {
                    sum = digest.of(&[&sum, &typed]);
                }
                let mut text = phpass_text(&sum);
                text.truncate(expected.len());
                actual = Zeroizing::new(text);
            }
            Self::SaltedDigest(digest) => actual = digest.of(&[typed, salt]),
            Self::SaltedHmac(digest) => actual = Zeroizing::new(digest.hmac(salt, typed)),
        }
        bool::from(actual.ct_eq(expected)) && typed.len() == all.len()
    }

    /// Returns the length of the output in bytes, or `None` if it can have any.
    pub(super) fn output_bytes(&self) -> Option<usize> {
        match self {
            Self::SaltedDigest(digest) | Self::SaltedHmac(digest) => Some(digest.bytes()),
            _ => None,
        }
    }

    /// The longest password in bytes that can match.
    fn password_bytes_max(&self) -> usize {
        match self {
            Self::ShaCrypt { .. } | Self::Phpass { .. } => ROUNDS_PASSWORD_BYTES_MAX,
            _ => usize::MAX,
        }
    }

    /// Returns the work of one verification, as the number of scrypt bytes that take about as long. `output` is the length of the hash.
    pub(super) fn work(&self, output: usize) -> u64 {
        match self {
            Self::Scrypt(cost) | Self::FirebaseScrypt { cost, .. } => cost.work(),
            Self::Argon2(argon2) => {
                let params = argon2.params();
                u64::from(params.m_cost()) * u64::from(params.t_cost()) * ARGON2_KIB_WORK
            }
            Self::Bcrypt { cost, .. } => BCRYPT_ROUND_WORK << cost,
            Self::Pbkdf2 { digest, rounds } => {
                u64::from(*rounds) * digest.round_work() * output.div_ceil(digest.bytes()) as u64
            }
            Self::ShaCrypt { rounds, .. } => u64::from(*rounds) * SHA_CRYPT_ROUND_WORK,
            Self::Phpass { log_rounds, .. } => PHPASS_ROUND_WORK << log_rounds,
            Self::SaltedDigest(digest) | Self::SaltedHmac(digest) => digest.round_work(),
        }
    }
}

/// Encrypts `plaintext` with an initial counter of zero.
fn aes_256_ctr(key: &[u8; 32], plaintext: &[u8]) -> Vec<u8> {
    let key = cipher::UnboundCipherKey::new(&cipher::AES_256, key).expect("BUG: the key has 32 bytes");
    let key = cipher::EncryptingKey::ctr(key).expect("BUG: AES has a counter mode");
    let mut bytes = plaintext.to_vec();
    let zero = cipher::EncryptionContext::Iv128(FixedLength::from([0; 16]));
    key.less_safe_encrypt(&mut bytes, zero).expect("BUG: the counter mode takes any length");
    bytes
}

/// Encodes bytes as phpass does: six bits a character, least significant bits first.
fn phpass_text(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() * 4 / 3 + 1);
    for group in bytes.chunks(3) {
        let bits = group.iter().rev().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..=group.len() {
            text.push(PHPASS_ALPHABET[(bits >> (6 * place) & 0x3f) as usize]);
        }
    }
    text
}

/// The alphabet of phpass and of the rounds in its hashes.
pub(super) const PHPASS_ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
