//! The revocation feed over its purge: who continues at a place misses nothing, and what has expired goes from the file.

use std::path::Path;

use latchkey::{
    model::{BlacklistedToken, TokenId},
    store::{self, RevocationCursor, RevocationPage, Store},
};
use redb::{ReadableDatabase as _, ReadableTableMetadata as _, TableDefinition};

use super::{
    device::Disk,
    load::{CACHE_BYTES, block_on},
};
use crate::api::harness::TestServer;

const FEED: TableDefinition<&[u8], &[u8]> = TableDefinition::new("revocations_1");
const FEED_BY_EXPIRY: TableDefinition<&[u8], &[u8]> = TableDefinition::new("revocations_by_expiry_1");

fn revoke(store: &Store, expires_at_s: u64) -> BlacklistedToken {
    let token = BlacklistedToken { expires_at_s, token_id: TokenId::new() };
    assert!(block_on(store.blacklist(token)).unwrap());
    token
}

/// Returns all entries after `after` in one page, also of what has expired.
fn page(store: &Store, after: Option<RevocationCursor>) -> RevocationPage {
    block_on(store.revocation_page(after, 0, 1000)).unwrap().unwrap()
}

fn purge(store: &Store, now_s: u64) {
    assert!(!block_on(store.purge_revocations(now_s, 100)).unwrap(), "there is more than there should be");
}

#[test]
fn a_purge_leaves_what_is_alive_and_its_numbers_are_never_given_again() {
    let disk = Disk::default();
    Store::create_on(disk.clone(), CACHE_BYTES).unwrap();
    let mut store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
    // The last row goes first, then the only one.
    for (first_expires_at_s, last_expires_at_s, now_s) in [(1000, 100, 100), (300, 200, 300)] {
        let first = revoke(&store, first_expires_at_s);
        revoke(&store, last_expires_at_s);
        let end = page(&store, None).next;
        purge(&store, now_s - 1);
        assert!(page(&store, None).tokens.len() >= 2);
        purge(&store, now_s);
        let left = page(&store, None).tokens;
        assert_eq!(left.contains(&first), first_expires_at_s > now_s);
        assert!(!left.iter().any(|token| token.expires_at_s <= now_s));
        store.close().unwrap();
        store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
        assert!(page(&store, Some(end)).tokens.is_empty());
        let next = revoke(&store, 1000);
        assert_eq!(page(&store, Some(end)).tokens, [next], "who had read to the end misses a logout");
    }
    purge(&store, 1000);
    let end = page(&store, None);
    assert!(end.is_last_and_empty());
    let next = revoke(&store, 2000);
    assert_eq!(page(&store, Some(end.next)).tokens, [next]);
    assert_eq!(page(&store, None).tokens, [next]);
    store.close().unwrap();
    store::check_on(disk, Path::new("the file"), |_| Ok(()), &mut |_, _| ()).unwrap();
}

#[test]
fn a_page_may_end_within_a_commit() {
    let disk = Disk::default();
    Store::create_on(disk.clone(), CACHE_BYTES).unwrap();
    let store = Store::open_on(disk.place(), CACHE_BYTES).unwrap();
    let token = |n: u64| BlacklistedToken { expires_at_s: 1000 + n % 2, token_id: TokenId::new() };
    let tokens: Vec<_> = (0..100).map(token).collect();
    // The writes that wait together share commits.
    let writes = futures_util::future::join_all(tokens.iter().map(|token| store.blacklist(*token)));
    assert!(block_on(writes).into_iter().all(Result::unwrap));
    for (now_s, limit) in [(0, 1), (0, 7), (1000, 1), (1000, 7)] {
        let (mut read, mut after, mut more) = (Vec::new(), None, true);
        while more {
            let page = block_on(store.revocation_page(after, now_s, limit)).unwrap().unwrap();
            assert!(page.tokens.len() <= limit);
            read.extend(page.tokens);
            (after, more) = (Some(page.next), page.more);
        }
        let expected: Vec<_> = tokens.iter().filter(|token| token.expires_at_s > now_s).copied().collect();
        assert_eq!(read, expected, "{now_s} {limit}");
    }
    store.close().unwrap();
}

#[tokio::test]
async fn the_server_purges_the_feed() {
    let mut server = TestServer::with(&["--token-lifetime", "1s", "--purge-interval", "50ms"]);
    let token = server.user("jo@example.com").await;
    assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200);
    server.log().wait_for("purged expired entries");
    server.stop();
    let file = redb::Database::open(server.dir.path().join("data/latchkey.redb")).unwrap();
    let txn = file.begin_read().unwrap();
    assert_eq!(txn.open_table(FEED).unwrap().len().unwrap(), 0);
    assert_eq!(txn.open_table(FEED_BY_EXPIRY).unwrap().len().unwrap(), 0);
}
