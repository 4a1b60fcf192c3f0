//! An email address, the name a user logs in with.

use std::fmt;

use email_address::{EmailAddress, Options};

/// A valid email address (RFC 5321 §4.1.2, with the UTF-8 of RFC 6531), at most 254 bytes, with a dot in its domain.
///
/// Keeps the spelling it was given for display; [`Email::key`] is what makes two spellings one account.
#[derive(Debug, Clone)]
pub struct Email(String);

/// The text is not an email address.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a valid email")]
pub struct EmailError(String);

/// The longest path of RFC 5321 §4.5.3.1.3, less its angle brackets.
const BYTES_MAX: usize = 254;
/// How much of a bad value an error repeats.
const ECHO_CHARS_MAX: usize = BYTES_MAX;

impl Email {
    /// Reads an address.
    ///
    /// # Errors
    /// [`EmailError`] where it is too long, malformed, has a quoted or literal part, or a domain without a dot.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let options = Options::default().with_required_tld().without_domain_literal().without_display_text();
        let well_formed = text.len() <= BYTES_MAX
            && !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '"')
            && EmailAddress::parse_with_options(text, options).is_ok();
        if well_formed { Ok(Self(text.to_owned())) } else { Err(EmailError(echo(text))) }
    }

    /// An address that was read by [`Email::parse`] before it was kept.
    #[must_use]
    pub fn from_trusted(text: String) -> Self {
        Self(text)
    }

    /// The spelling given at registration.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The spelling that all letter cases of this address share.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn echo(text: &str) -> String {
    match text.char_indices().nth(ECHO_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
