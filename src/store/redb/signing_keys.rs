//! The table of signing keys: the key ring. No other file writes to it.
//!
//! Guarantees: a change sees all keys and is one transaction, so of two changes at once the second sees the first. Deliberately absent: what a
//! key is allowed to become (`auth::key_ring`), and the key that private parts are encrypted with, which is not in the file.

use redb::{ReadableTable as _, WriteTransaction};

use crate::{
    model::{KeyState, SigningAlgorithm, StoredKey},
    store::{
        error::StoreError,
        redb::{
            handle::Snapshot,
            record::{self, SigningKeyRow},
            tables::{META, NEXT_RING_ALGORITHM, SIGNING_KEYS},
            transaction::Transaction,
        },
    },
};

/// The name of the table in errors.
const TABLE: &str = "signing_keys";
/// The number of HS256 in rows and in [`NEXT_RING_ALGORITHM`].
pub(in crate::store) const HS256: u64 = 4;

/// Returns all keys, in the order of their ids.
pub(in crate::store) fn all(txn: &redb::ReadTransaction) -> Result<Vec<StoredKey>, StoreError> {
    let table = txn.open_table(SIGNING_KEYS)?;
    table
        .iter()?
        .map(|entry| entry.map_err(StoreError::from).and_then(|(kid, row)| read(kid.value(), row.value())))
        .collect()
}

/// Whether each row can be read, and one key is current, or there are no keys yet.
pub(in crate::store) fn are_sound(txn: &redb::ReadTransaction) -> Result<bool, StoreError> {
    let keys = all(txn)?;
    Ok(keys.is_empty() || keys.iter().filter(|key| matches!(key.state, KeyState::Current { .. })).count() == 1)
}

/// Returns the algorithm that the first key of the key ring must have, or `None` if there never was one.
pub(in crate::store) fn next_ring_algorithm(snapshot: &Snapshot) -> Result<Option<SigningAlgorithm>, StoreError> {
    let number = snapshot.open_table(META)?.get(NEXT_RING_ALGORITHM)?.map(|number| number.value());
    number.map(algorithm).transpose()
}

/// Lets `change` change the keys, and stores what it changed. Returns its result and all keys.
pub(in crate::store) fn update<T>(
    txn: &Transaction,
    change: impl FnOnce(&mut Vec<StoredKey>) -> T,
) -> Result<(T, Vec<StoredKey>), StoreError> {
    let before = read_to_write(txn)?;
    let mut keys = before.clone();
    let result = change(&mut keys);
    let mut table = txn.open_table(SIGNING_KEYS)?;
    for key in before.iter().filter(|key| keys.iter().all(|kept| kept.kid != key.kid)) {
        table.remove(key.kid.as_bytes())?;
    }
    for key in keys.iter().filter(|key| !before.contains(key)) {
        table.insert(key.kid.as_bytes(), record::encode(&to_row(key)).as_slice())?;
    }
    Ok((result, keys))
}

/// Removes all keys, and notes the algorithm of the current one for the next key ring. Does nothing in a file from before schema 8.
pub(in crate::store) fn remove_all(txn: &WriteTransaction) -> Result<(), StoreError> {
    let keys = read_to_write(txn)?;
    let current = keys.iter().find(|key| matches!(key.state, KeyState::Current { .. }));
    if let Some(key) = current {
        txn.open_table(META)?.insert(NEXT_RING_ALGORITHM, number(key.algorithm))?;
    }
    let mut table = txn.open_table(SIGNING_KEYS)?;
    for key in &keys {
        table.remove(key.kid.as_bytes())?;
    }
    Ok(())
}

fn read_to_write(txn: &WriteTransaction) -> Result<Vec<StoredKey>, StoreError> {
    let table = txn.open_table(SIGNING_KEYS)?;
    table
        .iter()?
        .map(|entry| entry.map_err(StoreError::from).and_then(|(kid, row)| read(kid.value(), row.value())))
        .collect()
}

fn read(kid: &[u8], row: &[u8]) -> Result<StoredKey, StoreError> {
    let kid = record::text(TABLE, kid)?.to_owned();
    let SigningKeyRow { algorithm: number, state, state_times_s, created_at_s, token_lifetime_max_s, sealed } =
        record::decode(TABLE, row)?;
    let state = match (state, state_times_s) {
        (1, [signs_from_s, _]) => KeyState::Next { signs_from_s },
        (2, [since_s, _]) => KeyState::Current { since_s },
        (3, [since_s, until_s]) => KeyState::Retired { since_s, until_s },
        _ => return Err(damaged(format!("a key has the state {state}"))),
    };
    Ok(StoredKey { kid, algorithm: algorithm(number)?, state, created_at_s, token_lifetime_max_s, sealed })
}

fn to_row(key: &StoredKey) -> SigningKeyRow {
    let (state, state_times_s) = match key.state {
        KeyState::Next { signs_from_s } => (1, [signs_from_s, 0]),
        KeyState::Current { since_s } => (2, [since_s, 0]),
        KeyState::Retired { since_s, until_s } => (3, [since_s, until_s]),
    };
    SigningKeyRow {
        algorithm: number(key.algorithm),
        state,
        state_times_s,
        created_at_s: key.created_at_s,
        token_lifetime_max_s: key.token_lifetime_max_s,
        sealed: key.sealed.clone(),
    }
}

fn algorithm(number: u64) -> Result<SigningAlgorithm, StoreError> {
    match number {
        1 => Ok(SigningAlgorithm::Es256),
        2 => Ok(SigningAlgorithm::EdDsa),
        3 => Ok(SigningAlgorithm::Rs256),
        HS256 => Ok(SigningAlgorithm::Hs256),
        _ => Err(damaged(format!("a key has the algorithm {number}"))),
    }
}

fn number(algorithm: SigningAlgorithm) -> u64 {
    match algorithm {
        SigningAlgorithm::Es256 => 1,
        SigningAlgorithm::EdDsa => 2,
        SigningAlgorithm::Rs256 => 3,
        SigningAlgorithm::Hs256 => HS256,
    }
}

fn damaged(cause: String) -> StoreError {
    StoreError::Record { table: TABLE, cause }
}
