//! What the revocation feed says about the tokens of a user.

use super::ids::PublicId;

/// The state of a user after a change that ended sessions or altered the right of an administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserRevocation {
    /// The user: the `sub` claim of the tokens that this is about.
    pub user: PublicId,
    /// Tokens with a lower `epoch` claim are invalid.
    pub min_epoch: u64,
    /// Whether the user is an administrator. If not, tokens whose `admin` claim is true are those of an ordinary user.
    pub admin: bool,
    /// The time at which the last token from before the change has expired, in seconds since 1970.
    pub expires_at_s: u64,
}
