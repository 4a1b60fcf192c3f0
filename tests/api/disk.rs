//! A disk that fails while the server runs, and writes that share a commit.

use std::{path::Path, sync::Arc, time::Instant};

use futures_util::future::join_all;
use reqwest::Method;
use tempfile::TempDir;

use super::{
    harness::{ADMIN, Answer, PASSWORD, TestServer, add_user},
    metrics::{scrape, value},
};
use crate::{
    backup::done,
    cli::{run, text},
    hashes::BCRYPT,
    import,
};

async fn register(server: &TestServer, email: &str) -> Answer {
    server.post("/auth/register").may_fail().form(&[("email", email), ("password", PASSWORD)]).await
}

/// Repairs the disk, repeats a request until the server has reopened its database, and returns the response.
async fn mended(server: &TestServer, ask: impl AsyncFn() -> Answer) -> Answer {
    server.limit_files("unlimited");
    let mended = Instant::now();
    loop {
        let answer = ask().await;
        if answer.status != 503 {
            return answer;
        }
        assert!(mended.elapsed().as_secs() < 5, "{}", server.log().text());
    }
}

#[tokio::test]
async fn while_the_disk_takes_no_writes_tokens_and_logins_work_and_afterwards_everything_does() {
    let mut server = TestServer::start();
    let (live, dead) = (server.user("jo@example.com").await, server.log_in("jo@example.com").await);
    assert_eq!(server.post("/auth/logout").bearer(&dead).send().await.status, 200);

    for _ in 0..3 {
        server.limit_files("0");
        assert_eq!(register(&server, "new@example.com").await.status, 503);
        for _ in 0..20 {
            assert_eq!(server.status_of(&live).await, 200);
            assert_eq!(server.status_of(&dead).await, 401);
            let token = server.log_in("jo@example.com").await;
            assert_eq!(server.post("/auth/logout").bearer(&token).may_fail().send().await.status, 503);
            assert_eq!(server.status_of(&token).await, 200);
        }
        let token = server.log_in("jo@example.com").await;
        let log_out = async || server.post("/auth/logout").bearer(&token).may_fail().send().await;
        assert_eq!(mended(&server, log_out).await.status, 200);
        assert_eq!(server.status_of(&token).await, 401);
    }
    assert_eq!(register(&server, "new@example.com").await.status, 201);
    server.stop();
    server.start_again();
    server.log_in("new@example.com").await;
    assert_eq!(server.status_of(&live).await, 200);
    assert_eq!(server.status_of(&dead).await, 401);
}

#[tokio::test]
async fn a_disk_that_is_full_loses_nothing_that_was_acknowledged_and_a_repeated_request_is_safe() {
    let mut server = TestServer::start();
    server.user("first@example.com").await;
    let length = server.dir.path().join("data/latchkey.redb").metadata().unwrap().len();
    server.limit_files(&length.to_string());
    let email = |n: usize| format!("user-{n}@{}example", "long.".repeat(30));
    let mut registered = 0;
    while register(&server, &email(registered)).await.status == 201 {
        registered += 1;
        assert!(registered < 10_000, "the disk is never full");
    }
    let again = mended(&server, async || register(&server, &email(registered)).await).await;
    // The user may exist, because an error response means that the outcome is unknown.
    assert!([201, 409].contains(&again.status.as_u16()), "{}", again.text);
    server.signal("KILL");
    server.wait();
    server.start_again();
    for n in 0..=registered {
        server.log_in(&email(n)).await;
    }
}

/// The hash is one that the server replaces with a stronger one at the next login.
#[tokio::test]
async fn who_brings_a_foreign_hash_is_let_in_also_where_it_cannot_be_replaced() {
    let server = TestServer::start();
    let line = import::line("jo@example.com").to_string();
    done(&run(&["import"], &server.dir.path().join("data"), &line));
    server.limit_files("0");
    for _ in 0..3 {
        server.log_in("jo@example.com").await;
    }
    assert_eq!(mended(&server, async || register(&server, "new@example.com").await).await.status, 201);
    server.log_in("jo@example.com").await;
    let exported = run(&["export"], &server.dir.path().join("data"), "");
    assert!(!text(&exported.stdout).contains(BCRYPT), "and is replaced when it can be");
}

/// Deletes a widget with a damaged record, which fails after half of the transaction.
#[tokio::test]
async fn writes_share_a_commit_and_one_that_fails_leaves_nothing_and_takes_no_other_along() {
    let dir = Arc::new(TempDir::new().unwrap());
    let data = dir.path().join("data");
    add_user(&data, ADMIN, true);
    damaged_widget(&data.join("latchkey.redb"));
    let server = TestServer::on(dir, &["--metrics-listen", "127.0.0.1:0"]);
    let admin = server.admin().await;
    let attempts = (0..200).map(async |n| {
        if n % 10 == 0 {
            let deletion = server.request(Method::DELETE, "/widgets/damaged").bearer(&admin).may_fail();
            assert_eq!(deletion.send().await.status, 500);
        } else {
            let answer = register(&server, &format!("user-{n}@example.com")).await;
            assert_eq!(answer.status, 201, "{}", answer.text);
        }
    });
    join_all(attempts).await;
    for n in (0..200).filter(|n| n % 10 != 0) {
        server.log_in(&format!("user-{n}@example.com")).await;
    }

    let before = commits(&server).await;
    join_all((0..200).map(async |n| server.user(&format!("more-{n}@example.com")).await)).await;
    let after = commits(&server).await;
    let (writes, commits) = (after.0 - before.0, after.1 - before.1);
    assert!(writes >= 200.0 && commits < writes, "{writes} writes in {commits} commits");
}

/// Returns how many writes were made durable, and with how many commits.
async fn commits(server: &TestServer) -> (f64, f64) {
    let text = scrape(server).await;
    (value(&text, "commit_writes_sum"), value(&text, "commit_writes_count"))
}

fn damaged_widget(file: &Path) {
    let widgets: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("widgets_2");
    let database = redb::Database::open(file).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(widgets).unwrap().insert(b"damaged".as_slice(), [9_u8].as_slice()).unwrap();
    txn.commit().unwrap();
}
