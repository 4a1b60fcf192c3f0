//! Parsers of setting values. An error is one sentence for the operator.

use std::time::Duration;

use tracing_subscriber::filter::{LevelFilter, Targets};
use url::Url;

use crate::model::Email;

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

pub(super) fn duration(text: &str, min: Duration, max: Duration, bounds: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 90s, 15m or 1h"))?;
    if (min..=max).contains(&duration) { Ok(duration) } else { Err(bounds.to_owned()) }
}

/// Parses `--log` strictly. `Targets` alone takes a misspelt level for the name of a target and logs everything of it.
pub(super) fn log_filter(text: &str) -> Result<Targets, String> {
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
