//! The table of users and its index by email. Nobody else writes to them.
//!
//! Guarantees: the index and the table change in one transaction; one account per email, whatever its letter case (I4).

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use time::OffsetDateTime;

use super::{
    StoreError,
    record::{self, UserRow},
};
use crate::model::{Email, PasswordHash, PublicId, User};

/// Public id to [`UserRow`]. The ids sort by time of registration.
pub(super) const USERS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("users_1");
/// [`Email::key`] to public id.
pub(super) const USERS_BY_EMAIL: TableDefinition<&str, [u8; 16]> = TableDefinition::new("users_by_email_1");

pub(super) fn insert(txn: &WriteTransaction, user: &User) -> Result<bool, StoreError> {
    let mut by_email = txn.open_table(USERS_BY_EMAIL)?;
    let key = user.email.key();
    if by_email.get(key.as_str())?.is_some() {
        return Ok(false);
    }
    by_email.insert(key.as_str(), user.public_id.to_bytes())?;
    txn.open_table(USERS)?.insert(user.public_id.to_bytes(), record::encode(&to_row(user)).as_slice())?;
    Ok(true)
}

pub(super) fn update_password_hash(
    txn: &WriteTransaction,
    user: PublicId,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<(), StoreError> {
    let mut users = txn.open_table(USERS)?;
    let found = users.get(user.to_bytes())?.map(|row| from_row(user, row.value())).transpose()?;
    if let Some(found) = found.filter(|found| found.password_hash == *old) {
        let row = to_row(&User { password_hash: new.clone(), ..found });
        users.insert(user.to_bytes(), record::encode(&row).as_slice())?;
    }
    Ok(())
}

pub(super) fn find(txn: &ReadTransaction, user: PublicId) -> Result<Option<User>, StoreError> {
    let row = txn.open_table(USERS)?.get(user.to_bytes())?;
    row.map(|row| from_row(user, row.value())).transpose()
}

pub(super) fn find_by_email(txn: &ReadTransaction, email: &Email) -> Result<Option<User>, StoreError> {
    match txn.open_table(USERS_BY_EMAIL)?.get(email.key().as_str())? {
        Some(id) => find(txn, PublicId::from_bytes(id.value())),
        None => Ok(None),
    }
}

pub(super) fn list(txn: &ReadTransaction, after: Option<PublicId>, limit: usize) -> Result<Vec<User>, StoreError> {
    let first = after.map_or(std::ops::Bound::Unbounded, |id| std::ops::Bound::Excluded(id.to_bytes()));
    let users = txn.open_table(USERS)?;
    users
        .range((first, std::ops::Bound::Unbounded))?
        .take(limit)
        .map(|entry| {
            let (id, row) = entry?;
            from_row(PublicId::from_bytes(id.value()), row.value())
        })
        .collect()
}

fn to_row(user: &User) -> UserRow {
    UserRow {
        email: user.email.as_str().to_owned(),
        password_hash: user.password_hash.as_str().to_owned(),
        admin: user.admin,
        disabled: user.disabled,
        epoch: user.epoch,
        registered_on_s: user.registered_on.unix_timestamp(),
    }
}

fn from_row(public_id: PublicId, bytes: &[u8]) -> Result<User, StoreError> {
    let row: UserRow = record::decode("users", bytes)?;
    let damaged = |cause: String| StoreError::Record { table: "users", cause };
    Ok(User {
        public_id,
        email: Email::parse(&row.email).map_err(|error| damaged(error.to_string()))?,
        password_hash: PasswordHash::new(row.password_hash),
        admin: row.admin,
        disabled: row.disabled,
        epoch: row.epoch,
        registered_on: OffsetDateTime::from_unix_timestamp(row.registered_on_s)
            .map_err(|error| damaged(error.to_string()))?,
    })
}
