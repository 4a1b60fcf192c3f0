//! The schema of the file: creating it, verifying it, its version, and the migrations from one version to the next.
//!
//! Guarantees: a file that is not a latchkey database, is damaged, or is newer than this program is refused before anything is written to
//! it, with one sentence for the operator. All missing migrations are one transaction. A new file is complete under a temporary name before
//! it gets its own (I6).

use std::{
    fmt::Display,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend, StorageError,
    TableError, TableHandle as _, WriteTransaction, backends::FileBackend,
};

use crate::{
    random,
    store::{
        atomic_file::sync_dir,
        error::StoreError,
        file_access::give_to_owner_of,
        redb::{
            backend::{self, StorageFactory},
            copy_on_write::CopyOnWriteStorage,
            email_index, known_devices, revocations, signing_keys,
            tables::{self, META},
            transaction::{Transaction, transact},
            users, widgets,
        },
    },
};

/// Key in [`META`]: the number of applied [`STEPS`].
const SCHEMA_VERSION: &str = "schema_version";
/// Key in [`META`]: the number of [`data_generation`].
const GENERATION: &str = "generation";
/// Key in [`META`]: a counter that [`probe_write`] changes. Its value has no meaning.
const PROBES: &str = "probes";

/// The page cache while the file is verified.
const VERIFY_CACHE_BYTES: usize = 16 * 1024 * 1024;

type Step = fn(&WriteTransaction) -> Result<(), StoreError>;

/// Step `n` migrates schema `n` to schema `n + 1`. A released step is never changed, except that steps 1 to 4 do nothing any more: step 5
/// creates in another form what they created.
const STEPS: &[Step] = &[
    create_first_tables,
    NO_OP,
    NO_OP,
    NO_OP,
    NO_OP,
    migrate_to_bytes_tables,
    one_account_per_mailbox,
    create_keys_services_and_revocations,
];

fn create_first_tables(txn: &WriteTransaction) -> Result<(), StoreError> {
    txn.open_table(tables::USERS)?;
    txn.open_table(tables::BLACKLIST)?;
    Ok(())
}

const NO_OP: Step = |_| Ok(());

/// Replaces every table whose type is not one of the few that remain (`tables::BytesDefinition`), and creates the indexes of schemas 2 to 5.
/// Known devices are not kept: each login makes its device known again.
fn migrate_to_bytes_tables(txn: &WriteTransaction) -> Result<(), StoreError> {
    users::create_indexes(txn)?;
    widgets::migrate_to_bytes_tables(txn)?;
    known_devices::create(txn)?;
    for table in txn.list_tables()?.filter(|table| tables::SUPERSEDED.contains(&table.name())).collect::<Vec<_>>() {
        txn.delete_table(table)?;
    }
    Ok(())
}

fn one_account_per_mailbox(txn: &WriteTransaction) -> Result<(), StoreError> {
    email_index::migrate_keys(txn)?;
    users::count_foreign_hashes_once(txn)
}

fn create_keys_services_and_revocations(txn: &WriteTransaction) -> Result<(), StoreError> {
    for table in [tables::SIGNING_KEYS, tables::SERVICES, tables::REVOCATIONS, tables::REVOCATIONS_BY_EXPIRY] {
        txn.open_table(table)?;
    }
    revocations::begin_feed(txn)?;
    revocations::append_blacklist(txn)?;
    let mut meta = txn.open_table(META)?;
    // A new file gets its schema version after all steps.
    if meta.get(SCHEMA_VERSION)?.is_some() {
        meta.insert(tables::NEXT_RING_ALGORITHM, signing_keys::HS256)?;
    }
    Ok(())
}

/// Opens the file at `path`, or creates it, and migrates it to the current schema.
pub(in crate::store) fn open_or_create(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    if !path.try_exists().map_err(|error| cannot("look for", path, &error))? {
        create(path, cache_bytes)?;
    }
    open(&backend::file(path.to_owned()), path, cache_bytes)
}

/// Opens the database on `backend`, which errors call `path`, and migrates it to the current schema.
pub(in crate::store) fn open(
    backend: &dyn StorageFactory,
    path: &Path,
    cache_bytes: usize,
) -> Result<Database, StoreError> {
    verify(backend, path)?;
    // The integrity was verified just before and is not verified again, since that reads the whole file.
    let database =
        backend.open(Database::builder().set_cache_size(cache_bytes)).map_err(|error| refusal(path, error))?;
    migrate(&database, version(&database, path)?)?;
    Ok(database)
}

/// Opens `file`, which errors call `path`, copy-on-write and migrated to the current schema. Returns the schema version of the file
/// itself too.
pub(in crate::store) fn open_over(
    file: impl StorageBackend,
    path: &Path,
    cache_bytes: usize,
) -> Result<(Database, usize), StoreError> {
    let overlay = backend::not_empty(file).and_then(CopyOnWriteStorage::new).map_err(DatabaseError::from);
    let database = overlay.and_then(|overlay| builder(cache_bytes).create_with_backend(overlay));
    let database = database.map_err(|error| refusal(path, error))?;
    let taken = version(&database, path)?;
    migrate(&database, taken)?;
    Ok((database, taken))
}

/// Reopens the database after a disk error. Fails unless a probe write succeeds.
pub(in crate::store) fn open_again(backend: &dyn StorageFactory, cache_bytes: usize) -> Result<Database, StoreError> {
    let database = backend.open(Database::builder().set_cache_size(cache_bytes))?;
    transact(&database, probe_write)?;
    Ok(database)
}

/// Opens the database to read it while it accepts no writes.
pub(in crate::store) fn open_to_read(backend: &dyn StorageFactory, cache_bytes: usize) -> Result<Database, StoreError> {
    Ok(backend.open_over(Database::builder().set_cache_size(cache_bytes))?)
}

pub(in crate::store) fn builder(cache_bytes: usize) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes);
    // Without this redb trusts the file, and an altered file would lead to wrong decisions about access.
    builder.set_check_integrity_on_open(true);
    builder
}

/// Creates the file under a temporary name (I6), because a crash while a database is created leaves a file that cannot be opened.
fn create(path: &Path, cache_bytes: usize) -> Result<(), StoreError> {
    let unfinished = path.with_extension("redb.new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(cannot("replace", &unfinished, &error)),
        _ => {}
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(|error| cannot("create", &unfinished, &error))?;
    if let Some(dir) = path.parent() {
        give_to_owner_of(dir, &file);
    }
    let finish = || -> io::Result<()> {
        File::open(&unfinished)?.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_dir(path.parent().unwrap_or_else(|| Path::new(".")))
    };
    let created = FileBackend::new(file)
        .map_err(StoreError::from)
        .and_then(|backend| fill(backend, cache_bytes))
        .map_err(|error| cannot("create", path, &error))
        .and_then(|()| finish().map_err(|error| cannot("create", path, &error)));
    if created.is_err() {
        let _ = fs::remove_file(&unfinished); // it only takes space, which may be what is missing
    }
    created
}

/// Creates an empty database in `backend`.
pub(in crate::store) fn fill(backend: impl StorageBackend, cache_bytes: usize) -> Result<(), StoreError> {
    let database = builder(cache_bytes).create_with_backend(backend)?;
    migrate(&database, 0)?;
    Ok(database.close()?)
}

/// Verifies the file and its version copy-on-write, so that a refused file is unchanged. redb's read-only open trusts the file and panics
/// at some damaged ones.
pub(in crate::store) fn verify_read_only(path: &Path) -> Result<(), StoreError> {
    verify(&backend::file(path.to_owned()), path)
}

fn verify(backend: &dyn StorageFactory, path: &Path) -> Result<(), StoreError> {
    let database = backend.open_over(&builder(VERIFY_CACHE_BYTES)).map_err(|error| refusal(path, error))?;
    version(&database, path).map(drop)
}

/// Returns the schema version. Fails if the file is not a latchkey database, or its version is newer than this program.
fn version(database: &impl ReadableDatabase, path: &Path) -> Result<usize, StoreError> {
    let not_ours = || refused(path, "is a redb database but not latchkey's");
    let meta = match database.begin_read()?.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::TableDoesNotExist(_) | TableError::TableTypeMismatch { .. }) => return Err(not_ours()),
        Err(error) => return Err(error.into()),
    };
    let version = meta.get(SCHEMA_VERSION)?.ok_or_else(not_ours)?.value();
    let known = STEPS.len();
    usize::try_from(version).ok().filter(|version| *version <= known).ok_or_else(|| {
        let newer = "was written by a newer latchkey";
        refused(path, &format!("{newer} (schema {version}; this one knows up to {known}); upgrade latchkey"))
    })
}

/// Applies the steps after the first `taken`, all in one transaction.
fn migrate(database: &Database, taken: usize) -> Result<(), StoreError> {
    if taken == STEPS.len() {
        return Ok(());
    }
    let migrated = transact(database, |txn| {
        for step in &STEPS[taken..] {
            step(txn)?;
        }
        txn.open_table(META)?.insert(SCHEMA_VERSION, STEPS.len() as u64)?;
        Ok(())
    });
    migrated.map(drop)
}

/// Returns the data generation, which distinguishes tokens of this database from those issued before a restore, or `None` if there was no
/// restore.
pub(in crate::store) fn data_generation(txn: &ReadTransaction) -> Result<Option<u64>, StoreError> {
    Ok(txn.open_table(META)?.get(GENERATION)?.map(|generation| generation.value()))
}

/// Sets a new random data generation in the verified file at `path`, and begins another revocation feed.
pub(in crate::store) fn begin_data_generation(path: &Path) -> Result<(), StoreError> {
    let database = Database::open(path).map_err(|error| refusal(path, error))?;
    transact(&database, invalidate_all_tokens)?;
    Ok(database.close()?)
}

/// Sets a new random data generation, empties the key ring, which invalidates all tokens, and begins another revocation feed.
pub(in crate::store) fn invalidate_all_tokens(txn: &Transaction) -> Result<(), StoreError> {
    signing_keys::remove_all(txn)?;
    txn.open_table(META)?.insert(GENERATION, u64::from_be_bytes(random::bytes()))?;
    revocations::begin_feed(txn)
}

/// Writes a meaningless value, to find out whether writes work.
pub(in crate::store) fn probe_write(txn: &Transaction) -> Result<(), StoreError> {
    let mut meta = txn.open_table(META)?;
    let before = meta.get(PROBES)?.map_or(0, |probes| probes.value());
    meta.insert(PROBES, before.wrapping_add(1))?;
    Ok(())
}

fn refusal(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => refused(path, "is in use by another process"),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
            refused(path, "is not a latchkey database")
        }
        DatabaseError::Storage(StorageError::Io(error)) => cannot("open", path, &error),
        DatabaseError::UpgradeRequired(_) => refused(path, "was written by an older file format that cannot be read"),
        DatabaseError::Storage(StorageError::Corrupted(what)) => {
            refused(path, &format!("is damaged ({what}); restore it from a backup"))
        }
        other => other.into(),
    }
}

pub(in crate::store) fn refused(path: &Path, what: &str) -> StoreError {
    StoreError::Refused(format!("{} {what}", path.display()))
}

pub(in crate::store) fn cannot(verb: &str, path: &Path, error: &impl Display) -> StoreError {
    StoreError::Refused(format!("cannot {verb} {}: {error}", path.display()))
}
