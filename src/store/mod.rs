//! The stored data: one method per operation, over the engine in `redb`. One file holds everything.
//!
//! Guarantees: every method is one operation in one transaction (I5). A write returns after the disk has it (I1). A read sees one snapshot,
//! but for [`Store::token_state`], whose two parts are each as new as the last acknowledged write.
//! Deliberately absent: rules about who may do what.
//!
//! `service_accounts` has the methods about services. `data_dir` has the directory and its other files; `file_access` who may use them; `atomic_file` and `unnamed_file` write files that appear only when complete.

mod atomic_file;
mod data_dir;
mod error;
mod file_access;
mod key_ring;
mod progress;
mod reader_pool;
mod redb;
mod revocations;
mod service_accounts;
mod unnamed_file;

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::Semaphore;

use crate::{
    metrics::DatabaseSizes,
    model::{
        BlacklistedToken, Email, KnownDevice, PasswordHash, PublicId, User, UserChange, UserFilter, Widget, WidgetName,
    },
};

use self::redb::{
    backup, blacklist, email_index,
    engine::{RedbEngine, StorageBackend},
    known_devices, schema, user_list, users, widgets,
};

pub use self::redb::{
    backend::AccessMode,
    check::{DatabaseContents, HashCheck, check, check_on, check_open},
    email_index::MailboxDuplicate,
    restore::{RestoreOutcome, restore},
    revocations::{RevocationCursor, RevocationPage},
    service_cache::ServiceIndex,
    service_table::{InsertServiceOutcome, SERVICES_MAX},
    user_list::{UserCursor, UserPage, UserTotal, UsersFrom},
    users::{ImportOutcome, UpdateOutcome, UserToImport},
    widgets::{OwnedWidget, WidgetPage},
};
pub use atomic_file::AtomicFile;
pub use data_dir::{ADMIN_SOCKET, DataDir, DataDirError, read_secret};
pub use error::StoreError;
pub use file_access::{check_secret, give_path_to_owner_of};
pub use progress::Progress;
pub use unnamed_file::scratch_file;

/// The maximum number of concurrent reads of the revocation feed. Further ones wait, so that they leave room for others in the queue of the
/// reader pool when all waiting services are told of a logout at once.
const REVOCATION_READS_MAX: usize = 8;

/// The state of a token and of its user.
pub struct TokenState {
    /// Whether the token was logged out.
    pub blacklisted: bool,
    /// Entries of tokens that expired up to this second may have been purged. The current time is at least this, so that a clock that was
    /// set back does not make a token valid whose entry was purged (I3).
    pub purged_through_s: u64,
    /// The user, or `None` if the user was removed.
    pub user: Option<Arc<User>>,
}

/// The open database.
pub struct Store {
    engine: RedbEngine,
    /// A copy of the stored value, because every request needs it (I3). It is never less than the stored one.
    purged_through_s: Arc<AtomicU64>,
    /// Limits how many reads of the revocation feed are queued at a time.
    revocation_reads: Semaphore,
}

impl Store {
    /// Opens the database in `dir` after verifying its integrity and schema, or creates it if there is none.
    ///
    /// `cache_bytes` bounds what is kept of the database in memory.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the file is not a latchkey database, or is damaged or newer than this program.
    pub fn open(dir: &DataDir, cache_bytes: usize) -> Result<Self, StoreError> {
        Self::over(RedbEngine::open(dir.database(), cache_bytes)?)
    }

    /// Like [`Store::open`], but on the storage that `factory` opens, also each time it is reopened after a failure. For tests with
    /// simulated disks.
    ///
    /// # Errors
    /// As [`Store::open`], or if there is no database.
    pub fn open_on<B: StorageBackend>(
        factory: impl Fn(AccessMode) -> io::Result<B> + Send + Sync + 'static,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        Self::over(RedbEngine::open_on(factory, cache_bytes)?)
    }

    /// Creates an empty database in the empty `backend`. It is complete and synced when this returns.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn create_on(backend: impl StorageBackend, cache_bytes: usize) -> Result<(), StoreError> {
        schema::fill(backend, cache_bytes)
    }

    fn over(engine: RedbEngine) -> Result<Self, StoreError> {
        let purged_through_s = Arc::new(blacklist::purged_through_s(&*engine.snapshot()?)?.into());
        Ok(Self { engine, purged_through_s, revocation_reads: Semaphore::new(REVOCATION_READS_MAX) })
    }

    /// Finishes the queued writes and closes the file, so that the next start finds it clean.
    ///
    /// # Errors
    /// If the file cannot be closed cleanly. Every acknowledged write is on disk nevertheless.
    pub fn close(self) -> Result<(), StoreError> {
        self.engine.close()
    }

    /// Returns the generation of the data: a number that each restore changes, or `None` before the first restore. Tokens of an earlier
    /// generation are invalid.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn data_generation(&self) -> Result<Option<u64>, StoreError> {
        self.engine.read(|snapshot| schema::data_generation(snapshot))
    }

    /// Verifies that a read and a durable write work.
    ///
    /// # Errors
    /// [`StoreError`] has the cause.
    pub async fn probe_write(&self) -> Result<(), StoreError> {
        self.check_readable()?;
        self.engine.write(schema::probe_write).await
    }

    /// Counts users and blacklist entries, and the size of the file in bytes.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn sizes(&self) -> Result<DatabaseSizes, StoreError> {
        let database_bytes = self.engine.bytes()?;
        self.engine.read(|snapshot| {
            Ok(DatabaseSizes {
                users: users::count(snapshot)?,
                foreign_password_hashes: users::count_foreign_hashes(snapshot)?,
                blacklist: blacklist::count(snapshot)?,
                database_bytes,
            })
        })
    }

    /// Copies the database as it is at this moment into the empty `file`. Writers do not wait for it.
    ///
    /// # Errors
    /// [`StoreError`] if a disk fails. Opening the incomplete `file` is refused.
    pub fn backup(&self, file: File, progress: Progress<'_>) -> Result<(), StoreError> {
        backup::copy(&*self.engine.snapshot()?, file, progress) // an error may be about `file`
    }

    /// Calls `each` with every user of one snapshot and the total, in order of registration.
    ///
    /// # Errors
    /// The error of `each`, or [`StoreError`] if the disk fails.
    pub fn for_each_user<E: From<StoreError>>(&self, each: impl FnMut(User, u64) -> Result<(), E>) -> Result<(), E> {
        users::for_each(&*self.engine.snapshot()?, each)
    }

    /// Returns the outcome that an import would have for each of `users`, without changing anything.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn import_outcomes(&self, users: &[UserToImport]) -> Result<Vec<ImportOutcome>, StoreError> {
        self.engine.read(|snapshot| users::import_outcomes(snapshot, users))
    }

    /// Adds the new ones of `users` in one transaction, and returns the outcome for each. Blocks the thread.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn import_users(&self, users: Vec<UserToImport>) -> Result<Vec<ImportOutcome>, StoreError> {
        self.engine.write_blocking(move |txn| users::import(txn, &users))
    }

    /// Adds a user. Returns `false` if the email is taken, in any letter case.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn insert_user(&self, user: User) -> Result<bool, StoreError> {
        self.engine.write(move |txn| users::insert(txn, &user)).await
    }

    /// Returns the user with this email, in any letter case.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn find_user(&self, email: &Email) -> Result<Option<User>, StoreError> {
        self.engine.read(|snapshot| users::find_by_email(snapshot, email))
    }

    /// Returns the user with this public id.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn find_user_by_id(&self, user: PublicId) -> Result<Option<User>, StoreError> {
        self.engine.read(|snapshot| users::find(&snapshot.users, user))
    }

    /// Returns up to `limit` of the users that `filter` selects: in order of registration, or in order of emails if it has a prefix.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails or too many reads are queued.
    pub async fn user_page(&self, filter: UserFilter, from: UsersFrom, limit: usize) -> Result<UserPage, StoreError> {
        self.engine.read_in_pool(move |snapshot| user_list::page(snapshot, &filter, from, limit)).await
    }

    /// Like [`Store::user_page`], and counts the users that `filter` selects in the same snapshot.
    ///
    /// # Errors
    /// As [`Store::user_page`].
    pub async fn user_page_with_total(
        &self,
        filter: UserFilter,
        from: UsersFrom,
        limit: usize,
    ) -> Result<(UserPage, UserTotal), StoreError> {
        let read = move |snapshot: &_| {
            Ok((user_list::page(snapshot, &filter, from, limit)?, user_list::total(snapshot, &filter)?))
        };
        self.engine.read_in_pool(read).await
    }

    /// Changes a user. Returns [`UpdateOutcome::NotFound`] if `expected` is given and is no longer the user's password hash.
    /// `tokens_expire_at_s` is when the tokens issued so far have expired, in seconds since 1970.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn update_user(
        &self,
        user: PublicId,
        expected: Option<PasswordHash>,
        change: UserChange,
        tokens_expire_at_s: u64,
    ) -> Result<UpdateOutcome, StoreError> {
        let update = move |txn: &_| users::update(txn, user, expected.as_ref(), &change, tokens_expire_at_s);
        self.engine.write(update).await
    }

    /// Removes a user. Widgets of the user stay, without an owner. `tokens_expire_at_s` is as for [`Store::update_user`].
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn remove_user(&self, user: PublicId, tokens_expire_at_s: u64) -> Result<UpdateOutcome, StoreError> {
        self.engine.write(move |txn| users::remove(txn, user, tokens_expire_at_s)).await
    }

    /// Replaces a password hash by a stronger one of the same password. Does nothing if `old` is no longer the hash.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn update_password_hash(
        &self,
        user: PublicId,
        old: PasswordHash,
        new: PasswordHash,
    ) -> Result<(), StoreError> {
        self.engine.write(move |txn| users::update_password_hash(txn, user, &old, &new)).await
    }

    /// Returns whether `token` is blacklisted, and its user.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn token_state(&self, token: BlacklistedToken, user: PublicId) -> Result<TokenState, StoreError> {
        let (blacklisted, user) = self.engine.blacklisted_and_user(token, user)?;
        // This is read after the blacklist, so that it includes a purge that has just removed the entry.
        Ok(TokenState { blacklisted, purged_through_s: self.purged_through_s(), user })
    }

    /// Returns the latest expiry of all entries that were ever purged, in seconds since 1970 (I3).
    #[must_use]
    pub fn purged_through_s(&self) -> u64 {
        self.purged_through_s.load(Ordering::Acquire)
    }

    /// Returns all accounts that have the mailbox of an older account.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn mailbox_duplicates(&self) -> Result<Vec<MailboxDuplicate>, StoreError> {
        self.engine.read(|snapshot| email_index::duplicates(snapshot))
    }

    /// Verifies that the database can be read.
    ///
    /// # Errors
    /// [`StoreError`] has the cause.
    pub fn check_readable(&self) -> Result<(), StoreError> {
        self.engine.read(|snapshot| blacklist::purged_through_s(snapshot)).map(drop)
    }

    /// Returns the time of the last stored login from `device`, in seconds since 1970, or `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn last_login_s(&self, device: KnownDevice) -> Result<Option<u64>, StoreError> {
        self.engine.read(|snapshot| known_devices::last_login_s(snapshot, device))
    }

    /// Stores a login of `user` from `device` at `now_s`, in seconds since 1970.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn insert_known_device(&self, user: User, device: KnownDevice, now_s: u64) -> Result<(), StoreError> {
        self.engine.write(move |txn| known_devices::insert(txn, (&user, device), now_s)).await
    }

    /// Removes up to `limit` known devices whose last stored login was at `through_s` or before, and returns their number.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn purge_known_devices(&self, through_s: u64, limit: usize) -> Result<usize, StoreError> {
        if !self.engine.read(|snapshot| known_devices::has_expired(snapshot, through_s))? {
            return Ok(0);
        }
        self.engine.write(move |txn| known_devices::purge(txn, through_s, limit)).await
    }

    /// Returns up to `limit` widgets in order of creation after the first `skip`, and the total number.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails or too many reads are queued.
    pub async fn widget_page(&self, skip: u64, limit: usize) -> Result<WidgetPage, StoreError> {
        self.engine.read_in_pool(move |snapshot| widgets::page(snapshot, skip, limit)).await
    }

    /// Returns the widget of this name and its owner.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn find_widget(&self, name: &WidgetName) -> Result<Option<OwnedWidget>, StoreError> {
        self.engine.read(|snapshot| widgets::find(snapshot, name))
    }

    /// Adds a widget. Returns `false` if the name is taken.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn insert_widget(&self, widget: Widget) -> Result<bool, StoreError> {
        self.engine.write(move |txn| widgets::insert(txn, &widget)).await
    }

    /// Replaces the URL and the deadline of the widget with the name of `widget`, or adds `widget` if there is none. Returns `true` if it
    /// was added.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn put_widget(&self, widget: Widget) -> Result<bool, StoreError> {
        self.engine.write(move |txn| widgets::put(txn, &widget)).await
    }

    /// Removes a widget. Returns `false` if there is none of this name.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn remove_widget(&self, name: WidgetName) -> Result<bool, StoreError> {
        self.engine.write(move |txn| widgets::remove(txn, &name)).await
    }
}
