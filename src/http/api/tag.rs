//! The groups that the OpenAPI document sorts the operations into.

use poem_openapi::Tags;

#[derive(Tags)]
pub(in crate::http) enum Tag {
    /// Register, log in, log out.
    Auth,
    /// Administrators manage users.
    Users,
    /// Administrators manage the accounts of programs that ask about tokens.
    Services,
    /// Services ask about tokens and revoke them.
    Token,
    /// The protected sample resource: reading needs a token, writing an administrator's.
    Widgets,
}
