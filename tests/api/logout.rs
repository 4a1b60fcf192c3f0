//! `POST /auth/logout`: the token is invalid from the moment the response is sent.

use std::{sync::Arc, time::Duration};

use latchkey::clock::ManualClock;
use reqwest::Method;

use tempfile::TempDir;

use super::harness::TestServer;

const EXPIRED: &str = "Access token expired. Please log in again.";
const BLACKLISTED: &str = "Token blacklisted. Please log in again.";

#[tokio::test]
async fn a_logged_out_token_is_dead_on_every_protected_path_and_others_of_the_user_live_on() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let other = server.log_in("jo@example.com").await;
    let answer = server.post("/auth/logout").bearer(&token).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json(), serde_json::json!({ "status": "success", "message": "successfully logged out" }));

    for (method, path, realm) in [
        (Method::GET, "/auth/user", "registered_users"),
        (Method::POST, "/auth/logout", "registered_users"),
        (Method::GET, "/widgets", "registered_users"),
        (Method::GET, "/widgets/x", "registered_users"),
        (Method::POST, "/widgets", "admin_users"),
        (Method::PUT, "/widgets/x", "admin_users"),
        (Method::DELETE, "/widgets/x", "admin_users"),
    ] {
        let answer = server.request(method, path).bearer(&token).send().await;
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (401, BLACKLISTED), "{path}");
        let challenge =
            format!(r#"Bearer realm="{realm}@mydomain.com", error="invalid_token", error_description="{BLACKLISTED}""#);
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    assert_eq!(server.status_of(&other).await, 200);
}

#[tokio::test]
async fn a_logged_out_token_never_comes_back_after_a_restart_or_kill_9() {
    let mut server = TestServer::start();
    let (first, second) = (server.user("jo@example.com").await, server.log_in("jo@example.com").await);
    let survivor = server.log_in("jo@example.com").await;
    assert_eq!(server.post("/auth/logout").bearer(&first).send().await.status, 200);
    server.stop();
    server.start_again();
    assert_eq!(server.get("/auth/user").bearer(&first).send().await.message(), BLACKLISTED);

    assert_eq!(server.post("/auth/logout").bearer(&second).send().await.status, 200);
    server.signal("KILL");
    server.wait();
    server.start_again();
    for dead in [&first, &second] {
        assert_eq!(server.get("/auth/user").bearer(dead).send().await.message(), BLACKLISTED);
    }
    assert_eq!(server.status_of(&survivor).await, 200, "the signing key is kept");
}

#[tokio::test]
async fn of_many_logouts_of_one_token_at_once_exactly_one_succeeds() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let calls = (0..16).map(|_| async { server.post("/auth/logout").bearer(&token).send().await });
    let answers = futures_util::future::join_all(calls).await;
    let (done, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(done.len(), 1);
    assert!(refused.iter().all(|answer| answer.status == 401 && answer.message() == BLACKLISTED));
}

/// Waits until the entry of `token`, which expired within the last day, was purged. If the clock is then set back, the message is "expired"
/// and no longer "blacklisted". The request in between gives the purge time to run while the clock is ahead.
async fn wait_for_the_purge(server: &TestServer, clock: &ManualClock, token: &str) {
    let purged = async {
        loop {
            assert_eq!(server.get("/auth/user").bearer(token).send().await.message(), EXPIRED);
            clock.advance(-86_400);
            let message = server.get("/auth/user").bearer(token).send().await.message();
            clock.advance(86_400);
            if message == EXPIRED {
                break;
            }
            assert_eq!(message, BLACKLISTED);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), purged).await.expect("the entry was never purged");
}

#[tokio::test]
async fn the_blacklist_is_purged_of_expired_tokens_and_its_file_does_not_grow_without_end() {
    let clock = Arc::new(ManualClock::at(1_800_000_000));
    let server = TestServer::at(Arc::clone(&clock), &["--purge-interval", "10ms"]).await;
    server.user("jo@example.com").await;
    let file = server.dir.path().join("data/latchkey.redb");
    let mut sizes = Vec::new();
    for _ in 0..8 {
        let sessions = (0..100).map(|_| async {
            let token = server.log_in("jo@example.com").await;
            assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200);
            token
        });
        let tokens = futures_util::future::join_all(sessions).await;
        clock.advance(86_400);
        wait_for_the_purge(&server, &clock, &tokens[0]).await;
        sizes.push(std::fs::metadata(&file).unwrap().len());
    }
    // Each round writes some megabytes of pages. They are used again, so that the size of the file varies but does not grow.
    assert!(sizes.iter().all(|size| *size < 4 * sizes[0]), "{sizes:?}");
}

#[tokio::test]
async fn a_background_task_purges_what_has_expired() {
    let server = TestServer::with(&["--token-lifetime", "1s", "--purge-interval", "20ms"]);
    let token = server.user("jo@example.com").await;
    assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200);
    server.log().wait_for("purged expired entries from the blacklist entries=1");
    assert_eq!(server.status_of(&token).await, 401);
}

#[tokio::test]
async fn a_clock_that_is_set_back_revives_no_token_whose_entry_was_purged() {
    let clock = Arc::new(ManualClock::at(1_800_000_000));
    let dir = Arc::new(TempDir::new().unwrap());
    let start = || TestServer::at_on(Arc::clone(&dir), Arc::clone(&clock), &["--purge-interval", "10ms"]);
    let server = start().await;
    let token = server.user("jo@example.com").await;
    assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200);
    clock.advance(86_400);
    wait_for_the_purge(&server, &clock, &token).await;
    clock.advance(-86_400 - 60);
    assert_eq!(server.get("/auth/user").bearer(&token).send().await.message(), EXPIRED);
    // A token of a new login is valid.
    assert_eq!(server.status_of(&server.log_in("jo@example.com").await).await, 200);

    server.end().await;
    let server = start().await;
    assert_eq!(server.get("/auth/user").bearer(&token).send().await.message(), EXPIRED);
    assert_eq!(server.status_of(&server.log_in("jo@example.com").await).await, 200);
}

/// The clock is set back: to 1970 or before, by a day, and by a token lifetime.
#[tokio::test]
async fn no_jump_of_the_clock_revives_a_logged_out_token_with_its_entry_or_without() {
    const NOW: i64 = 1_800_000_000;
    const DAY: i64 = 86_400;
    const IN_1969: i64 = -1;
    const IN_2100: i64 = 4_102_444_800;
    let clock = Arc::new(ManualClock::at(NOW));
    let server = TestServer::at(Arc::clone(&clock), &["--purge-interval", "10ms"]).await;
    let mut at = NOW;
    let mut set = |to: i64| {
        clock.advance(to - at);
        at = to;
    };
    let dead = server.user("jo@example.com").await;
    let alive = server.log_in("jo@example.com").await;
    assert_eq!(server.post("/auth/logout").bearer(&dead).send().await.status, 200);
    for (to, lives) in [(NOW - DAY, 200), (IN_1969, 200), (NOW, 200), (NOW + 3599, 200), (NOW + 3600, 401)] {
        set(to);
        assert_eq!(server.status_of(&dead).await, 401, "{to}");
        assert_eq!(server.status_of(&alive).await, lives, "{to}");
    }
    set(NOW + DAY);
    wait_for_the_purge(&server, &clock, &dead).await;
    for to in [IN_2100, NOW - DAY, IN_1969, NOW, NOW + 3599, NOW + DAY, IN_2100, NOW] {
        set(to);
        for token in [&dead, &alive] {
            assert_eq!(server.status_of(token).await, 401, "{to}");
        }
    }
    // At each time a token of a new login is valid, and it can be logged out.
    for to in [NOW + 2 * DAY, IN_2100] {
        set(to);
        let token = server.log_in("jo@example.com").await;
        assert_eq!(server.status_of(&token).await, 200, "{to}");
        assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200, "{to}");
        assert_eq!(server.status_of(&token).await, 401, "{to}");
    }
}
