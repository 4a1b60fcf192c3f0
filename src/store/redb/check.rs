//! Verifies a database file: everything that a server relies on.
//!
//! Guarantees: the file is not changed. An error is one sentence. Verified are every page's checksum, the schema (an older one is
//! migrated in memory), every record, every index in both directions, and every password hash.

use std::{fs::File, path::Path};

use redb::{
    ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, backends::FileBackend,
};

use crate::{
    model::{Email, PasswordHash, PublicId, WidgetName},
    store::{
        error::StoreError,
        progress::Progress,
        redb::{
            backup,
            email_index::{self, MailboxDuplicate},
            known_devices,
            record::{self, WidgetRow},
            revocations, schema, service_table, signing_keys, tables, user_index, user_row, users, widgets,
        },
    },
};

const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// The counts of a verified file.
#[derive(Debug)]
pub struct DatabaseContents {
    /// The schema version of the file itself.
    pub schema: usize,
    /// The number of users.
    pub users: u64,
    /// The number of administrators among them.
    pub administrators: u64,
    /// The number of widgets.
    pub widgets: u64,
    /// The number of entries of the blacklist.
    pub blacklisted: u64,
    /// The accounts that have the mailbox of an older account.
    pub mailbox_duplicates: Vec<MailboxDuplicate>,
}

/// Checks whether a stored password hash can be verified. The error is the reason why it cannot.
pub type HashCheck = fn(&PasswordHash) -> Result<(), String>;

/// Verifies everything in the file at `path` without changing it.
///
/// # Errors
/// [`StoreError::Refused`] has one sentence about the first defect.
pub fn check(path: &Path, check_hash: HashCheck, progress: Progress<'_>) -> Result<DatabaseContents, StoreError> {
    let file = File::open(path).map_err(|error| schema::cannot("open", path, &error))?;
    check_open(file, path, check_hash, progress)
}

/// Like [`check`], for an open file that no other process uses. Errors call it `path`.
///
/// # Errors
/// As [`check`].
pub fn check_open(
    file: File,
    path: &Path,
    check_hash: HashCheck,
    progress: Progress<'_>,
) -> Result<DatabaseContents, StoreError> {
    check_on(FileBackend::new(file)?, path, check_hash, progress)
}

/// Like [`check_open`], for any storage.
///
/// # Errors
/// As [`check`].
pub fn check_on(
    file: impl StorageBackend,
    path: &Path,
    check_hash: HashCheck,
    progress: Progress<'_>,
) -> Result<DatabaseContents, StoreError> {
    let damaged = |error| damaged(path, error);
    let (database, schema) = schema::open_over(file, path, CACHE_BYTES).map_err(damaged)?;
    let txn = database.begin_read()?;
    let mut checker = Checker { txn: &txn, path, done: 0, rows: backup::count(&txn)?.1, progress };
    let (users, administrators) = checker.users(check_hash).map_err(damaged)?;
    let widgets = checker.widgets().map_err(damaged)?;
    checker.other_tables().map_err(damaged)?;
    let blacklisted = txn.open_table(tables::BLACKLIST)?.len()?;
    let mailbox_duplicates = email_index::duplicates(&txn).map_err(damaged)?;
    Ok(DatabaseContents { schema, users, administrators, widgets, blacklisted, mailbox_duplicates })
}

fn damaged(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Refused(sentence) => StoreError::Refused(sentence),
        StoreError::Record { .. } => schema::refused(path, &format!("is damaged: {error}")),
        other => schema::refused(path, &format!("is damaged ({other})")),
    }
}

struct Checker<'a> {
    txn: &'a ReadTransaction,
    path: &'a Path,
    done: u64,
    rows: u64,
    progress: Progress<'a>,
}

impl Checker<'_> {
    fn step(&mut self) {
        self.done += 1;
        if self.done.is_multiple_of(1000) {
            (self.progress)(self.done, self.rows);
        }
    }

    fn wrong(&self, what: &str) -> StoreError {
        schema::refused(self.path, &format!("is damaged: {what}"))
    }

    fn users(&mut self, check_hash: HashCheck) -> Result<(u64, u64), StoreError> {
        let (emails, index) = (email_index::Checker::open(self.txn)?, user_index::Checker::open(self.txn)?);
        let (mut all, mut administrators, mut foreign) = (0, 0, 0);
        for row in self.txn.open_table(tables::USERS)?.iter()? {
            let (id, row) = row?;
            let user = user_row::from_row(PublicId::from_bytes(id.value()), row.value())?;
            Email::parse(user.email.as_str()).map_err(|error| self.wrong(&error.to_string()))?;
            if !emails.has(&user)? {
                return Err(self.wrong(&format!("the email {} does not lead to its user", user.email)));
            }
            check_hash(&user.password_hash).map_err(|why| {
                let whose = format!("the password hash of {} cannot be used: {why}", user.email);
                schema::refused(self.path, &format!("is not sound: {whose}"))
            })?;
            all += 1;
            administrators += u64::from(user.admin);
            foreign += u64::from(user.password_hash.is_foreign());
            if !index.has(&user)? {
                return Err(self.wrong(&format!("the index of users by flags is wrong about {}", user.email)));
            }
            self.step();
        }
        // Each user has its own entry, so an additional entry refers to no user.
        if emails.users()? != all {
            return Err(self.wrong("an email leads to no user"));
        }
        if index.users()? != all {
            return Err(self.wrong("the index of users by flags names a user who is not there"));
        }
        if users::count_foreign_hashes(self.txn)? != foreign {
            return Err(self.wrong("the hashes of other systems are counted wrong"));
        }
        if !index.counts_are_right()? {
            return Err(self.wrong("the index of users by flags is counted wrong"));
        }
        Ok((all, administrators))
    }

    /// Verifies the tables that need no count.
    fn other_tables(&self) -> Result<(), StoreError> {
        for (sound, wrong) in [
            (
                known_devices::are_sound(self.txn)?,
                "a known device belongs to no user, or is not in the order of logins",
            ),
            (revocations::are_sound(self.txn)?, "the revocation feed and its order of expiry differ"),
            (service_table::are_sound(self.txn)?, "two services have the same name, or there are too many"),
            (signing_keys::are_sound(self.txn)?, "not exactly one signing key is the current one"),
        ] {
            if !sound {
                return Err(self.wrong(wrong));
            }
        }
        Ok(())
    }

    fn widgets(&mut self) -> Result<u64, StoreError> {
        let by_sequence = self.txn.open_table(tables::WIDGETS_BY_SEQUENCE)?;
        let users = self.txn.open_table(tables::USERS)?;
        let mut all = 0;
        for row in self.txn.open_table(tables::WIDGETS)?.iter()? {
            let (name, row) = row?;
            let text = record::text("widgets", name.value())?;
            let parsed = WidgetName::parse(text).map_err(|_| self.wrong("a widget has an impossible name"))?;
            let sequence = record::decode::<WidgetRow>("widgets", row.value())?.sequence;
            widgets::from_row(&users, parsed, row.value())?;
            if by_sequence.get(sequence.to_be_bytes().as_slice())?.is_none_or(|found| found.value() != name.value()) {
                return Err(self.wrong(&format!("the widget {text} is not in the order of widgets")));
            }
            all += 1;
            self.step();
        }
        if by_sequence.len()? != all {
            return Err(self.wrong("the order of widgets names a widget that is not there"));
        }
        if !widgets::counts_are_right(self.txn)? {
            return Err(self.wrong("the order of widgets is counted wrong"));
        }
        Ok(all)
    }
}
