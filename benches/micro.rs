//! Micro-benchmarks of the single parts of a request: signing and verifying a token, the guard's snapshot, a commit by batch size, a purge
//! batch.
//!
//! `cargo bench` measures them. `cargo test` runs each of them once, so that they keep working. Deliberately absent: a verdict.
//! `benches/load` measures what a user notices.

use std::{sync::Arc, time::Duration};

use divan::{Bencher, black_box, counter::ItemsCount};
use latchkey::{
    auth::tokens::{NewToken, Ring, TokenSettings, Tokens, key::Key},
    clock::{Clock as _, SystemClock},
    model::{BlacklistedToken, Email, PasswordHash, PublicId, TokenId, User},
    store::{DataDir, Store, UserToImport},
};
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinSet};

const CACHE_BYTES: usize = 64 * 1024 * 1024;
const LIFETIME_S: u64 = 3600;
/// How many entries the purge task removes in one transaction.
const PURGE_BATCH: usize = 1000;

fn main() {
    divan::main();
}

fn tokens() -> Tokens {
    let settings = TokenSettings { lifetime_s: LIFETIME_S, ..TokenSettings::default() };
    Tokens::new(settings, Ring::of_key(Key::of_secret(&[7; 32], None), LIFETIME_S))
}

fn new_token() -> NewToken {
    let now_s = SystemClock.unix_s();
    NewToken {
        issued_at_s: now_s,
        expires_at_s: now_s + LIFETIME_S,
        subject: PublicId::new(SystemClock.now()),
        admin: false,
        epoch: 0,
    }
}

fn user(number: usize) -> User {
    User {
        public_id: PublicId::new(SystemClock.now()),
        email: Email::parse(&format!("user{number}@example.com")).expect("an email"),
        password_hash: PasswordHash::new("$scrypt$ln=15,r=8,p=3$".to_owned()),
        admin: false,
        disabled: false,
        epoch: 0,
        registered_on: SystemClock.now(),
    }
}

/// A store in its own directory, which is removed on drop, and the runtime that runs its futures.
struct Opened {
    store: Arc<Store>,
    runtime: Runtime,
    _dir: TempDir,
}

impl Opened {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let data = DataDir::take(&dir.path().join("data")).expect("a data directory");
        let store = Arc::new(Store::open(&data, CACHE_BYTES).expect("a store"));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        Self { store, runtime, _dir: dir }
    }

    /// Adds `count` tokens to the blacklist concurrently, and waits until all of them are on disk.
    fn blacklist(&self, count: usize, expires_at_s: u64) {
        self.runtime.block_on(async {
            let mut writes = JoinSet::new();
            for _ in 0..count {
                let store = Arc::clone(&self.store);
                let token = BlacklistedToken { expires_at_s, token_id: TokenId::new() };
                writes.spawn(async move { store.blacklist(token).await });
            }
            while let Some(written) = writes.join_next().await {
                written.expect("a write that does not panic").expect("a write");
            }
        });
    }
}

#[divan::bench]
fn sign(bencher: Bencher) {
    let (tokens, claims) = (tokens(), new_token());
    bencher.bench_local(|| tokens.sign(black_box(&claims)));
}

#[divan::bench]
fn verify(bencher: Bencher) {
    let tokens = tokens();
    let token = tokens.sign(&new_token());
    bencher.bench_local(|| tokens.verify(black_box(&token)));
}

/// The read that the guard makes for each request, with ten thousand users and as many logged-out tokens.
#[divan::bench]
fn token_state(bencher: Bencher) {
    const COUNT: usize = 10_000;
    let opened = Opened::new();
    let users: Vec<User> = (0..COUNT).map(user).collect();
    let ids: Vec<PublicId> = users.iter().map(|user| user.public_id).collect();
    let incoming = users.into_iter().map(|user| UserToImport { user, id_given: true }).collect();
    opened.store.import_users(incoming).expect("an import");
    let expires_at_s = SystemClock.unix_s() + LIFETIME_S;
    for _ in 0..COUNT / 1000 {
        opened.blacklist(1000, expires_at_s);
    }
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        let token = BlacklistedToken { expires_at_s, token_id: TokenId::new() };
        opened.store.token_state(token, ids[turn * 7919 % COUNT])
    });
}

/// `writers` concurrent writes, until all of them are on disk.
#[divan::bench(args = [1, 16, 64, 256, 1024], max_time = Duration::from_secs(3))]
fn commit(bencher: Bencher, writers: usize) {
    let opened = Opened::new();
    let expires_at_s = SystemClock.unix_s() + LIFETIME_S;
    bencher.counter(ItemsCount::new(writers)).bench_local(|| opened.blacklist(writers, expires_at_s));
}

/// One batch of the purge task.
#[divan::bench(max_time = Duration::from_secs(5))]
fn purge(bencher: Bencher) {
    let opened = Opened::new();
    let bencher = bencher.counter(ItemsCount::new(PURGE_BATCH)).with_inputs(|| opened.blacklist(PURGE_BATCH, 1));
    bencher.bench_local_values(|()| {
        let purged = opened.runtime.block_on(opened.store.purge_expired(2, PURGE_BATCH));
        assert_eq!(purged.expect("a purge"), PURGE_BATCH);
    });
}
