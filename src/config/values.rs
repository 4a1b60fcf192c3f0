//! Parsers of setting values. An error is one sentence for the operator.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use clap::{
    Arg, Command,
    builder::{PathBufValueParser, PossibleValue, TypedValueParser},
};
use tracing_subscriber::filter::{LevelFilter, Targets};
use url::Url;

use crate::model::Email;

/// An unusable setting. The program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(super) String);

/// Takes a value without what a file of variables adds and no value begins or ends with: blanks, a carriage return, and quotes around it
/// (or around the list that it is part of).
pub(super) fn trimmed<P: TypedValueParser>(parser: P) -> Trimmed<P> {
    Trimmed(parser)
}

/// A parser of trimmed values.
#[derive(Clone)]
pub(super) struct Trimmed<P>(P);

impl<P: TypedValueParser> TypedValueParser for Trimmed<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<P::Value, clap::Error> {
        let trimmed = value.to_str().map_or(value, |text| OsStr::new(trim_value(text)));
        self.0.parse_ref(command, arg, trimmed)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

/// Returns a value without blanks and quotes around it.
#[must_use]
pub fn trim_value(text: &str) -> &str {
    text.trim().trim_matches(['"', '\'']).trim()
}

fn without_quotes(text: &str) -> &str {
    let between = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    between('"').or_else(|| between('\'')).unwrap_or(text)
}

/// Takes a path as it is. A path can have blanks and quotes, but at its ends they are a mistake that nobody sees, so they are refused and
/// named.
pub(super) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| {
        let wrong = |what: &str| Err(format!("{} {what}", path.display().to_string().escape_debug()));
        match path.to_str() {
            Some(text) if text.ends_with('\r') => {
                wrong("ends with a carriage return; the file it is from has line ends of Windows")
            }
            Some(text) if text.trim() != text => wrong("begins or ends with a blank"),
            Some(text) if without_quotes(text) != text => wrong("is in quotes, which would be part of the name"),
            _ => Ok(path),
        }
    })
}

pub(super) fn admin_email(text: &str) -> Result<Email, String> {
    Email::parse(text).map_err(|error| error.to_string())
}

pub(super) fn domain(text: &str) -> Result<String, String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-.:_".contains(c);
    let ok = !text.is_empty() && text.len() <= 253 && text.chars().all(fine);
    if ok { Ok(text.to_owned()) } else { Err("must be a domain name such as example.com".to_owned()) }
}

pub(super) fn token_lifetime(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1), Duration::from_hours(365 * 24), "must be from 1s to 365d, in whole seconds")
        .and_then(|lifetime| {
            let whole = lifetime.subsec_nanos() == 0;
            if whole { Ok(lifetime) } else { Err("must be in whole seconds".to_owned()) }
        })
}

pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(50), Duration::from_hours(1), "must be from 50ms to 1h")
}

pub(super) fn purge_interval(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(10), Duration::from_hours(24), "must be from 10ms to 24h")
}

pub(super) fn backup_interval(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_secs(1), Duration::from_hours(365 * 24), "must be from 1s to 365d")
}

pub(super) fn duration(text: &str, min: Duration, max: Duration, bounds: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 90s, 15m or 1h"))?;
    if (min..=max).contains(&duration) { Ok(duration) } else { Err(bounds.to_owned()) }
}

/// What logs: this program, by module such as `latchkey::http`, what happens to accounts, and libraries.
const LOG_TARGETS: [&str; 8] = ["latchkey", "audit", "hyper", "hyper_util", "poem", "redb", "rustls", "tokio_rustls"];

/// Parses `--log` strictly. `Targets` alone takes a misspelt level for the name of a target and logs everything of it.
pub(super) fn log_filter(text: &str) -> Result<Targets, String> {
    for (target, _) in text.split(',').filter_map(|part| part.split_once('=')) {
        let target = target.trim();
        if !LOG_TARGETS.contains(&target.split("::").next().unwrap_or(target)) {
            return Err(format!("{target} is no part of the log; its parts are {}", LOG_TARGETS.join(", ")));
        }
    }
    let read = |part: &str| part.contains('=') || !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let filter = text.split(',').all(|part| read(part.trim())).then(|| text.parse().ok()).flatten();
    filter.ok_or_else(|| "must be off, error, warn, info, debug or trace, or parts such as latchkey=debug".to_owned())
}

pub(super) fn cors_origin(text: &str) -> Result<String, String> {
    let is_origin = |url: &Url| url.origin().is_tuple() && url.origin().ascii_serialization() == text;
    if text == "*" || Url::parse(text).is_ok_and(|url| is_origin(&url)) {
        Ok(text.to_owned())
    } else {
        Err("must be * or an origin such as https://app.example.com, without a path".to_owned())
    }
}
