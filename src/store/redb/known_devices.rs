//! The tables of known devices: from where each account lately logged in. No other file writes to them.
//!
//! One table has the last login of each device, the other orders the devices by this time, so that the purge reads only what it removes.
//!
//! Guarantees: both tables change in one transaction. An account has at most [`DEVICES_MAX`] devices. They are removed with the account,
//! and when its tokens are invalidated all at once.

use redb::{AccessGuard, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};

use crate::{
    model::{KnownDevice, PublicId, User},
    store::{
        error::StoreError,
        redb::{
            handle::Snapshot,
            record,
            tables::{BytesTable, KNOWN_DEVICES, KNOWN_DEVICES_BY_TIME, USERS},
            user_row::from_row,
        },
    },
};

/// Names of the tables in errors.
const BY_DEVICE: &str = "known_devices";
const BY_TIME: &str = "known_devices_by_time";
/// The maximum number of devices of one account. A further one replaces the one with the oldest login.
const DEVICES_MAX: usize = 10;

/// A key of [`KNOWN_DEVICES`]: the public id (16 bytes) and the hash of the network (16 bytes).
type Key = [u8; 32];
/// A key of [`KNOWN_DEVICES_BY_TIME`]: the time (8 bytes, big endian, so that the order of keys is the order of time) and the other key.
type TimeKey = [u8; 40];

/// Returns the time of the last stored login from `device`, in seconds since 1970.
pub(in crate::store) fn last_login_s(snapshot: &Snapshot, device: KnownDevice) -> Result<Option<u64>, StoreError> {
    let last = snapshot.known_devices.get(key(device).as_slice())?;
    last.map(|last| record::number(BY_DEVICE, last.value())).transpose()
}

/// Stores a login of `user` from `device`. Does nothing if the user was removed or all its tokens were invalidated meanwhile.
pub(in crate::store) fn insert(
    txn: &WriteTransaction,
    (user, device): (&User, KnownDevice),
    now_s: u64,
) -> Result<(), StoreError> {
    if epoch(txn, user.public_id)? != Some(user.epoch) {
        return Ok(());
    }
    let mut tables = Tables::open(txn)?;
    let key = key(device);
    let mut others = tables.of_user(user.public_id)?;
    others.retain(|(other, _)| *other != key);
    others.sort_unstable_by_key(|(_, last)| *last);
    for (other, _) in others.iter().take((others.len() + 1).saturating_sub(DEVICES_MAX)) {
        tables.remove(other)?;
    }
    tables.remove(&key)?;
    tables.by_device.insert(key.as_slice(), now_s.to_be_bytes().as_slice())?;
    tables.by_time.insert(time_key(now_s, &key).as_slice(), [].as_slice())?;
    Ok(())
}

fn epoch(txn: &WriteTransaction, user: PublicId) -> Result<Option<u64>, StoreError> {
    let users = txn.open_table(USERS)?;
    let row = users.get(user.to_bytes())?;
    row.map(|row| Ok(from_row(user, row.value())?.epoch)).transpose()
}

/// Removes all devices of `user`.
pub(in crate::store) fn remove_of_user(txn: &WriteTransaction, user: PublicId) -> Result<(), StoreError> {
    let mut tables = Tables::open(txn)?;
    tables.of_user(user)?.iter().try_for_each(|(key, _)| tables.remove(key))
}

/// Whether there is a device whose last login was at `through_s` or before.
pub(in crate::store) fn has_expired(txn: &ReadTransaction, through_s: u64) -> Result<bool, StoreError> {
    let by_time = txn.open_table(KNOWN_DEVICES_BY_TIME)?;
    let first = by_time.range(..time_key(through_s.saturating_add(1), &[0; 32]).as_slice())?.next();
    Ok(first.transpose()?.is_some())
}

/// Removes up to `limit` devices whose last login was at `through_s` or before, and returns their number.
pub(in crate::store) fn purge(txn: &WriteTransaction, through_s: u64, limit: usize) -> Result<usize, StoreError> {
    let mut tables = Tables::open(txn)?;
    let expired: Vec<TimeKey> = tables
        .by_time
        .range(..time_key(through_s.saturating_add(1), &[0; 32]).as_slice())?
        .take(limit)
        .map(|entry| record::fixed(BY_TIME, entry?.0.value()))
        .collect::<Result<_, StoreError>>()?;
    for time_key in &expired {
        let (_, key) = time_key.split_last_chunk().expect("BUG: the key ends with the other key");
        tables.remove(key)?;
    }
    Ok(expired.len())
}

/// Migration to schema 6: creates both tables.
pub(in crate::store) fn create(txn: &WriteTransaction) -> Result<(), StoreError> {
    Tables::open(txn).map(drop)
}

/// Whether the tables agree, and each device belongs to a user.
pub(in crate::store) fn are_sound(txn: &ReadTransaction) -> Result<bool, StoreError> {
    let (by_device, by_time) = (txn.open_table(KNOWN_DEVICES)?, txn.open_table(KNOWN_DEVICES_BY_TIME)?);
    let users = txn.open_table(USERS)?;
    for row in by_device.iter()? {
        let (key, last) = row?;
        let (key, last) = (record::fixed(BY_DEVICE, key.value())?, record::number(BY_DEVICE, last.value())?);
        if by_time.get(time_key(last, &key).as_slice())?.is_none() || users.get(user_of(&key))?.is_none() {
            return Ok(false);
        }
    }
    Ok(by_time.len()? == by_device.len()?)
}

/// Both tables, open for writing.
struct Tables<'a> {
    by_device: BytesTable<'a>,
    by_time: BytesTable<'a>,
}

impl<'a> Tables<'a> {
    fn open(txn: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { by_device: txn.open_table(KNOWN_DEVICES)?, by_time: txn.open_table(KNOWN_DEVICES_BY_TIME)? })
    }

    fn of_user(&self, user: PublicId) -> Result<Vec<(Key, u64)>, StoreError> {
        let (mut first, mut last) = ([0; 32], [0xff; 32]);
        first[..16].copy_from_slice(&user.to_bytes());
        last[..16].copy_from_slice(&user.to_bytes());
        let device = |(key, last): (AccessGuard<'_, &[u8]>, AccessGuard<'_, &[u8]>)| {
            Ok((record::fixed(BY_DEVICE, key.value())?, record::number(BY_DEVICE, last.value())?))
        };
        self.by_device.range(first.as_slice()..=last.as_slice())?.map(|row| device(row?)).collect()
    }

    fn remove(&mut self, key: &Key) -> Result<(), StoreError> {
        let last = self.by_device.remove(key.as_slice())?;
        let last = last.map(|last| record::number(BY_DEVICE, last.value())).transpose()?;
        if let Some(last) = last {
            self.by_time.remove(time_key(last, key).as_slice())?;
        }
        Ok(())
    }
}

fn key(device: KnownDevice) -> Key {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&device.user.to_bytes());
    key[16..].copy_from_slice(&device.network_hash);
    key
}

fn time_key(last_s: u64, key: &Key) -> TimeKey {
    let mut time_key = [0; 40];
    time_key[..8].copy_from_slice(&last_s.to_be_bytes());
    time_key[8..].copy_from_slice(key);
    time_key
}

fn user_of(key: &Key) -> [u8; 16] {
    let (user, _) = key.split_first_chunk().expect("BUG: the key is longer than the public id");
    *user
}
