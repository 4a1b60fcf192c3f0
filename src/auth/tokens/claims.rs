//! What a token says: its claims, and their form in a JWT (RFC 7519 §4.1).

use std::borrow::Cow;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::model::{BlacklistedToken, PublicId, TokenId};

/// The longest JSON of claims that is decoded. Our own are shorter.
const PAYLOAD_BYTES_MAX: usize = 5 * 1024;
/// The end of the year 9999. A token with a later `exp` is refused even with a valid signature, because its blacklist entry would never
/// be purged.
const EXPIRES_AT_S_MAX: u64 = 253_402_300_799;

/// A token that is to be made. What it says of the server comes from the settings.
#[derive(Debug, Clone, Copy)]
pub struct NewToken {
    /// `iat`: the time of issue, in seconds since 1970.
    pub issued_at_s: u64,
    /// `exp`: the time from which it is expired, in seconds since 1970.
    pub expires_at_s: u64,
    /// `sub`: the public id of the user.
    pub subject: PublicId,
    /// `admin`: whether the user is an administrator.
    pub admin: bool,
    /// `epoch`: how often the user's tokens were invalidated all at once.
    pub epoch: u64,
}

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
    /// Returns what was to be signed.
    pub(super) fn to_new_token(&self) -> NewToken {
        let Self { issued_at_s, expires_at_s, subject, admin, epoch, .. } = *self;
        NewToken { issued_at_s, expires_at_s, subject, admin, epoch }
    }

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

/// Returns the claims of a token in base64url. `issuer` and `audience` are of this server.
pub(super) fn encode(token: &NewToken, token_id: TokenId, issuer: Option<&str>, audience: &[String]) -> String {
    let payload = Payload {
        iss: issuer.map(Cow::Borrowed),
        aud: Audience::of(audience),
        iat: token.issued_at_s,
        exp: token.expires_at_s,
        sub: &token.subject.to_string(),
        admin: token.admin,
        jti: &token_id.to_string(),
        epoch: token.epoch,
    };
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&payload).expect("BUG: plain claims serialize"))
}

/// Reads claims as [`encode`] writes them. Returns `None` if they cannot be those of a token of ours.
pub(super) fn decode(payload: &str) -> Option<Claims> {
    if payload.len() > PAYLOAD_BYTES_MAX / 3 * 4 {
        return None;
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    let payload: Payload<'_> = serde_json::from_slice(&json).ok()?;
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
