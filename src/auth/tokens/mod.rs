//! Access tokens: signs claims into a JWT and verifies a JWT. The only module that uses jsonwebtoken.
//!
//! Guarantees: [`Tokens::verify`] accepts exactly the tokens that [`Tokens::sign`] creates with this key. The header is compared byte for
//! byte with our own before anything is decoded, so that no other `alg`, `typ`, `kid`, `crit` or `jwk` is ever interpreted (RFC 8725
//! §3.1). No claim is decoded before the signature is verified. Deliberately absent: time. The caller compares `exp` with the clock,
//! because the library's own check accepts a token at the second of its `exp` and grants leeway.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::model::{BlacklistedToken, PublicId, TokenId};

/// The longest token that is decoded. Our own have about 370 bytes.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The longest JSON of claims that is decoded. Our own are shorter.
const PAYLOAD_BYTES_MAX: usize = 4 * 1024;
/// The size of the buffer for a decoded signature. The decoder needs more than the signature's 32 bytes.
const SIGNATURE_BYTES_MAX: usize = 64;
/// The end of the year 9999. A token with a later `exp` is refused even with a valid signature, because its blacklist entry would never
/// be purged.
const EXPIRES_AT_S_MAX: u64 = 253_402_300_799;
/// The shortest HS256 key, in bytes: as long as the hash output (RFC 7518 §3.2).
pub const KEY_BYTES_MIN: usize = 32;

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// `iat`: the time of issue, in seconds since 1970.
    pub issued_at_s: u64,
    /// `exp`: the time from which it is expired, in seconds since 1970.
    pub expires_at_s: u64,
    /// `sub`: the public id of the user.
    pub subject: PublicId,
    /// `admin`: whether the user was an administrator at issue. Clients may read it; the server never does (I8).
    pub admin: bool,
    /// `jti`: the id of the token.
    pub token_id: TokenId,
    /// `epoch`: how often the user's tokens had been invalidated all at once, at issue.
    pub epoch: u64,
    /// `iss`: the URL of the server that issued it, if it had one.
    pub issuer: Option<String>,
    /// `aud`: the services that it is for, or none if it does not say.
    pub audience: Vec<String>,
}

impl Claims {
    /// Returns what the blacklist stores of the token.
    #[must_use]
    pub fn to_blacklisted(&self) -> BlacklistedToken {
        BlacklistedToken { expires_at_s: self.expires_at_s, token_id: self.token_id }
    }
}

/// The claims as JSON in the JWT (RFC 7519 §4.1). A token with any other claim is refused, because our own have none.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iss: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    aud: Option<Audience>,
    iat: u64,
    exp: u64,
    sub: &'a str,
    admin: bool,
    jti: &'a str,
    epoch: u64,
}

/// `aud`: one text, or a list of them (RFC 7519 §4.1.3).
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn of(names: &[String]) -> Option<Self> {
        match names {
            [] => None,
            [name] => Some(Self::One(name.clone())),
            several => Some(Self::Several(several.to_vec())),
        }
    }

    fn into_names(self) -> Vec<String> {
        match self {
            Self::One(name) => vec![name],
            Self::Several(names) => names,
        }
    }
}

/// Signs and verifies tokens with one key.
pub struct Tokens {
    signing: EncodingKey,
    /// Prepared once, because jsonwebtoken derives its HMAC key anew for each token.
    verifying: hmac::Key,
    header: Header,
    /// The start of each of our tokens: the encoded header and the dot after it.
    prefix: String,
    lifetime_s: u64,
}

impl Tokens {
    /// Signs with `key` (HS256, at least [`KEY_BYTES_MIN`] bytes); new tokens live for `lifetime_s` seconds. Tokens of another data
    /// `generation` are refused.
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

    /// Returns the lifetime of a new token in seconds.
    #[must_use]
    pub fn lifetime_s(&self) -> u64 {
        self.lifetime_s
    }

    /// Returns the JWT with these claims.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        self.encode(&Payload {
            iss: claims.issuer.as_deref().map(Cow::Borrowed),
            aud: Audience::of(&claims.audience),
            iat: claims.issued_at_s,
            exp: claims.expires_at_s,
            sub: &claims.subject.to_string(),
            admin: claims.admin,
            jti: &claims.token_id.to_string(),
            epoch: claims.epoch,
        })
    }

    /// Returns the claims of a token, also of an expired one, or `None` if [`Tokens::sign`] did not create it with this key.
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
            issuer: payload.iss.map(Cow::into_owned),
            audience: payload.aud.map(Audience::into_names).unwrap_or_default(),
        })
    }

    fn encode(&self, payload: &impl Serialize) -> String {
        jsonwebtoken::encode(&self.header, payload, &self.signing).expect("BUG: plain claims serialize, and HMAC signs")
    }
}

/// Decodes base64url (RFC 7515 §2) into `room`. Returns `None` if `text` is malformed or the result does not fit.
fn decoded<'a>(text: &str, room: &'a mut [u8]) -> Option<&'a [u8]> {
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(text, room).ok()?;
    room.get(..length)
}

/// Returns the `kid` of the token header: the first 9 bytes of a SHA-256 over a fixed prefix, the generation and the key. It reveals
/// nothing about the key.
fn key_id(key: &[u8], generation: Option<u64>) -> String {
    let mut hash = Sha256::new().chain_update(b"latchkey key id\0");
    if let Some(generation) = generation {
        hash.update(generation.to_be_bytes());
    }
    BASE64_URL_SAFE_NO_PAD.encode(&hash.chain_update(key).finalize()[..9])
}
