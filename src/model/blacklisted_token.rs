//! What the blacklist stores of a token.

use super::ids::TokenId;

/// A token that was logged out: its name, and the second from which its own expiry makes the entry pointless.
///
/// The token's name and not its text, because one token can have several valid texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlacklistedToken {
    /// The token's `exp` claim: seconds since 1970.
    pub expires_at_s: u64,
    /// The token's `jti` claim.
    pub token_id: TokenId,
}
