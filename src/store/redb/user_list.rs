//! Pages of users: in order of registration, filtered by flags; or, as a search by the start of the email, in order of emails.
//!
//! Guarantees: the cost of a page does not grow with the number of users. A page in order of registration reads the shown users and one
//! row per some thousand skipped ones (`user_index`). A search reads the shown users; if it also filters by flags, at most
//! [`ROWS_READ_MAX`] users, after which the page ends early and its cursor leads on.

use std::ops::Bound;

use redb::ReadableTableMetadata as _;

use crate::{
    model::{Email, PublicId, User, UserFilter},
    store::{
        error::StoreError,
        redb::{
            handle::Snapshot,
            record,
            tables::USERS_BY_EMAIL,
            user_index::{self, Start},
            users,
        },
    },
};

/// The maximum number of users that a search counts or skips.
const SEARCH_COUNTED_MAX: u64 = 10_000;
/// The maximum number of users that one page of a search reads to find those with the wanted flags.
const ROWS_READ_MAX: u64 = 1_000;

/// The place of a user in any list of users. The user need not exist any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCursor {
    /// The public id of the user.
    pub id: PublicId,
    /// The email of the user in lower case (`Email::key`).
    pub email_key: String,
}

impl UserCursor {
    fn of(user: &User) -> Self {
        Self { id: user.public_id, email_key: user.email.key() }
    }
}

/// The start of a page.
#[derive(Debug, Clone)]
pub enum UsersFrom {
    /// After this number of users. A search skips at most 10,000: beyond these the page is empty, and its cursor leads on.
    Skip(u64),
    /// After this user.
    After(UserCursor),
}

/// Consecutive users of a list.
#[derive(Default)]
pub struct UserPage {
    /// The users.
    pub items: Vec<User>,
    /// Where the next page starts, or `None` if this is the last one. After a search with a filter by flags the next page may be empty.
    pub next: Option<UserCursor>,
}

/// The number of users in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserTotal {
    /// The number of users, or if it is not exact, a lower bound.
    pub users: u64,
    /// Whether it is exact.
    pub is_exact: bool,
}

/// Reads up to `limit` users.
pub(in crate::store) fn page(
    snapshot: &Snapshot,
    filter: &UserFilter,
    from: UsersFrom,
    limit: usize,
) -> Result<UserPage, StoreError> {
    if let Some(prefix) = &filter.email_prefix {
        return search(snapshot, &Email::search_key(prefix), filter, from, limit);
    }
    let start = match from {
        UsersFrom::Skip(skip) => Start::Skip(skip),
        UsersFrom::After(cursor) => Start::After(cursor.id),
    };
    let mut page = UserPage::default();
    for id in user_index::ids(snapshot, filter, start)? {
        if page.items.len() == limit {
            page.next = page.items.last().map(UserCursor::of);
            break;
        }
        let id = id?;
        page.items.push(users::find(&snapshot.users, id)?.ok_or_else(|| no_such_user("users_by_flags"))?);
    }
    Ok(page)
}

/// Counts the users of a list: exactly by flags, up to [`SEARCH_COUNTED_MAX`] in a search.
pub(in crate::store) fn total(snapshot: &Snapshot, filter: &UserFilter) -> Result<UserTotal, StoreError> {
    let Some(prefix) = &filter.email_prefix else {
        let users = if filter.is_empty() { snapshot.users.len()? } else { user_index::count(snapshot, filter)? };
        return Ok(UserTotal { users, is_exact: true });
    };
    let prefix = Email::search_key(prefix);
    if filter.has_flags() {
        let counted = usize::try_from(SEARCH_COUNTED_MAX).unwrap_or(usize::MAX);
        let found = search(snapshot, &prefix, filter, UsersFrom::Skip(0), counted)?;
        return Ok(UserTotal { users: found.items.len() as u64, is_exact: found.next.is_none() });
    }
    let mut users = 0;
    for entry in snapshot.open_table(USERS_BY_EMAIL)?.range(prefix.as_bytes()..)? {
        if !entry?.0.value().starts_with(prefix.as_bytes()) {
            return Ok(UserTotal { users, is_exact: true });
        }
        if users == SEARCH_COUNTED_MAX {
            return Ok(UserTotal { users, is_exact: false });
        }
        users += 1;
    }
    Ok(UserTotal { users, is_exact: true })
}

/// Reads up to `limit` users whose email starts with `prefix` ([`Email::search_key`]), in the order of emails.
fn search(
    snapshot: &Snapshot,
    prefix: &str,
    filter: &UserFilter,
    from: UsersFrom,
    limit: usize,
) -> Result<UserPage, StoreError> {
    if filter.has_flags() && user_index::count(snapshot, filter)? <= ROWS_READ_MAX {
        return search_by_flags(snapshot, filter, from, limit);
    }
    let (mut skip, start) = match &from {
        UsersFrom::Skip(skip) => (*skip, Bound::Included(prefix.as_bytes())),
        UsersFrom::After(cursor) if cursor.email_key.as_str() < prefix => (0, Bound::Included(prefix.as_bytes())),
        UsersFrom::After(cursor) => (0, Bound::Excluded(cursor.email_key.as_bytes())),
    };
    let limit = if skip > SEARCH_COUNTED_MAX { 0 } else { limit };
    skip = skip.min(SEARCH_COUNTED_MAX);
    let mut page = UserPage::default();
    let (mut rows_read, mut last) = (0, None);
    for entry in snapshot.open_table(USERS_BY_EMAIL)?.range::<&[u8]>((start, Bound::Unbounded))? {
        let (email, id) = entry?;
        if !email.value().starts_with(prefix.as_bytes()) {
            break;
        }
        if skip == 0 && page.items.len() == limit || filter.has_flags() && rows_read == ROWS_READ_MAX {
            page.next = last;
            break;
        }
        let id = PublicId::from_bytes(record::fixed("users_by_email", id.value())?);
        if filter.has_flags() || skip == 0 {
            let user = users::find(&snapshot.users, id)?.ok_or_else(|| no_such_user("users_by_email"))?;
            rows_read += 1;
            if filter.fits(&user) {
                if skip == 0 {
                    page.items.push(user);
                } else {
                    skip -= 1;
                }
            }
        } else {
            skip -= 1;
        }
        last = Some(UserCursor { id, email_key: record::text("users_by_email", email.value())?.to_owned() });
    }
    Ok(page)
}

/// The same, for flags that few users have: reads all of these users.
fn search_by_flags(
    snapshot: &Snapshot,
    filter: &UserFilter,
    from: UsersFrom,
    limit: usize,
) -> Result<UserPage, StoreError> {
    // Two accounts may have the same email key (`email_index`).
    let place = |(email, user): &(String, User)| (email.clone(), user.public_id.to_bytes());
    let mut found = Vec::new();
    for id in user_index::ids(snapshot, filter, Start::Skip(0))? {
        let user = users::find(&snapshot.users, id?)?.ok_or_else(|| no_such_user("users_by_flags"))?;
        if filter.fits(&user) {
            found.push((user.email.key(), user));
        }
    }
    found.sort_unstable_by_key(place);
    let skip = match from {
        UsersFrom::Skip(skip) => usize::try_from(skip).unwrap_or(usize::MAX),
        UsersFrom::After(cursor) => {
            found.partition_point(|entry| place(entry) <= (cursor.email_key.clone(), cursor.id.to_bytes()))
        }
    };
    let more = found.len().saturating_sub(skip) > limit;
    let items: Vec<User> = found.into_iter().skip(skip).take(limit).map(|(_, user)| user).collect();
    Ok(UserPage { next: items.last().filter(|_| more).map(UserCursor::of), items })
}

fn no_such_user(table: &'static str) -> StoreError {
    StoreError::Record { table, cause: "it names a user who does not exist".to_owned() }
}
