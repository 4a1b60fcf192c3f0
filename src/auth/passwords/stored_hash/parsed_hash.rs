//! What every parser of this folder returns.

use super::hash_function::HashFunction;

/// The longest output that is compared. PBKDF2 computes each block by itself, so that a longer output of it may be cut.
pub(super) const OUTPUT_BYTES_MAX: usize = 64;

/// A hash as its text says.
pub(super) struct ParsedHash {
    /// The name of the format, such as `Django pbkdf2_sha256`.
    pub(super) format: &'static str,
    pub(super) function: HashFunction,
    pub(super) salt: Vec<u8>,
    pub(super) expected: Vec<u8>,
}

/// A hash, or what is wrong with its text, as the end of the sentence "the hash cannot be used: …".
pub(super) type Parsed = Result<ParsedHash, String>;
