//! The data that the blacklist stores about a token.

use super::ids::TokenId;

/// A token that was logged out: its id, and its expiry, after which the entry is no longer needed.
///
/// The id is stored and not the text, because one token can have several valid texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlacklistedToken {
    /// The token's `exp` claim: seconds since 1970.
    pub expires_at_s: u64,
    /// The token's `jti` claim.
    pub token_id: TokenId,
}
