//! Access tokens: claims in, JWT out, and back. The only user of jsonwebtoken.
//!
//! Guarantees: [`Tokens::verify`] takes exactly the tokens that [`Tokens::sign`] makes with this key. The header is compared
//! byte for byte with our own before anything is decoded, which leaves no room for `alg`, `typ`, `kid`, `crit`, `jwk` and
//! whatever else a header may say (RFC 8725 §3.1), and no claim before the signature was found good. Deliberately absent: time;
//! who asks decides what "expired" means, since the library's own check lets a token live at its `exp` and grants leeway.

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{PublicId, TokenId};

/// A longer token is refused before it is decoded. Ours have about 370 bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// No claims of ours take more bytes as JSON.
const PAYLOAD_BYTES_MAX: usize = 256;
/// More than a signature takes, as the decoder asks for.
const SIGNATURE_BYTES_MAX: usize = 64;
/// The end of the year 9999: a later `exp` is none of ours, whoever has the key, and would never be purged.
const EXPIRES_AT_S_MAX: u64 = 253_402_300_799;
/// An HS256 key must be as long as the hash: RFC 7518 §3.2.
pub const KEY_BYTES_MIN: usize = 32;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `iat`: when it was made, in seconds since 1970.
    pub issued_at_s: u64,
    /// `exp`: from when it is dead, in seconds since 1970.
    pub expires_at_s: u64,
    /// `sub`: the user.
    pub subject: PublicId,
    /// `admin`: whether the user was an administrator then. For clients to read; never believed here (I8).
    pub admin: bool,
    /// `jti`: names this token.
    pub token_id: TokenId,
    /// `epoch`: how often the user had ended all sessions then.
    pub epoch: u64,
}

/// The claims as they are in the JWT (RFC 7519 §4.1). Our own tokens have no other claims, so others are refused.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    iat: u64,
    exp: u64,
    sub: &'a str,
    admin: bool,
    jti: &'a str,
    epoch: u64,
}

/// Signs and verifies with one key.
pub struct Tokens {
    signing: EncodingKey,
    /// Prepared once: jsonwebtoken hashes its key anew for each token.
    verifying: hmac::Key,
    header: Header,
    /// What every token of ours begins with: the encoded header and the dot behind it.
    prefix: String,
    lifetime_s: u64,
}

impl Tokens {
    /// Tokens signed with `key` (HS256, at least [`KEY_BYTES_MIN`] bytes) that live for `lifetime_s` seconds. Those of another
    /// `generation` are not taken.
    #[must_use]
    pub fn new(key: &[u8], generation: Option<u64>, lifetime_s: u64) -> Self {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(key_id(key, generation));
        let mut tokens = Self {
            signing: EncodingKey::from_secret(key),
            verifying: hmac::Key::new(hmac::HMAC_SHA256, key),
            header,
            prefix: String::new(),
            lifetime_s,
        };
        let sample = tokens.encode(&());
        tokens.prefix.push_str(sample.split_inclusive('.').next().unwrap_or_default());
        tokens
    }

    /// How long a new token lives, in seconds.
    #[must_use]
    pub fn lifetime_s(&self) -> u64 {
        self.lifetime_s
    }

    /// The JWT that says `claims`.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        self.encode(&Payload {
            iat: claims.issued_at_s,
            exp: claims.expires_at_s,
            sub: &claims.subject.to_string(),
            admin: claims.admin,
            jti: &claims.token_id.to_string(),
            epoch: claims.epoch,
        })
    }

    /// What a token says, whatever the time; `None` where it is not one that [`Tokens::sign`] made with this key.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let payload = signed.strip_prefix(&self.prefix)?;
        let mut tag = [0; SIGNATURE_BYTES_MAX];
        let tag = decoded(signature, &mut tag)?;
        hmac::verify(&self.verifying, signed.as_bytes(), tag).ok()?; // of the whole tag, in constant time
        let mut json = [0; PAYLOAD_BYTES_MAX];
        let payload: Payload<'_> = serde_json::from_slice(decoded(payload, &mut json)?).ok()?;
        if payload.exp <= payload.iat || payload.exp > EXPIRES_AT_S_MAX {
            return None;
        }
        Some(Claims {
            issued_at_s: payload.iat,
            expires_at_s: payload.exp,
            subject: PublicId::parse(payload.sub)?,
            admin: payload.admin,
            token_id: TokenId::parse(payload.jti)?,
            epoch: payload.epoch,
        })
    }

    fn encode(&self, payload: &impl Serialize) -> String {
        jsonwebtoken::encode(&self.header, payload, &self.signing).expect("BUG: plain claims serialize, and HMAC signs")
    }
}

/// The bytes that `text` is base64url of (RFC 7515 §2); `None` where it is none, or where there is no room for them.
fn decoded<'a>(text: &str, room: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, room).ok()?;
    room.get(..length)
}

/// Names key and generation in the token's header without telling anything of the key: the start of a SHA-256 with a prefix of
/// its own.
fn key_id(key: &[u8], generation: Option<u64>) -> String {
    let mut hash = Sha256::new().chain_update(b"latchkey key id\0");
    if let Some(generation) = generation {
        hash.update(generation.to_be_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(&hash.chain_update(key).finalize()[..9])
}
