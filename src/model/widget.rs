//! A widget: the protected sample resource.

use std::fmt;

use time::OffsetDateTime;
use url::Url;

use super::{deadline::Deadline, ids::PublicId};

/// The name of a widget: 1 to 100 of lowercase ASCII letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WidgetName(String);

/// The text is not a widget name.
#[derive(Debug, thiserror::Error)]
#[error("must be 1 to {NAME_BYTES_MAX} characters: lowercase letters, digits, - (hyphen) and _ (underscore) only")]
pub struct WidgetNameError;

const NAME_BYTES_MAX: usize = 100;

impl WidgetName {
    /// Parses a name.
    ///
    /// # Errors
    /// [`WidgetNameError`] if it is empty, too long or has another character.
    pub fn parse(text: &str) -> Result<Self, WidgetNameError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(WidgetNameError)
        }
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WidgetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An absolute http or https URL with a host (WHATWG URL), stored in its original spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfoUrl(String);

/// The text is not such a URL.
#[derive(Debug, thiserror::Error)]
#[error("must be an absolute http or https URL with a host, at most {URL_BYTES_MAX} bytes long")]
pub struct InfoUrlError;

const URL_BYTES_MAX: usize = 2048;

impl InfoUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// [`InfoUrlError`] if it is relative, has another scheme or no host, is too long, or has white space or control characters, which
    /// the URL standard would drop silently.
    pub fn parse(text: &str) -> Result<Self, InfoUrlError> {
        let clean = text.len() <= URL_BYTES_MAX && !text.contains(|c: char| c.is_control() || c.is_whitespace());
        // The URL standard repairs `https:host`, `https:\\host` and `https:///host`; a stored URL should not need repair.
        let (scheme, rest) = text.split_once("://").ok_or(InfoUrlError)?;
        let has_host = !rest.starts_with(['/', '\\', '?', '#']);
        let url = Url::parse(text).map_err(|_| InfoUrlError)?;
        let is_web = matches!(url.scheme(), "http" | "https") && scheme.eq_ignore_ascii_case(url.scheme());
        if clean && has_host && is_web && url.has_host() { Ok(Self(text.to_owned())) } else { Err(InfoUrlError) }
    }

    /// Returns the URL as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A widget as it is stored.
#[derive(Debug, Clone)]
pub struct Widget {
    /// Its unique name.
    pub name: WidgetName,
    /// A page about it.
    pub info_url: InfoUrl,
    /// The time it was added, in whole seconds.
    pub created_at: OffsetDateTime,
    /// The time it is due, in whole seconds.
    pub deadline: Deadline,
    /// The user who added it.
    pub owner: PublicId,
}
