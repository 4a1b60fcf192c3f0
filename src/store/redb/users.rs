//! The table of users and its index by email. No other file writes to them.
//!
//! Guarantees: the table and its indexes change in one transaction. There is one account per mailbox (I4; `email_index`). Once there was
//! an enabled administrator, there always is one (I9).

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use crate::{
    model::{Email, PasswordHash, PublicId, User, UserChange, UserRevocation},
    store::{
        error::StoreError,
        redb::{
            email_index::{self, EmailIndex},
            handle::Snapshot,
            known_devices, record,
            tables::{FOREIGN_HASH_COUNT, META, USERS, USERS_BY_EMAIL, USERS_BY_EMAIL_1, Users},
            transaction::Transaction,
            user_index::UserIndex,
            user_row::{from_row, read, to_row},
        },
    },
};

/// The name of the index by email in errors.
const BY_EMAIL: &str = "users_by_email";

/// Outcome of an update or removal of one user.
pub enum UpdateOutcome {
    /// The change was made. Holds the user after the update, or before the removal.
    Done(User),
    /// There is no such user.
    NotFound,
    /// Refused: the change would leave no acting administrator.
    LastAdmin,
}

pub(in crate::store) fn insert(txn: &Transaction, user: &User) -> Result<bool, StoreError> {
    if txn.open_table(USERS_BY_EMAIL)?.get(user.email.key().as_bytes())?.is_some() {
        return Ok(false);
    }
    replace(txn, None, Some(user))?;
    Ok(true)
}

/// Changes a user, unless `expected` is given and is no longer the user's password hash. The tokens issued so far have expired at
/// `tokens_expire_at_s`, in seconds since 1970.
pub(in crate::store) fn update(
    txn: &Transaction,
    user: PublicId,
    expected: Option<&PasswordHash>,
    change: &UserChange,
    tokens_expire_at_s: u64,
) -> Result<UpdateOutcome, StoreError> {
    let Some(before) = find_to_write(txn, user)? else { return Ok(UpdateOutcome::NotFound) };
    if expected.is_some_and(|expected| before.password_hash != *expected) {
        return Ok(UpdateOutcome::NotFound);
    }
    let after = before.clone().changed(change);
    let demoted = before.is_acting_admin() && !after.is_acting_admin();
    if demoted && is_last_admin(txn)? {
        return Ok(UpdateOutcome::LastAdmin);
    }
    replace(txn, Some(&before), Some(&after))?;
    if after.epoch != before.epoch {
        known_devices::remove_of_user(txn, user)?; // whoever was logged in so far may be someone else
    }
    if after.epoch != before.epoch || after.admin != before.admin {
        let (min_epoch, admin, expires_at_s) = (after.epoch, after.admin, tokens_expire_at_s);
        txn.user_revoked(UserRevocation { user, min_epoch, admin, expires_at_s });
    }
    Ok(UpdateOutcome::Done(after))
}

/// Removes a user. The tokens issued so far have expired at `tokens_expire_at_s`, in seconds since 1970.
pub(in crate::store) fn remove(
    txn: &Transaction,
    user: PublicId,
    tokens_expire_at_s: u64,
) -> Result<UpdateOutcome, StoreError> {
    let Some(before) = find_to_write(txn, user)? else { return Ok(UpdateOutcome::NotFound) };
    if before.is_acting_admin() && is_last_admin(txn)? {
        return Ok(UpdateOutcome::LastAdmin);
    }
    replace(txn, Some(&before), None)?;
    known_devices::remove_of_user(txn, user)?;
    let (min_epoch, expires_at_s) = (before.epoch + 1, tokens_expire_at_s);
    txn.user_revoked(UserRevocation { user, min_epoch, admin: false, expires_at_s });
    Ok(UpdateOutcome::Done(before))
}

/// Replaces a password hash by a stronger one of the same password. Tokens stay valid.
pub(in crate::store) fn update_password_hash(
    txn: &Transaction,
    user: PublicId,
    old: &PasswordHash,
    new: &PasswordHash,
) -> Result<(), StoreError> {
    if let Some(before) = find_to_write(txn, user)?.filter(|found| found.password_hash == *old) {
        let after = User { password_hash: new.clone(), ..before.clone() };
        replace(txn, Some(&before), Some(&after))?;
    }
    Ok(())
}

/// Migration to schema 7: counts the hashes of other systems, if the step before did not.
pub(in crate::store) fn count_foreign_hashes_once(txn: &WriteTransaction) -> Result<(), StoreError> {
    let mut meta = txn.open_table(META)?;
    if meta.get(FOREIGN_HASH_COUNT)?.is_none() {
        let mut foreign = 0;
        for entry in txn.open_table(USERS)?.iter()? {
            foreign += u64::from(read(entry)?.password_hash.is_foreign());
        }
        meta.insert(FOREIGN_HASH_COUNT, foreign)?;
    }
    Ok(())
}

/// Migration to schema 6: creates both indexes. That of emails is copied in its order, which is much faster than in another.
pub(in crate::store) fn create_indexes(txn: &WriteTransaction) -> Result<(), StoreError> {
    let mut by_email = txn.open_table(USERS_BY_EMAIL)?;
    for row in txn.open_table(USERS_BY_EMAIL_1)?.iter()? {
        let (email, id) = row?;
        by_email.insert(email.value().as_bytes(), id.value().as_slice())?;
    }
    let mut index = UserIndex::open(txn)?;
    let mut foreign = 0;
    for entry in txn.open_table(USERS)?.iter()? {
        let user = read(entry)?;
        index.replace(None, Some(&user))?;
        foreign += u64::from(user.password_hash.is_foreign());
    }
    txn.open_table(META)?.insert(FOREIGN_HASH_COUNT, foreign)?;
    Ok(())
}

fn replace(txn: &Transaction, before: Option<&User>, after: Option<&User>) -> Result<(), StoreError> {
    Tables::open(txn)?.replace(before, after)
}

/// The table and its indexes, open for writing.
struct Tables<'a> {
    txn: &'a Transaction,
    users: Table<'a, [u8; 16], &'static [u8]>,
    emails: EmailIndex<'a>,
    meta: Table<'a, &'static str, u64>,
    index: UserIndex<'a>,
}

impl<'a> Tables<'a> {
    fn open(txn: &'a Transaction) -> Result<Self, StoreError> {
        let (users, meta) = (txn.open_table(USERS)?, txn.open_table(META)?);
        Ok(Self { txn, users, emails: EmailIndex::open(txn)?, meta, index: UserIndex::open(txn)? })
    }

    /// Replaces a row and its index entries. All writes go through this method, so that the table and its indexes agree.
    fn replace(&mut self, before: Option<&User>, after: Option<&User>) -> Result<(), StoreError> {
        self.index.replace(before, after)?;
        let foreign = |user: Option<&User>| user.is_some_and(|user| user.password_hash.is_foreign());
        if foreign(before) != foreign(after) {
            let count = self.meta.get(FOREIGN_HASH_COUNT)?.map_or(0, |count| count.value());
            let count = if foreign(after) { count + 1 } else { count.saturating_sub(1) };
            self.meta.insert(FOREIGN_HASH_COUNT, count)?;
        }
        match (before, after) {
            (Some(before), None) => self.emails.remove(before)?,
            (None, Some(after)) => self.emails.insert(after)?,
            _ => {} // no change alters an email
        }
        if let Some(before) = before {
            self.txn.user_changed(before.public_id);
            self.users.remove(before.public_id.to_bytes())?;
        }
        if let Some(after) = after {
            self.users.insert(after.public_id.to_bytes(), record::encode(&to_row(after)).as_slice())?;
        }
        Ok(())
    }
}

/// Outcome of the import of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportOutcome {
    /// The user is new: no account has the email or the public id.
    New,
    /// The same user exists already.
    Same,
    /// The email belongs to an account with another password hash, other rights or another public id.
    Differs,
    /// The public id belongs to an account with another email.
    IdTaken,
}

/// A user to import.
pub struct UserToImport {
    /// The user.
    pub user: User,
    /// Whether the import has a public id for the user. A generated one is not compared.
    pub id_given: bool,
}

fn import_outcome(
    users: &impl ReadableTable<[u8; 16], &'static [u8]>,
    by_email: &impl ReadableTable<&'static [u8], &'static [u8]>,
    incoming: &UserToImport,
) -> Result<ImportOutcome, StoreError> {
    let UserToImport { user, id_given } = incoming;
    let id = by_email.get(user.email.key().as_bytes())?;
    let Some(id) = id.map(|id| record::fixed(BY_EMAIL, id.value())).transpose()? else {
        let taken = users.get(user.public_id.to_bytes())?.is_some();
        return Ok(if taken { ImportOutcome::IdTaken } else { ImportOutcome::New });
    };
    let found = users.get(id)?.map(|row| from_row(PublicId::from_bytes(id), row.value())).transpose()?;
    let same = found.is_some_and(|found| {
        let rights = found.admin == user.admin && found.disabled == user.disabled;
        rights && found.password_hash == user.password_hash && (!id_given || found.public_id == user.public_id)
    });
    Ok(if same { ImportOutcome::Same } else { ImportOutcome::Differs })
}

/// The outcome that an import would have for each user, without changing anything.
pub(in crate::store) fn import_outcomes(
    snapshot: &Snapshot,
    users: &[UserToImport],
) -> Result<Vec<ImportOutcome>, StoreError> {
    let by_email = snapshot.open_table(USERS_BY_EMAIL)?;
    users.iter().map(|incoming| import_outcome(&snapshot.users, &by_email, incoming)).collect()
}

/// Adds the new users, and returns the outcome for each.
pub(in crate::store) fn import(txn: &Transaction, users: &[UserToImport]) -> Result<Vec<ImportOutcome>, StoreError> {
    let mut tables = Tables::open(txn)?;
    let add = |incoming: &UserToImport| {
        let outcome = import_outcome(&tables.users, &tables.emails.by_email, incoming)?;
        if outcome == ImportOutcome::New {
            tables.replace(None, Some(&incoming.user))?;
        }
        Ok(outcome)
    };
    users.iter().map(add).collect()
}

/// Calls `each` with every user of the snapshot and the total, in order of registration.
pub(in crate::store) fn for_each<E: From<StoreError>>(
    snapshot: &Snapshot,
    mut each: impl FnMut(User, u64) -> Result<(), E>,
) -> Result<(), E> {
    let users = &snapshot.users;
    let all = users.len().map_err(StoreError::from)?;
    for entry in users.iter().map_err(StoreError::from)? {
        each(read(entry)?, all)?;
    }
    Ok(())
}

fn find_to_write(txn: &WriteTransaction, user: PublicId) -> Result<Option<User>, StoreError> {
    let users = txn.open_table(USERS)?;
    let row = users.get(user.to_bytes())?;
    row.map(|row| from_row(user, row.value())).transpose()
}

fn is_last_admin(txn: &WriteTransaction) -> Result<bool, StoreError> {
    UserIndex::open(txn)?.is_last_admin()
}

pub(in crate::store) fn find(users: &Users, user: PublicId) -> Result<Option<User>, StoreError> {
    let row = users.get(user.to_bytes())?;
    row.map(|row| from_row(user, row.value())).transpose()
}

/// An unknown email reads another user's row, so that timing does not reveal whether the account exists (I7).
pub(in crate::store) fn find_by_email(snapshot: &Snapshot, email: &Email) -> Result<Option<User>, StoreError> {
    if let Some(id) = email_index::find(snapshot, email)? {
        return find(&snapshot.users, id);
    }
    if let Some((id, row)) = snapshot.users.first()? {
        let _ = std::hint::black_box(from_row(PublicId::from_bytes(id.value()), row.value()));
    }
    Ok(None)
}

/// Returns the number of users with a password hash of another system.
pub(in crate::store) fn count_foreign_hashes(txn: &ReadTransaction) -> Result<u64, StoreError> {
    Ok(txn.open_table(META)?.get(FOREIGN_HASH_COUNT)?.map_or(0, |count| count.value()))
}

pub(in crate::store) fn count(snapshot: &Snapshot) -> Result<u64, StoreError> {
    Ok(snapshot.users.len()?)
}
