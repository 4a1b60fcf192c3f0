//! The index of users by email, and the accounts that have the mailbox of an older account. No other file writes to them.
//!
//! Two spellings of one mailbox were two accounts before schema 7. Both stay: a login reaches the older one, and the younger takes its
//! place when the older is removed.
//!
//! Guarantees: there is one entry per mailbox (I4). Both tables change in the transaction that changes a user.

use std::fmt;

use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, WriteTransaction};

use crate::{
    model::{Email, PublicId, User},
    store::{
        error::StoreError,
        redb::{
            record,
            tables::{BytesTable, MAILBOX_DUPLICATES, ReadOnlyBytesTable, USERS, USERS_BY_EMAIL},
            user_row::from_row,
        },
    },
};

/// Names of the tables in errors.
const BY_EMAIL: &str = "users_by_email";
const DUPLICATES: &str = "users_mailbox_duplicates";

/// Both tables, open for writing.
pub(in crate::store) struct EmailIndex<'a> {
    pub(in crate::store) by_email: BytesTable<'a>,
    duplicates: BytesTable<'a>,
}

impl<'a> EmailIndex<'a> {
    pub(in crate::store) fn open(txn: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { by_email: txn.open_table(USERS_BY_EMAIL)?, duplicates: txn.open_table(MAILBOX_DUPLICATES)? })
    }

    /// Adds a user whose mailbox has no account.
    pub(in crate::store) fn insert(&mut self, user: &User) -> Result<(), StoreError> {
        self.by_email.insert(user.email.key().as_bytes(), user.public_id.to_bytes().as_slice())?;
        Ok(())
    }

    /// Removes a user. If others have the mailbox, the oldest of them takes the place.
    pub(in crate::store) fn remove(&mut self, user: &User) -> Result<(), StoreError> {
        let (key, id) = (user.email.key(), user.public_id.to_bytes());
        if self.owner(&key)? != Some(id) {
            self.duplicates.remove(duplicate_key(user).as_slice())?;
            return Ok(());
        }
        let (first, end) = ([key.as_bytes(), &[0]].concat(), [key.as_bytes(), &[1]].concat());
        let next = self.duplicates.range(first.as_slice()..end.as_slice())?.next().transpose()?;
        let next = next.map(|(key, _)| key.value().to_vec());
        if let Some(next) = next {
            self.duplicates.remove(next.as_slice())?;
            self.by_email.insert(key.as_bytes(), duplicate(&next)?.1.as_slice())?;
        } else {
            self.by_email.remove(key.as_bytes())?;
        }
        Ok(())
    }

    fn owner(&self, key: &str) -> Result<Option<[u8; 16]>, StoreError> {
        let id = self.by_email.get(key.as_bytes())?;
        id.map(|id| record::fixed(BY_EMAIL, id.value())).transpose()
    }
}

/// Two accounts with the same mailbox.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MailboxDuplicate {
    /// The email and the public id of the account that a login reaches.
    pub email: String,
    /// See above.
    pub public_id: String,
    /// The email and the public id of the younger account.
    pub duplicate_email: String,
    /// See above.
    pub duplicate_public_id: String,
}

impl fmt::Display for MailboxDuplicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { email, public_id, duplicate_email, duplicate_public_id } = self;
        write!(
            f,
            "{duplicate_email} ({duplicate_public_id}) has the mailbox of the older account {email} ({public_id}), which a login \
             reaches; remove one of them by its public id"
        )
    }
}

/// Returns all accounts that have the mailbox of an older account.
pub(in crate::store) fn duplicates(txn: &ReadTransaction) -> Result<Vec<MailboxDuplicate>, StoreError> {
    let (users, by_email) = (txn.open_table(USERS)?, txn.open_table(USERS_BY_EMAIL)?);
    let user = |id: [u8; 16]| {
        let damaged =
            || StoreError::Record { table: DUPLICATES, cause: "it names a user who does not exist".to_owned() };
        from_row(PublicId::from_bytes(id), users.get(id)?.ok_or_else(damaged)?.value())
    };
    let mut found = Vec::new();
    for row in txn.open_table(MAILBOX_DUPLICATES)?.iter()? {
        let row = row?;
        let (key, id) = duplicate(row.0.value())?;
        let damaged = || StoreError::Record { table: DUPLICATES, cause: "its mailbox has no account".to_owned() };
        let owner = user(record::fixed(BY_EMAIL, by_email.get(key)?.ok_or_else(damaged)?.value())?)?;
        let duplicate = user(id)?;
        found.push(MailboxDuplicate {
            email: owner.email.to_string(),
            public_id: owner.public_id.to_string(),
            duplicate_email: duplicate.email.to_string(),
            duplicate_public_id: duplicate.public_id.to_string(),
        });
    }
    Ok(found)
}

/// Compares both tables with the table of users.
pub(in crate::store) struct Checker {
    by_email: ReadOnlyBytesTable,
    duplicates: ReadOnlyBytesTable,
}

impl Checker {
    pub(in crate::store) fn open(txn: &ReadTransaction) -> Result<Self, StoreError> {
        Ok(Self { by_email: txn.open_table(USERS_BY_EMAIL)?, duplicates: txn.open_table(MAILBOX_DUPLICATES)? })
    }

    /// Whether the user has an entry in one of the tables.
    pub(in crate::store) fn has(&self, user: &User) -> Result<bool, StoreError> {
        let (key, id) = (user.email.key(), user.public_id.to_bytes());
        let owner = self.by_email.get(key.as_bytes())?;
        Ok(owner.is_some_and(|owner| owner.value() == id)
            || self.duplicates.get(duplicate_key(user).as_slice())?.is_some())
    }

    /// Returns the number of entries in both tables.
    pub(in crate::store) fn users(&self) -> Result<u64, StoreError> {
        Ok(self.by_email.len()? + self.duplicates.len()?)
    }
}

/// Migration to schema 7: gives the emails that are not ASCII the keys of today.
pub(in crate::store) fn migrate_keys(txn: &WriteTransaction) -> Result<(), StoreError> {
    let users = txn.open_table(USERS)?;
    let find = |id: [u8; 16]| {
        let damaged = || StoreError::Record { table: BY_EMAIL, cause: "it names a user who does not exist".to_owned() };
        from_row(PublicId::from_bytes(id), users.get(id)?.ok_or_else(damaged)?.value())
    };
    let mut index = EmailIndex::open(txn)?;
    let mut changed: Vec<(Vec<u8>, User)> = Vec::new();
    for row in index.by_email.iter()? {
        let (old, id) = row?;
        if !old.value().is_ascii() {
            let id = record::fixed(BY_EMAIL, id.value())?;
            let user = find(id)?;
            if user.email.key().as_bytes() != old.value() {
                changed.push((old.value().to_vec(), user));
            }
        }
    }
    for (old, user) in changed {
        let (key, id) = (user.email.key(), user.public_id.to_bytes());
        index.by_email.remove(old.as_slice())?;
        let Some(owner) = index.owner(&key)? else {
            index.by_email.insert(key.as_bytes(), id.as_slice())?;
            continue;
        };
        let owner = find(owner)?;
        // An imported id says nothing about the time.
        let age = |user: &User| (user.registered_on, user.public_id.to_bytes());
        let (older, younger) = if age(&owner) <= age(&user) { (&owner, &user) } else { (&user, &owner) };
        index.by_email.insert(key.as_bytes(), older.public_id.to_bytes().as_slice())?;
        index.duplicates.insert(duplicate_key(younger).as_slice(), [].as_slice())?;
    }
    Ok(())
}

/// Returns the key of a duplicate: the key of its email, a zero byte, which no email has, the time of registration in seconds since 1970
/// (8 bytes, in the order of time), and the public id.
fn duplicate_key(user: &User) -> Vec<u8> {
    let mut time = user.registered_on.unix_timestamp().to_be_bytes();
    time[0] ^= 0x80; // negative numbers come first
    [user.email.key().as_bytes(), &[0], &time, &user.public_id.to_bytes()].concat()
}

/// Returns the key of the email and the public id.
fn duplicate(key: &[u8]) -> Result<(&[u8], [u8; 16]), StoreError> {
    let damaged = || StoreError::Record { table: DUPLICATES, cause: "its key is too short".to_owned() };
    let (rest, id) = key.split_last_chunk::<16>().ok_or_else(damaged)?;
    let (rest, _time) = rest.split_last_chunk::<8>().ok_or_else(damaged)?;
    Ok((rest.strip_suffix(&[0]).ok_or_else(damaged)?, *id))
}

/// Returns the public id of the account that has the mailbox of `email`.
pub(in crate::store) fn find(txn: &ReadTransaction, email: &Email) -> Result<Option<PublicId>, StoreError> {
    let id = txn.open_table(USERS_BY_EMAIL)?.get(email.key().as_bytes())?;
    id.map(|id| Ok(PublicId::from_bytes(record::fixed(BY_EMAIL, id.value())?))).transpose()
}
