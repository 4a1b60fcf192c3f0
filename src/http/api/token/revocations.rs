//! `GET /token/revocations`: what has become invalid before its expiry, for services that verify tokens themselves.
//!
//! Guarantees: each entry is delivered at least once, in the order of commits, also to a service that was away. A waiting request holds no
//! thread and little memory, is answered some milliseconds after a logout, and ends at once when the server stops. Deliberately absent: how the feed is
//! stored (`store::redb::revocations`).

use std::{fmt::Write as _, sync::Arc, time::Duration};

use poem::Request;
use poem_openapi::{Object, OpenApi, registry::MetaSchema};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    clock::Clock,
    http::{
        api::tag::Tag,
        middleware::{
            error::{ApiError, Documented},
            extract::{Parameter, Query, RequestFields},
            json::JsonLater,
            service_guard::ServiceAuth,
        },
    },
    model::{BlacklistedToken, UserRevocation},
    store::{RevocationCursor, RevocationPage, Store, StoreError},
};

/// The maximum number of entries of an answer.
const ENTRIES_MAX: usize = 1000;
/// The longest wait that a request may ask for, in seconds.
const WAIT_S_MAX: u8 = 60;
/// How long a waiting request goes on to wait after the first entry has come, so that many logouts make one answer and not many.
const GATHER: Duration = Duration::from_millis(10);
/// The number of hexadecimal digits of a cursor: the feed and the row (8 bytes each) and the entry (4 bytes).
const CURSOR_DIGITS: usize = 2 * (8 + 8 + 4);

/// The operation `GET /token/revocations`.
pub struct RevocationsApi(pub Arc<RevocationFeed>);

/// The feed, for requests that wait for it.
pub struct RevocationFeed {
    /// The open database.
    pub store: Arc<Store>,
    /// The clock that expiries are compared with.
    pub clock: Arc<dyn Clock>,
    /// How long a request may wait.
    pub wait_max: Duration,
    /// Becomes `true` when the server stops.
    pub stopping: watch::Receiver<bool>,
}

#[OpenApi(prefix_path = "/token", tag = "Tag::Token")]
impl RevocationsApi {
    /// Follow revocations
    ///
    /// Without `after`: everything that is dead and has not expired, in pages; go on while `more` is true. With it: what came since. Where
    /// there is nothing, the answer waits for `wait` seconds, and comes at once when something is revoked. Each entry is delivered at least
    /// once. Keep a `jti` until its `exp`; of several entries of one `sub`, the last one counts.
    #[oai(path = "/revocations", method = "get", operation_id = "list_revocations")]
    async fn list_revocations(
        &self,
        _service: ServiceAuth,
        request: &Request,
        /// The `cursor` of the answer before.
        #[oai(name = "after")]
        _after: Query<AfterParam>,
        /// How many seconds to wait where there is nothing new. A server that cuts requests off earlier answers earlier.
        #[oai(name = "wait")]
        _wait: Query<WaitParam>,
    ) -> Result<JsonLater<RevocationsBody>, Documented<410>> {
        let mut fields = RequestFields::of_query(request)?;
        let parse = |text: &str| parse_cursor(text).map(Some).ok_or("must be the cursor of another answer");
        let after = fields.optional("after", None, |text| parse(&text)).flatten();
        let wait = fields.optional("wait", Duration::ZERO, |text| {
            let seconds = text.parse::<u8>().ok().filter(|seconds| *seconds <= WAIT_S_MAX);
            seconds.map(|seconds| Duration::from_secs(seconds.into())).ok_or("must be a whole number from 0 to 60")
        });
        fields.finish()?;
        let wait = wait.unwrap_or_default().min(self.0.wait_max);
        let until = Instant::now() + wait;
        // This comes before the first read, so that nothing is missed between the two.
        let to_come = self.0.store.subscribe_revocations();
        let page = self.0.page(after).await.map_err(ApiError::from)?.ok_or(ApiError::CursorGone)?;
        if !page.is_last_and_empty() || after.is_none() || wait.is_zero() {
            return Ok(JsonLater::ready(&RevocationsBody::new(&page)));
        }
        Ok(JsonLater::deferred(Arc::clone(&self.0).wait(page.next, until, to_come)))
    }
}

impl RevocationFeed {
    async fn page(&self, after: Option<RevocationCursor>) -> Result<Option<RevocationPage>, StoreError> {
        self.store.revocation_page(after, self.clock.unix_s(), ENTRIES_MAX).await
    }

    /// Waits until there are entries after `after`, which is the end of the feed, and returns them; or none if it is `until` before, or the
    /// server stops. The head of the response was sent, so that a failure of the disk has no entries either. The next request is told of it.
    async fn wait(
        self: Arc<Self>,
        mut after: RevocationCursor,
        until: Instant,
        mut to_come: watch::Receiver<()>,
    ) -> RevocationsBody {
        let mut stopping = self.stopping.clone();
        loop {
            let goes_on = tokio::select! {
                changed = to_come.changed() => changed.is_ok(),
                () = sleep_until(until) => false,
                _ = stopping.wait_for(|is_stopping| *is_stopping) => false,
            };
            if !goes_on {
                return RevocationsBody::empty(after);
            }
            sleep(GATHER).await;
            match self.page(Some(after)).await {
                Ok(Some(page)) if page.is_last_and_empty() => after = page.next,
                Ok(Some(page)) => return RevocationsBody::new(&page),
                Ok(None) => return RevocationsBody::empty(after),
                Err(error) => {
                    tracing::debug!(%error, "a request that waited for revocations is answered without any");
                    return RevocationsBody::empty(after);
                }
            }
        }
    }
}

/// `?after=`
struct AfterParam;

impl Parameter for AfterParam {
    fn schema() -> MetaSchema {
        MetaSchema { pattern: Some(format!("^[0-9a-f]{{{CURSOR_DIGITS}}}$")), ..MetaSchema::new("string") }
    }
}

/// `?wait=`
struct WaitParam;

impl Parameter for WaitParam {
    fn schema() -> MetaSchema {
        MetaSchema {
            minimum: Some(0.0),
            maximum: Some(f64::from(WAIT_S_MAX)),
            default: Some(0.into()),
            ..MetaSchema::new("integer")
        }
    }
}

/// Returns the text of a cursor, in hexadecimal digits.
fn cursor_text(cursor: RevocationCursor) -> String {
    let mut text = String::with_capacity(CURSOR_DIGITS);
    let RevocationCursor { feed, row, entry } = cursor;
    write!(text, "{feed:016x}{row:016x}{entry:08x}").expect("BUG: writing to memory does not fail");
    text
}

/// Parses the text of a cursor. Every text of the documented pattern is a cursor.
fn parse_cursor(text: &str) -> Option<RevocationCursor> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != CURSOR_DIGITS || !text.bytes().all(is_digit) {
        return None;
    }
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    Some(RevocationCursor {
        feed: number(&text[..16])?,
        row: number(&text[16..32])?,
        entry: u32::from_str_radix(&text[32..], 16).ok()?,
    })
}

/// Entries of the revocation feed.
#[derive(Object, Serialize)]
#[oai(rename = "Revocations")]
struct RevocationsBody {
    /// The place after these entries, for `after`.
    cursor: String,
    /// Whether there are more entries now. Ask for them at once.
    more: bool,
    /// Tokens that were logged out.
    tokens: Vec<RevokedToken>,
    /// Users whose tokens were invalidated all at once, or who became administrators or ceased to be.
    users: Vec<RevokedUser>,
}

/// A token that was logged out.
#[derive(Object, Serialize)]
struct RevokedToken {
    /// The `jti` claim of the token.
    jti: String,
    /// Its `exp` claim, in seconds since 1970. The entry is of no use afterwards.
    exp: u64,
}

/// The state of a user after a change.
#[derive(Object, Serialize)]
struct RevokedUser {
    /// The `sub` claim of the tokens of the user.
    sub: String,
    /// Tokens with a lower `epoch` claim are dead.
    min_epoch: u64,
    /// Whether the user is an administrator. If not, a token that says so is that of an ordinary user.
    admin: bool,
    /// When all tokens from before the change have expired, in seconds since 1970. The entry is of no use afterwards.
    exp: u64,
}

impl RevocationsBody {
    /// Returns the body without entries.
    fn empty(next: RevocationCursor) -> Self {
        Self { cursor: cursor_text(next), more: false, tokens: Vec::new(), users: Vec::new() }
    }

    fn new(page: &RevocationPage) -> Self {
        let token =
            |token: &BlacklistedToken| RevokedToken { jti: token.token_id.to_string(), exp: token.expires_at_s };
        let user = |user: &UserRevocation| RevokedUser {
            sub: user.user.to_string(),
            min_epoch: user.min_epoch,
            admin: user.admin,
            exp: user.expires_at_s,
        };
        Self {
            cursor: cursor_text(page.next),
            more: page.more,
            tokens: page.tokens.iter().map(token).collect(),
            users: page.users.iter().map(user).collect(),
        }
    }
}
