//! The settings of tokens and of the keys that sign them.

use std::{path::PathBuf, str::FromStr as _, time::Duration};

use clap::Args;
use url::{Host, Url};

use super::values::{self, duration, trimmed};
use crate::{auth::tokens::TokenSettings, model::SigningAlgorithm};

/// The longest public URL and the longest name of an audience, in bytes. With [`AUDIENCES_MAX`] it bounds the size of a token.
const NAME_BYTES_MAX: usize = 255;
/// The maximum number of audiences.
const AUDIENCES_MAX: usize = 10;

/// The settings of tokens.
#[derive(Debug, Clone, Args)]
#[expect(clippy::doc_markdown, reason = "these are the help texts, which a terminal shows as they are")]
pub struct TokenArgs {
    /// Domain that `WWW-Authenticate` names: `registered_users@DOMAIN`.
    #[arg(long, global = true, env = "LATCHKEY_DOMAIN", help_heading = "Tokens", value_name = "DOMAIN", default_value = "mydomain.com",
          value_parser = trimmed(values::domain))]
    pub domain: String,

    /// URL under which others reach this server, such as `https://login.example.com`: the issuer (`iss`) that tokens name. By default
    /// they name none.
    #[arg(long, global = true, env = "LATCHKEY_PUBLIC_URL", help_heading = "Tokens", value_name = "URL", value_parser = trimmed(public_url))]
    pub public_url: Option<String>,

    /// Who tokens are for (`aud`), such as the name of a service that verifies them. Can be repeated; in the variable, separate with
    /// commas. By default they do not say.
    #[arg(long = "audience", global = true, env = "LATCHKEY_AUDIENCE", help_heading = "Tokens", value_name = "NAME", value_delimiter = ',',
          value_parser = trimmed(audience))]
    pub audiences: Vec<String>,

    /// How long a token lives, such as 90s, 15m, 1h or 7d; at most 365d.
    #[arg(long, global = true, env = "LATCHKEY_TOKEN_LIFETIME", help_heading = "Tokens", value_name = "DURATION", default_value = "1h",
          value_parser = trimmed(values::token_lifetime))]
    pub token_lifetime: Duration,

    /// Algorithm of the keys that sign tokens: ES256, EdDSA, RS256 or HS256. It is that of the first key, unless you give a secret,
    /// and of each key that a rotation makes.
    #[arg(long, global = true, env = "LATCHKEY_SIGNING_ALGORITHM", help_heading = "Tokens", value_name = "ALGORITHM", default_value = "ES256",
          value_parser = trimmed(SigningAlgorithm::from_str))]
    pub signing_algorithm: SigningAlgorithm,

    /// How old a signing key gets before another takes its place, such as 90d; from 1h to 3650d, or off. A key of HS256 is only replaced
    /// by `latchkey key rotate`.
    #[arg(long, global = true, env = "LATCHKEY_KEY_ROTATION", help_heading = "Tokens", value_name = "DURATION", default_value = "90d",
          value_parser = trimmed(key_rotation))]
    pub key_rotation: KeyAgeMax,

    /// File with the secret that the signing keys are encrypted with, at least 32 bytes; one line end behind it is not part of it. In a
    /// new data directory it is the first signing key too, of HS256. By default a secret is made at the first start and kept in the data
    /// directory. The variable LATCHKEY_SECRET_KEY can hold the secret itself instead.
    #[arg(long, global = true, env = "LATCHKEY_SECRET_KEY_FILE", help_heading = "Tokens", value_name = "FILE", value_parser = values::path())]
    pub secret_key_file: Option<PathBuf>,
}

/// The age at which a signing key is replaced, or `None` for never.
#[derive(Debug, Clone, Copy)]
pub struct KeyAgeMax(pub Option<Duration>);

impl TokenArgs {
    /// Returns what new tokens say.
    #[must_use]
    pub fn settings(&self) -> TokenSettings {
        TokenSettings {
            lifetime_s: self.token_lifetime.as_secs(),
            issuer: self.public_url.clone(),
            audience: self.audiences.clone(),
        }
    }

    /// Returns an error if there are too many audiences.
    pub(super) fn check(&self) -> Result<(), String> {
        let count = self.audiences.len();
        if count > AUDIENCES_MAX {
            return Err(format!("--audience is given {count} times; at most {AUDIENCES_MAX} are possible"));
        }
        Ok(())
    }
}

fn key_rotation(text: &str) -> Result<KeyAgeMax, String> {
    if text == "off" {
        return Ok(KeyAgeMax(None));
    }
    let (min, max) = (Duration::from_hours(1), Duration::from_hours(3650 * 24));
    duration(text, min, max, "must be off or from 1h to 3650d").map(|age| KeyAgeMax(Some(age)))
}

/// Parses the public URL, and returns it without a slash at its end: the issuer is compared byte for byte (RFC 8414 §3.3).
fn public_url(text: &str) -> Result<String, String> {
    let wrong = || "must be a URL without a path such as https://login.example.com".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    let is_loopback = match url.host().ok_or_else(wrong)? {
        Host::Domain(name) => name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(ip) => ip.is_loopback(),
        Host::Ipv6(ip) => ip.is_loopback(),
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback => {}
        "http" => return Err("must begin with https://, unless it is a loopback address".to_owned()),
        _ => return Err(wrong()),
    }
    let origin = url.origin().ascii_serialization();
    let is_plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_plain = is_plain && url.username().is_empty() && url.password().is_none() && origin.len() <= NAME_BYTES_MAX;
    if is_plain { Ok(origin) } else { Err(wrong()) }
}

fn audience(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_graphic() && !"\"\\".contains(c);
    let fine = !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(is_plain);
    if fine {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 255 visible characters of ASCII without quotes".to_owned())
    }
}
