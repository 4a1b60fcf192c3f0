//! The email address that a user logs in with.

use std::fmt;

use email_address::{EmailAddress, Options};

use crate::unicode::nfc;

/// A valid email address (RFC 5321 §4.1.2, with the UTF-8 of RFC 6531), at most 254 bytes, with a dot in its domain.
///
/// The original spelling is kept for display, in form NFC unless it was stored before schema 7. Two addresses with the same [`Email::key`] are one mailbox and one account.
#[derive(Debug, Clone)]
pub struct Email(String);

/// The text is not an email address.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not a valid email")]
pub struct EmailError(String);

/// The longest path of RFC 5321 §4.5.3.1.3, less its angle brackets.
const BYTES_MAX: usize = 254;
/// How many characters of an invalid value an error repeats.
const ECHO_CHARS_MAX: usize = BYTES_MAX;

impl Email {
    /// Parses an address.
    ///
    /// # Errors
    /// [`EmailError`] if it is too long or malformed, or has a quoted part, an address literal, or a domain without a dot.
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let text = &*nfc(text);
        let options = Options::default().with_required_tld().without_domain_literal().without_display_text();
        let well_formed = text.len() <= BYTES_MAX
            && !text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '"')
            && EmailAddress::parse_with_options(text, options).is_ok();
        if well_formed { Ok(Self(text.to_owned())) } else { Err(EmailError(echo(text))) }
    }

    /// Takes an address that [`Email::parse`] accepted before it was stored.
    #[must_use]
    pub fn from_trusted(text: String) -> Self {
        Self(text)
    }

    /// Returns the original spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what identifies the mailbox: the local part in lower case, and the domain as the DNS has it (UTS #46).
    #[must_use]
    pub fn key(&self) -> String {
        key(&self.0)
    }

    /// Returns what the key of an address begins with if the address begins with `text`. A label of the domain that is not ASCII must be
    /// complete.
    #[must_use]
    pub fn search_key(text: &str) -> String {
        key(text)
    }
}

fn key(text: &str) -> String {
    let lower = |text: &str| nfc(&nfc(text).to_lowercase()).into_owned();
    match text.rsplit_once('@') {
        // A domain that UTS #46 refuses has no other spelling.
        Some((local, domain)) if !domain.is_ascii() => {
            let domain = idna::domain_to_ascii(domain).unwrap_or_else(|_| lower(domain));
            format!("{}@{domain}", lower(local))
        }
        _ => lower(text),
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
