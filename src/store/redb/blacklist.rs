//! The blacklist table: which tokens were logged out. No other file writes to it.
//!
//! One table, keyed by expiry and token id, serves lookup, ordered insertion and the purge of a range. Guarantees: an entry is removed only
//! after its token has expired (I2), and the same transaction records how far the purge went (I3).

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use crate::{
    model::BlacklistedToken,
    store::{
        error::StoreError,
        redb::{
            handle::Snapshot,
            tables::{BLACKLIST, META, PURGED_THROUGH_S},
            transaction::Transaction,
        },
    },
};

pub(in crate::store) fn insert(txn: &Transaction, token: BlacklistedToken) -> Result<bool, StoreError> {
    txn.token_blacklisted(token);
    Ok(txn.open_table(BLACKLIST)?.insert(key(token), ())?.is_none())
}

pub(in crate::store) fn contains(snapshot: &Snapshot, token: BlacklistedToken) -> Result<bool, StoreError> {
    Ok(snapshot.blacklist.get(key(token))?.is_some())
}

pub(in crate::store) fn purged_through_s(txn: &ReadTransaction) -> Result<u64, StoreError> {
    Ok(txn.open_table(META)?.get(PURGED_THROUGH_S)?.map_or(0, |through| through.value()))
}

pub(in crate::store) fn count(snapshot: &Snapshot) -> Result<u64, StoreError> {
    Ok(snapshot.blacklist.len()?)
}

pub(in crate::store) fn has_expired(snapshot: &Snapshot, now_s: u64) -> Result<bool, StoreError> {
    let first = snapshot.blacklist.range(..first_live(now_s))?.next();
    Ok(first.transpose()?.is_some())
}

/// Removes up to `limit` expired entries. Returns their number and the latest expiry among them, or 0 if there was none.
pub(in crate::store) fn purge(txn: &Transaction, now_s: u64, limit: usize) -> Result<(usize, u64), StoreError> {
    let mut blacklist = txn.open_table(BLACKLIST)?;
    let expired: Vec<[u8; 24]> = blacklist
        .range(..first_live(now_s))?
        .take(limit)
        .map(|entry| Ok(entry?.0.value()))
        .collect::<Result<_, StoreError>>()?;
    for key in &expired {
        blacklist.remove(key)?;
    }
    // I3: this is the expiry of the last removed entry, not the time of the clock. If the clock is a year ahead by mistake, this
    // advances by one token lifetime at most, and logins work again as soon as the clock is corrected.
    let through = expired.last().map_or(0, expires_at_s);
    if through > 0 {
        let mut meta = txn.open_table(META)?;
        let before = meta.get(PURGED_THROUGH_S)?.map_or(0, |through| through.value());
        meta.insert(PURGED_THROUGH_S, before.max(through))?;
    }
    Ok((expired.len(), through))
}

/// Returns the smallest key of a token that is not expired at `now_s`. A token is expired at the very second of its `exp`.
fn first_live(now_s: u64) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&now_s.saturating_add(1).to_be_bytes());
    key
}

fn key(token: BlacklistedToken) -> [u8; 24] {
    let mut key = [0; 24];
    key[..8].copy_from_slice(&token.expires_at_s.to_be_bytes());
    key[8..].copy_from_slice(&token.token_id.to_bytes());
    key
}

fn expires_at_s(key: &[u8; 24]) -> u64 {
    let (expiry, _) = key.split_first_chunk().expect("BUG: the key is longer than its expiry");
    u64::from_be_bytes(*expiry)
}
