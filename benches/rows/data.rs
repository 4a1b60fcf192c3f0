//! The data sets. Each is built once through the store, kept below `target/`, and copied for each use.
//!
//! Guarantees: an existing set is complete, because it is built under another name; after a change of the schema, of the record or of the
//! builder new sets are built. Users and their ids are derived from their numbers, so that tokens can be signed without reading the data.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use latchkey::{
    auth::tokens::{NewToken, Ring, TokenSettings, Tokens, key::Key},
    clock::{Clock as _, SystemClock},
    model::{BlacklistedToken, Email, PasswordHash, PublicId, SigningAlgorithm, TokenId, User},
    store::{DataDir, Store, UserToImport},
};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::password_hash::Cost;

pub(crate) const MILLION: usize = 1_000_000;
const CACHE_BYTES: usize = 1 << 30; // the cache of this program, which only builds the sets
/// The number of entries that a purge removes at once. It is the same as in `latchkey::purge`.
const PURGED_AT_ONCE: usize = 1000;
/// The number of concurrent writes while a set is built.
const AT_ONCE: usize = 2048;
/// The number of users that one transaction adds.
const USERS_AT_ONCE: usize = 8192;
/// Live entries expire in the hour after this Unix time, in the year 2100. The tokens that are looked up among them expire in the same
/// hour.
const LIVE_FROM_S: u64 = 4_102_444_800;
/// Expired entries expired in the hour after this Unix time, in the year 2001.
const EXPIRED_FROM_S: u64 = 1_000_000_000;
const HOUR_S: u64 = 3600;
const KEY: &[u8] = b"a key that is not a secret at all";

/// A data set: how many users, and how many blacklist entries that are live or have expired.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// A thousand users, a thousand live entries.
    Thousand,
    /// A million users, a million live entries.
    Million,
    /// A thousand users, a million expired entries.
    Expired,
    /// Ten million users, a million live entries. One user is an administrator, and one in a thousand is disabled.
    TenMillion,
}

/// The number of the administrator among ten million users.
const ADMIN: usize = 5;

/// Whether a user is disabled among ten million.
fn is_disabled(number: usize) -> bool {
    number % 1000 == 7
}

impl Set {
    pub(crate) fn users(self) -> usize {
        match self {
            Self::TenMillion => 10 * MILLION,
            Self::Million => MILLION,
            Self::Thousand | Self::Expired => 1000,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Thousand => "thousand",
            Self::Million => "million",
            Self::Expired => "expired",
            Self::TenMillion => "ten-million",
        }
    }
}

/// A copy of a data set, removed when it is dropped.
pub(crate) struct Copy(PathBuf);

impl Copy {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns the path of the key file, which is next to the data in `dir`. The key signs the tokens.
pub(crate) fn key_file(dir: &Path) -> PathBuf {
    dir.join("bench.key")
}

/// Creates a directory for a server below `work`. It contains only the key.
pub(crate) fn empty(work: &Path) -> anyhow::Result<Copy> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let dir = work.join(format!("use-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&dir)?;
    fs::write(key_file(&dir), KEY)?;
    Ok(Copy(dir))
}

/// Removes the files of killed runs, whose names have the id of a process that no longer exists.
pub(crate) fn remove_leftovers(work: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(work)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut parts = name.split('-');
        let (kind, process) = (parts.next(), parts.next().unwrap_or_default());
        match kind {
            Some("use" | "tokens") if Path::new("/proc").join(process).exists() => {}
            Some("use") => fs::remove_dir_all(path)?,
            Some("tokens") => fs::remove_file(path)?,
            _ => {}
        }
    }
    Ok(())
}

/// Copies `set` to a directory below `work`. Builds the set first if it does not exist.
pub(crate) fn copy(work: &Path, set: Set) -> anyhow::Result<Copy> {
    let built = built(work, set).with_context(|| format!("cannot build the data set {}", set.name()))?;
    let copy = empty(work)?;
    let file = copy.path().join("latchkey.redb");
    fs::copy(built.join("latchkey.redb"), &file)?;
    fs::File::open(&file)?.sync_all()?; // or the system would write it while requests are measured
    Ok(copy)
}

fn built(work: &Path, set: Set) -> anyhow::Result<PathBuf> {
    let mut digest = Sha256::new();
    for source in [
        include_str!("../../src/store/redb/schema.rs"),
        include_str!("../../src/store/redb/record.rs"),
        include_str!("../../src/store/redb/user_index.rs"),
        include_str!("data.rs"),
    ] {
        digest.update(source);
    }
    let key: u32 = digest.finalize().iter().take(4).fold(0, |key, byte| key << 8 | u32::from(*byte));
    let dir = work.join(format!("data-{}-{key:08x}", set.name()));
    if !dir.exists() {
        eprintln!("building the data set {} …", set.name());
        for entry in fs::read_dir(work)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(&format!("data-{}-", set.name())) {
                fs::remove_dir_all(path)?; // the set from before a change
            }
        }
        let unfinished = empty(work)?;
        build(unfinished.path(), set)?;
        fs::rename(unfinished.path(), &dir)?;
    }
    Ok(dir)
}

fn build(dir: &Path, set: Set) -> anyhow::Result<()> {
    let dir = DataDir::take(dir)?;
    let store = Store::open(&dir, CACHE_BYTES)?;
    let hash = PasswordHash::new(Cost::default_setting().phc());
    for first in (0..set.users()).step_by(USERS_AT_ONCE) {
        let numbers = first..set.users().min(first + USERS_AT_ONCE);
        let users = numbers.map(|number| {
            let mut user = user(number, hash.clone())?;
            if set == Set::TenMillion {
                (user.admin, user.disabled) = (number == ADMIN, is_disabled(number));
            }
            Ok(UserToImport { user, id_given: true })
        });
        store.import_users(users.collect::<anyhow::Result<_>>()?)?;
    }
    let (entries, from_s) = match set {
        Set::Thousand => (1000, LIVE_FROM_S),
        Set::Million | Set::TenMillion => (MILLION, LIVE_FROM_S),
        Set::Expired => (MILLION, EXPIRED_FROM_S),
    };
    let store = blacklist(store, entries, from_s)?;
    store.close()?;
    Ok(())
}

/// The size of a file in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// The allocated size. redb doubles the length of a full file, and unwritten parts take no space.
    pub(crate) on_disk: u64,
    pub(crate) length: u64,
}

/// Purges the million expired entries in `dir` and adds as many again. No process may use `dir` meanwhile. Returns the size of the file
/// before and after. Both are read while the file is open, because closing it cuts off the free space at its end.
pub(crate) fn expire_again(dir: &Path) -> anyhow::Result<(Size, Size)> {
    let dir = DataDir::take(dir)?;
    let file = dir.database();
    let size = || fs::metadata(&file).map(|found| Size { on_disk: found.blocks() * 512, length: found.len() });
    let store = Store::open(&dir, CACHE_BYTES)?;
    let before = size()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    while runtime.block_on(store.purge_expired(SystemClock.unix_s(), PURGED_AT_ONCE))? > 0 {}
    let store = blacklist(store, MILLION, EXPIRED_FROM_S)?;
    let after = size()?;
    store.close()?;
    Ok((before, after))
}

/// Adds `count` tokens to the blacklist in the order of their expiry. They expire in the hour after `from_s`.
fn blacklist(store: Store, count: usize, from_s: u64) -> anyhow::Result<Store> {
    let store = Arc::new(store);
    let shared = Arc::clone(&store);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async move {
        let mut writes = JoinSet::new();
        for number in 0..count {
            if writes.len() >= AT_ONCE {
                writes.join_next().await.context("nothing is written")???;
            }
            let (store, token_id) = (Arc::clone(&shared), TokenId::new());
            let token = BlacklistedToken { expires_at_s: from_s + spread(number, count), token_id };
            // The store is read first, as the guard does at each logout.
            writes.spawn(async move { store.check_readable().and(store.blacklist(token).await) });
        }
        while let Some(written) = writes.join_next().await {
            written??;
        }
        anyhow::Ok(())
    })?;
    Arc::into_inner(store).context("the store is still in use")
}

/// Returns the offset in seconds of entry `number` if `count` entries are spread evenly over an hour.
fn spread(number: usize, count: usize) -> u64 {
    number as u64 * HOUR_S / count as u64
}

fn public_id(number: usize) -> PublicId {
    // A UUID of version 7, so that the ids sort by time as real ones do.
    let mut bytes = (0x0199_0000_0000_7000_8000_0000_0000_0000_u128 | number as u128).to_be_bytes();
    bytes[..6].copy_from_slice(&(0x0199_0000_0000_u64 + number as u64).to_be_bytes()[2..]);
    PublicId::from_bytes(bytes)
}

/// Returns the email of a user. The password of each user is [`crate::password_hash::PASSWORD`].
pub(crate) fn email(number: usize) -> String {
    format!("user{number}@example.com")
}

fn user(number: usize, password_hash: PasswordHash) -> anyhow::Result<User> {
    Ok(User {
        public_id: public_id(number),
        email: Email::parse(&email(number))?,
        password_hash,
        admin: false,
        disabled: false,
        epoch: 0,
        registered_on: OffsetDateTime::UNIX_EPOCH,
    })
}

/// Returns the number of a user derived from `turn`. Consecutive turns give users that are not neighbours in the tables.
pub(crate) fn anyone(turn: usize, users: usize) -> usize {
    turn.wrapping_mul(0x9E37_79B1) % users
}

/// Signs tokens as the server does.
pub(crate) struct Signer {
    tokens: Tokens,
    now_s: u64,
}

impl Signer {
    pub(crate) fn new() -> Self {
        let settings = TokenSettings { lifetime_s: HOUR_S, ..TokenSettings::default() };
        let tokens = Tokens::new(settings, Ring::of_key(Key::of_secret(KEY, None), HOUR_S));
        Self { tokens, now_s: SystemClock.unix_s() }
    }

    /// Signs with a new key of ES256. Returns the key as PEM, too, for the server to verify with.
    pub(crate) fn es256() -> (Self, String) {
        let (key, private) = Key::generate(SigningAlgorithm::Es256);
        let settings = TokenSettings { lifetime_s: HOUR_S, ..TokenSettings::default() };
        let tokens = Tokens::new(settings, Ring::of_key(key, HOUR_S));
        let body = BASE64_STANDARD.encode(&*private);
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n");
        (Self { tokens, now_s: SystemClock.unix_s() }, pem)
    }

    /// Returns `count` tokens of users anywhere in `set`. They expire in the hour of the live blacklist entries, so that a lookup searches
    /// among these.
    pub(crate) fn among(&self, set: Set, count: usize) -> Vec<String> {
        (0..count).map(|turn| self.sign(anyone(turn, set.users()), LIVE_FROM_S + turn as u64 % HOUR_S)).collect()
    }

    /// Returns `count` tokens of users anywhere in `set`, with expiries as of logins during the last three quarters of an hour. They are
    /// not sorted.
    pub(crate) fn of_last_hour(&self, set: Set, count: usize) -> Vec<String> {
        let expiry = |turn: usize| self.now_s + HOUR_S / 4 + anyone(turn, 2700) as u64;
        (0..count).map(|turn| self.sign(anyone(turn, set.users()), expiry(turn))).collect()
    }

    /// A token of the administrator of [`Set::TenMillion`].
    pub(crate) fn of_admin(&self) -> String {
        self.sign(ADMIN, LIVE_FROM_S)
    }

    fn sign(&self, user: usize, expires_at_s: u64) -> String {
        let user = if is_disabled(user) { user - 1 } else { user }; // whose tokens are refused
        self.tokens.sign(&NewToken {
            issued_at_s: self.now_s,
            expires_at_s,
            subject: public_id(user),
            admin: false,
            epoch: 0,
        })
    }
}
