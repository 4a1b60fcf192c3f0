//! Requests read users and tokens through a cache. No answer is older than a write that was acknowledged before the question.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use latchkey::{
    model::{BlacklistedToken, Email, PasswordHash, PublicId, TokenId, User, UserChange},
    store::Store,
};
use time::OffsetDateTime;

use super::{device::Disk, load};

/// The cache has room for some of the users and tokens, so that entries are removed all the time.
const CACHE_BYTES: usize = 1 << 20;
const USERS: usize = 400;
const ROUNDS: usize = 3;
const READERS: usize = 2;

/// A user, and what has been acknowledged about them.
struct Account {
    id: PublicId,
    epoch: AtomicU64,
    token: BlacklistedToken,
    logged_out: AtomicBool,
}

fn account(store: &Store, number: usize) -> Account {
    let user = User {
        public_id: PublicId::new(OffsetDateTime::UNIX_EPOCH),
        email: Email::parse(&format!("user{number}@example.com")).unwrap(),
        password_hash: PasswordHash::new("$scrypt$ln=1,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".to_owned()),
        admin: false,
        disabled: false,
        epoch: 0,
        registered_on: OffsetDateTime::UNIX_EPOCH,
    };
    let id = user.public_id;
    assert!(load::block_on(store.insert_user(user)).unwrap());
    let token = BlacklistedToken { expires_at_s: 4_000_000_000, token_id: TokenId::new() };
    Account { id, epoch: AtomicU64::new(0), token, logged_out: AtomicBool::new(false) }
}

#[test]
fn no_answer_is_older_than_an_acknowledged_write() {
    let disk = Disk::default();
    Store::create_on(disk.clone(), CACHE_BYTES).unwrap();
    let store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
    let accounts: Vec<Account> = (0..USERS).map(|number| account(&store, number)).collect();
    let read = |account: &Account| {
        let (epoch, logged_out) = (account.epoch.load(Ordering::SeqCst), account.logged_out.load(Ordering::SeqCst));
        let state = store.token_state(account.token, account.id).unwrap();
        assert!(state.blacklisted || !logged_out, "a token that was logged out is alive");
        assert!(state.user.unwrap().epoch >= epoch, "a session that was ended is alive");
    };
    thread::scope(|scope| {
        let (accounts, store, read) = (&accounts, &store, &read);
        let writing = Arc::new(()); // dropped when the writer has ended, also by a panic
        let written = Arc::downgrade(&writing);
        scope.spawn(move || {
            for round in 1..=ROUNDS as u64 {
                for account in accounts {
                    let change = UserChange { end_sessions: true, ..UserChange::default() };
                    load::block_on(store.update_user(account.id, None, change, account.token.expires_at_s)).unwrap();
                    account.epoch.store(round, Ordering::SeqCst);
                    read(account);
                    if round == ROUNDS as u64 {
                        assert!(load::block_on(store.blacklist(account.token)).unwrap());
                        account.logged_out.store(true, Ordering::SeqCst);
                        read(account);
                    }
                }
            }
            drop(writing);
        });
        for reader in 0..READERS {
            let written = written.clone();
            scope.spawn(move || {
                // Each account is read many times while it is changed, and others in between.
                while written.strong_count() > 0 {
                    accounts.iter().skip(reader).step_by(READERS).for_each(read);
                }
            });
        }
    });
    accounts.iter().for_each(read);
    store.close().unwrap();
}
