//! The audit stream: who did what, from where. Log events of the target `audit`, at the level `info`.
//!
//! Guarantees: names and order of the fields are stable, since programs such as fail2ban read them: `event`, `email`, `user`
//! (the public id, absent where the login failed), `client`, and for what is done to someone else `whom_email` and `whom`. A
//! value has no blanks and no control characters, so that none can look like another field or line. Deliberately absent:
//! passwords and tokens.

use std::{fmt, net::IpAddr};

use poem::{Addr, FromRequest, Request, RequestBody};

use crate::model::{Email, PublicId};

/// The address that a request comes from: that of a proxy where there is one.
#[derive(Debug, Clone, Copy)]
pub struct Client(Option<IpAddr>);

impl Client {
    /// Whoever sent `request`.
    pub fn of(request: &Request) -> Self {
        match &request.remote_addr().0 {
            // What came over IPv4 is written like that, also where we listen on IPv6: a firewall knows it by that name.
            Addr::SocketAddr(address) => Self(Some(address.ip().to_canonical())),
            Addr::Unix(_) | Addr::Custom(..) => Self(None),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("local"),
        }
    }
}

impl<'a> FromRequest<'a> for Client {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self::of(request))
    }
}

/// Whose account it is, as far as is known.
pub struct Account<'a> {
    /// As it was typed.
    pub email: &'a Email,
    /// `None` where nobody proved to be the one.
    pub user: Option<PublicId>,
}

/// Records that `who` did `event` (such as `login`), to `whom` where that is someone else.
pub fn record(event: &'static str, who: &Account, whom: Option<&Account>, client: Client) {
    let user = who.user.map(tracing::field::display);
    let whom_email = whom.map(|whom| tracing::field::display(plain(whom.email)));
    let whom = whom.and_then(|whom| whom.user).map(tracing::field::display);
    tracing::info!(target: "audit", %event, email = %plain(who.email), user, %client, whom_email, whom);
}

/// Without blanks, control characters, quotes, or what would turn the direction of the text.
fn plain(email: &Email) -> String {
    let escape = |c: char| match c {
        '\'' => c.to_string(), // as in o'neil@example.com
        c if c.is_whitespace() => c.escape_unicode().to_string(),
        c => c.escape_debug().to_string(),
    };
    email.as_str().chars().map(escape).collect()
}
