//! Unicode normalisation (UAX #15): one text for what looks the same and is typed in different ways.

use std::borrow::Cow;

use icu_normalizer::ComposingNormalizerBorrowed;

/// Returns `text` in form NFC: a letter and its accent are one character where there is one.
#[must_use]
pub fn nfc(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}

/// Returns `text` in form NFKC: NFC, and without differences such as that between a letter and its full-width form.
#[must_use]
pub fn nfkc(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfkc().normalize(text)
}
