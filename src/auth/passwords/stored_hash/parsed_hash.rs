//! What every parser of this folder returns.

use super::hash_function::HashFunction;

/// The longest output that is compared. A longer output of PBKDF2 may be cut to this length, because each block is computed by itself.
pub(super) const OUTPUT_BYTES_MAX: usize = 64;

/// The function, the salt and the expected output that the text of a hash describes.
pub(super) struct ParsedHash {
    /// The name of the format, such as `Django pbkdf2_sha256`.
    pub(super) format: &'static str,
    pub(super) function: HashFunction,
    pub(super) salt: Vec<u8>,
    pub(super) expected: Vec<u8>,
}

/// A hash, or what is wrong with its text, as the end of the sentence "the hash cannot be used: …".
pub(super) type ParseResult = Result<ParsedHash, String>;
