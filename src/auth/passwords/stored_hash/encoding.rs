//! The encodings of bytes and numbers that the formats use.

use std::{ops::RangeInclusive, str::FromStr};

use base64::{
    Engine as _,
    alphabet::{self, Alphabet},
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Padding may be there or not, and unused bits may be set, which not every program sets to zero.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_encode_padding(false)
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);

fn decode(alphabet: &Alphabet, text: &str) -> Result<Vec<u8>, String> {
    GeneralPurpose::new(alphabet, LENIENT).decode(text).map_err(|_| "it is not base64".to_owned())
}

/// Decodes base64 of RFC 4648, in either of its alphabets.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, String> {
    if text.contains(['-', '_']) { decode(&alphabet::URL_SAFE, text) } else { decode(&alphabet::STANDARD, text) }
}

/// Decodes the base64 of passlib, which has `.` in place of `+`.
pub(super) fn passlib_base64(text: &str) -> Result<Vec<u8>, String> {
    base64(&text.replace('.', "+"))
}

/// Decodes the base64 of bcrypt.
pub(super) fn bcrypt_base64(text: &str) -> Result<Vec<u8>, String> {
    decode(&alphabet::BCRYPT, text)
}

pub(super) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2)).ok_or("its output is not hexadecimal")?;
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Reads a number in decimal digits.
pub(super) fn number<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Reads a number within bounds. `what` names it in the error, in the plural.
pub(super) fn number_in_range(text: &str, bounds: RangeInclusive<u32>, what: &str) -> Result<u32, String> {
    number(text).filter(|number| bounds.contains(number)).ok_or_else(|| format!("its {what} are out of bounds"))
}
