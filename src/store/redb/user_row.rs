//! Conversion between a user and a row of the table of users.

use redb::{AccessGuard, StorageError};
use time::OffsetDateTime;

use crate::{
    model::{Email, PasswordHash, PublicId, User},
    store::{
        error::StoreError,
        redb::record::{self, UserRow},
    },
};

/// An entry of the table of users as redb's iterators return it.
pub(in crate::store) type Entry<'a> = Result<(AccessGuard<'a, [u8; 16]>, AccessGuard<'a, &'static [u8]>), StorageError>;

pub(in crate::store) fn read(entry: Entry<'_>) -> Result<User, StoreError> {
    let (id, row) = entry?;
    from_row(PublicId::from_bytes(id.value()), row.value())
}

pub(in crate::store) fn to_row(user: &User) -> UserRow {
    UserRow {
        email: user.email.as_str().to_owned(),
        password_hash: user.password_hash.as_str().to_owned(),
        admin: user.admin,
        disabled: user.disabled,
        epoch: user.epoch,
        registered_on_s: user.registered_on.unix_timestamp(),
    }
}

pub(in crate::store) fn from_row(public_id: PublicId, bytes: &[u8]) -> Result<User, StoreError> {
    let row: UserRow = record::decode("users", bytes)?;
    let damaged = |cause: String| StoreError::Record { table: "users", cause };
    Ok(User {
        public_id,
        email: Email::from_trusted(row.email),
        password_hash: PasswordHash::new(row.password_hash),
        admin: row.admin,
        disabled: row.disabled,
        epoch: row.epoch,
        registered_on: OffsetDateTime::from_unix_timestamp(row.registered_on_s)
            .map_err(|error| damaged(error.to_string()))?,
    })
}
