//! The tables of the revocation feed: in order, which tokens became invalid before their expiry. No other file writes to them.
//!
//! Each transaction that revoked something has one row, whose key is its number in the order of commits; the other table orders the rows by
//! expiry, so that the purge reads only what it removes. A row of a group commit has the logouts of up to a thousand requests, so that the
//! feed costs each of them little.
//!
//! Guarantees: a row is written in the transaction that it is about (I5), and goes only after all its tokens have expired. The number of a
//! row is never given to another one, so that a reader who continues after it misses nothing.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata as _, WriteTransaction};

use crate::{
    model::{BlacklistedToken, PublicId, TokenId, UserRevocation},
    random,
    store::{
        error::StoreError,
        redb::{
            record,
            tables::{
                BLACKLIST, BytesTable, META, REVOCATION_FEED, REVOCATIONS, REVOCATIONS_BY_EXPIRY, REVOCATIONS_NEXT_MIN,
            },
        },
    },
};

/// Names of the tables in errors.
const ROWS: &str = "revocations";
const BY_EXPIRY: &str = "revocations_by_expiry";
/// The maximum number of rows that one page reads, so that it takes milliseconds also where most of them have expired.
const ROWS_READ_MAX: usize = 1000;
/// How many bytes of rows one transaction of the purge removes, so that a logout does not wait long behind it.
const PURGED_BYTES_MAX: usize = 1024 * 1024;
/// The number of entries in a row of the migration.
const MIGRATED_ROW_ENTRIES: usize = 1000;

/// The first byte of an entry: what it is about.
const TAG_TOKEN: u8 = 0;
const TAG_USER: u8 = 1;
const TAG_ADMIN: u8 = 2;

/// A place in the revocation feed: everything before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevocationCursor {
    /// The random name of the feed.
    pub feed: u64,
    /// The number of the row to continue with.
    pub row: u64,
    /// The number of its entries that were read.
    pub entry: u32,
}

/// Entries of the revocation feed.
pub struct RevocationPage {
    /// Tokens that were logged out.
    pub tokens: Vec<BlacklistedToken>,
    /// What happened to users, in order.
    pub users: Vec<UserRevocation>,
    /// The place after them.
    pub next: RevocationCursor,
    /// Whether the feed goes on after this place.
    pub more: bool,
}

impl RevocationPage {
    /// Whether it has no entries and there are none after it.
    #[must_use]
    pub fn is_last_and_empty(&self) -> bool {
        self.tokens.is_empty() && self.users.is_empty() && !self.more
    }
}

/// An entry of a row.
enum Entry {
    Token(BlacklistedToken),
    User(UserRevocation),
}

impl Entry {
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Token(token) => {
                bytes.push(TAG_TOKEN);
                bytes.extend(token.expires_at_s.to_be_bytes());
                bytes.extend(token.token_id.to_bytes());
            }
            Self::User(user) => {
                bytes.push(if user.admin { TAG_ADMIN } else { TAG_USER });
                bytes.extend(user.expires_at_s.to_be_bytes());
                bytes.extend(user.user.to_bytes());
                bytes.extend(user.min_epoch.to_be_bytes());
            }
        }
    }

    /// Reads the first entry of `bytes`, and returns the bytes after it. Returns `None` if they are none that [`Entry::write`] wrote.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (kind, bytes) = bytes.split_first()?;
        let (expires_at_s, bytes) = bytes.split_first_chunk()?;
        let (id, bytes) = bytes.split_first_chunk()?;
        let expires_at_s = u64::from_be_bytes(*expires_at_s);
        if *kind == TAG_TOKEN {
            return Some((Self::Token(BlacklistedToken { expires_at_s, token_id: TokenId::from_bytes(*id) }), bytes));
        }
        let admin = match *kind {
            TAG_USER => false,
            TAG_ADMIN => true,
            _ => return None,
        };
        let (min_epoch, bytes) = bytes.split_first_chunk()?;
        let (user, min_epoch) = (PublicId::from_bytes(*id), u64::from_be_bytes(*min_epoch));
        Some((Self::User(UserRevocation { user, min_epoch, admin, expires_at_s }), bytes))
    }

    fn expires_at_s(&self) -> u64 {
        match self {
            Self::Token(token) => token.expires_at_s,
            Self::User(user) => user.expires_at_s,
        }
    }
}

/// Returns the entries of a row.
fn entries(row: &[u8]) -> impl Iterator<Item = Result<Entry, StoreError>> {
    let mut rest = row;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let read = Entry::read(rest);
        rest = read.as_ref().map_or(&[], |(_, rest)| *rest);
        let damaged = || StoreError::Record { table: ROWS, cause: "it has an entry that cannot be read".to_owned() };
        Some(read.map(|(entry, _)| entry).ok_or_else(damaged))
    })
}

/// Appends a row with what one transaction revoked. Does nothing if that is nothing.
pub(in crate::store) fn append(
    txn: &WriteTransaction,
    tokens: &[BlacklistedToken],
    users: &[UserRevocation],
) -> Result<(), StoreError> {
    let entries = tokens.iter().copied().map(Entry::Token).chain(users.iter().copied().map(Entry::User));
    let (mut row, mut expires_at_s) = (Vec::new(), 0);
    for entry in entries {
        entry.write(&mut row);
        expires_at_s = entry.expires_at_s().max(expires_at_s);
    }
    if row.is_empty() {
        return Ok(());
    }
    let mut tables = Tables::open(txn)?;
    let number = next_number(&tables.rows, &txn.open_table(META)?)?;
    tables.rows.insert(number.to_be_bytes().as_slice(), row.as_slice())?;
    tables.by_expiry.insert(expiry_key(expires_at_s, number).as_slice(), [].as_slice())?;
    Ok(())
}

/// Returns the number of the next row. It is not only that after the last row, because that may have been purged before earlier ones.
fn next_number(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    meta: &impl ReadableTable<&'static str, u64>,
) -> Result<u64, StoreError> {
    let from = meta.get(REVOCATIONS_NEXT_MIN)?.map_or(1, |from| from.value());
    let last = rows.last()?.map(|(last, _)| record::number(ROWS, last.value())).transpose()?;
    Ok(last.map_or(from, |last| from.max(last + 1)))
}

/// Begins another feed, so that cursors of the one before are refused.
pub(in crate::store) fn begin_feed(txn: &WriteTransaction) -> Result<(), StoreError> {
    txn.open_table(META)?.insert(REVOCATION_FEED, u64::from_be_bytes(random::bytes()))?;
    Ok(())
}

/// Migration to schema 8: appends all tokens of the blacklist.
pub(in crate::store) fn append_blacklist(txn: &WriteTransaction) -> Result<(), StoreError> {
    let blacklist = txn.open_table(BLACKLIST)?;
    let mut tokens = Vec::new();
    for entry in blacklist.iter()? {
        let key = entry?.0.value();
        let (expiry, id) = key.split_first_chunk().expect("BUG: the key is longer than its expiry");
        let token_id = TokenId::from_bytes(record::fixed("blacklist", id)?);
        tokens.push(BlacklistedToken { expires_at_s: u64::from_be_bytes(*expiry), token_id });
        if tokens.len() == MIGRATED_ROW_ENTRIES {
            append(txn, &tokens, &[])?;
            tokens.clear();
        }
    }
    append(txn, &tokens, &[])
}

/// Returns up to `limit` entries after `after`, or from the beginning, that have not expired at `now_s`. Returns `None` if there is no such
/// place in this feed.
pub(in crate::store) fn page(
    txn: &ReadTransaction,
    after: Option<RevocationCursor>,
    now_s: u64,
    limit: usize,
) -> Result<Option<RevocationPage>, StoreError> {
    let (meta, rows) = (txn.open_table(META)?, txn.open_table(REVOCATIONS)?);
    let feed = meta.get(REVOCATION_FEED)?.map_or(0, |feed| feed.value());
    let end = next_number(&rows, &meta)?;
    let place = |row, entry| RevocationCursor { feed, row, entry };
    let start = after.unwrap_or(place(0, 0));
    if start.feed != feed || (start.row, start.entry) > (end, 0) {
        return Ok(None);
    }
    let mut page = RevocationPage { tokens: Vec::new(), users: Vec::new(), next: place(end, 0), more: false };
    for (read, row) in rows.range(start.row.to_be_bytes().as_slice()..)?.enumerate() {
        let (number, row) = row?;
        let number = record::number(ROWS, number.value())?;
        if read == ROWS_READ_MAX {
            return Ok(Some(RevocationPage { next: place(number, 0), more: true, ..page }));
        }
        let before = if number == start.row { start.entry } else { 0 };
        for (index, entry) in (0..).zip(entries(row.value())).skip(before as usize) {
            if page.tokens.len() + page.users.len() == limit {
                return Ok(Some(RevocationPage { next: place(number, index), more: true, ..page }));
            }
            match entry? {
                entry if entry.expires_at_s() <= now_s => {}
                Entry::Token(token) => page.tokens.push(token),
                Entry::User(user) => page.users.push(user),
            }
        }
    }
    Ok(Some(page))
}

/// Whether there is a row whose tokens all have expired at `now_s`.
pub(in crate::store) fn have_expired(txn: &ReadTransaction, now_s: u64) -> Result<bool, StoreError> {
    let by_expiry = txn.open_table(REVOCATIONS_BY_EXPIRY)?;
    let first = by_expiry.range(..first_live(now_s).as_slice())?.next();
    Ok(first.transpose()?.is_some())
}

/// Removes up to `limit` rows whose tokens all have expired at `now_s`, or fewer if they are large. Returns whether there may be more.
pub(in crate::store) fn purge(txn: &WriteTransaction, now_s: u64, limit: usize) -> Result<bool, StoreError> {
    let (mut tables, mut meta) = (Tables::open(txn)?, txn.open_table(META)?);
    let from = next_number(&tables.rows, &meta)?;
    meta.insert(REVOCATIONS_NEXT_MIN, from)?;
    let expired: Vec<[u8; 16]> = tables
        .by_expiry
        .range(..first_live(now_s).as_slice())?
        .take(limit)
        .map(|entry| record::fixed(BY_EXPIRY, entry?.0.value()))
        .collect::<Result<_, StoreError>>()?;
    let mut bytes = 0;
    for key in &expired {
        let (_, number) = key.split_last_chunk::<8>().expect("BUG: the key ends with the number of the row");
        bytes += tables.rows.remove(number.as_slice())?.map_or(0, |row| row.value().len());
        tables.by_expiry.remove(key.as_slice())?;
        if bytes >= PURGED_BYTES_MAX {
            return Ok(true);
        }
    }
    Ok(expired.len() == limit)
}

/// Whether each row can be read, and both tables have the same rows.
pub(in crate::store) fn are_sound(txn: &ReadTransaction) -> Result<bool, StoreError> {
    let (rows, by_expiry) = (txn.open_table(REVOCATIONS)?, txn.open_table(REVOCATIONS_BY_EXPIRY)?);
    for row in rows.iter()? {
        let (number, row) = row?;
        let number = record::number(ROWS, number.value())?;
        let mut expires_at_s = 0;
        for entry in entries(row.value()) {
            expires_at_s = entry?.expires_at_s().max(expires_at_s);
        }
        if by_expiry.get(expiry_key(expires_at_s, number).as_slice())?.is_none() {
            return Ok(false);
        }
    }
    Ok(by_expiry.len()? == rows.len()?)
}

/// Both tables, open for writing.
struct Tables<'a> {
    rows: BytesTable<'a>,
    by_expiry: BytesTable<'a>,
}

impl<'a> Tables<'a> {
    fn open(txn: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { rows: txn.open_table(REVOCATIONS)?, by_expiry: txn.open_table(REVOCATIONS_BY_EXPIRY)? })
    }
}

/// Returns the key of a row in the order of expiry.
fn expiry_key(expires_at_s: u64, number: u64) -> [u8; 16] {
    (u128::from(expires_at_s) << 64 | u128::from(number)).to_be_bytes()
}

/// Returns the smallest key of a row with a token that has not expired at `now_s`. A token is expired at the very second of its `exp`.
fn first_live(now_s: u64) -> [u8; 16] {
    expiry_key(now_s.saturating_add(1), 0)
}
