//! `GET /token/revocations`: everything that is dead before its time is in the feed, until it has expired.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt as _, stream};
use latchkey::clock::ManualClock;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::{Answer, PASSWORD, TestServer, claims},
    services,
};
use crate::{backup::done, cli::run};

const NEW_PASSWORD: &str = "another horse battery";
/// How long a request waits in tests that expect it to end earlier. The test fails if it does not, because it waits for less.
pub(super) const WAIT: &str = "wait=60";

/// Makes a service, and returns its secret.
pub(super) async fn service(server: &TestServer) -> String {
    services::add(server, &server.admin().await).await.secret
}

/// What a service has learned from the feed.
#[derive(Default)]
pub(crate) struct Follower {
    pub(super) secret: String,
    pub(super) cursor: Option<String>,
    pub(crate) pages: usize,
    /// `jti` to `exp`.
    pub(crate) tokens: BTreeMap<String, u64>,
    /// `sub` to the last entry about it.
    pub(crate) users: BTreeMap<String, Value>,
}

impl Follower {
    pub(crate) fn new(secret: &str) -> Self {
        Self { secret: secret.to_owned(), ..Self::default() }
    }

    pub(super) async fn ask(&self, server: &TestServer, query: &str) -> Answer {
        let after = self.cursor.as_ref().map(|cursor| format!("after={cursor}&")).unwrap_or_default();
        server.get(&format!("/token/revocations?{after}{query}")).bearer(&self.secret).send().await
    }

    /// Learns an answer of the feed, and returns whether there is more.
    pub(super) fn learn(&mut self, answer: &Value) -> bool {
        for token in answer["tokens"].as_array().unwrap() {
            self.tokens.insert(token["jti"].as_str().unwrap().to_owned(), token["exp"].as_u64().unwrap());
        }
        for user in answer["users"].as_array().unwrap() {
            self.users.insert(user["sub"].as_str().unwrap().to_owned(), user.clone());
        }
        self.pages += 1;
        self.cursor = Some(answer["cursor"].as_str().unwrap().to_owned());
        answer["more"].as_bool().unwrap()
    }

    /// Reads on until there is no more.
    pub(crate) async fn follow(&mut self, server: &TestServer) {
        loop {
            let answer = self.ask(server, "").await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            if !self.learn(&answer.json()) {
                return;
            }
        }
    }

    /// Whether a service that verifies this token itself would refuse it.
    pub(crate) fn refuses(&self, token: &str) -> bool {
        let claims = claims(token);
        let is_old = |user: &Value| claims["epoch"].as_u64() < user["min_epoch"].as_u64();
        self.tokens.contains_key(claims["jti"].as_str().unwrap())
            || self.users.get(claims["sub"].as_str().unwrap()).is_some_and(is_old)
    }
}

pub(super) async fn log_out(server: &TestServer, token: &str) {
    assert_eq!(server.post("/auth/logout").bearer(token).send().await.status, 200);
}

#[tokio::test]
async fn a_logged_out_token_is_in_the_feed_until_it_expires() {
    let clock = Arc::new(ManualClock::at(1_800_000_000));
    let server = TestServer::at(Arc::clone(&clock), &["--with-admin"]).await;
    let secret = service(&server).await;
    let (live, dead) = (server.user("jo@example.com").await, server.log_in("jo@example.com").await);
    let mut early = Follower::new(&secret);
    early.follow(&server).await;
    assert!(!early.refuses(&dead));
    log_out(&server, &dead).await;
    let before = early.cursor.clone();
    early.follow(&server).await;
    assert!(early.refuses(&dead) && !early.refuses(&live));
    assert_eq!(early.tokens.values().collect::<Vec<_>>(), [&claims(&dead)["exp"].as_u64().unwrap()]);
    // Who asks again with the same cursor gets the same again, and who asks with the new one gets nothing.
    let (again, now) = (early.cursor.clone(), early.tokens.len());
    early.cursor = before;
    assert_eq!(early.ask(&server, "").await.json()["tokens"].as_array().unwrap().len(), now);
    early.cursor = again;
    assert_eq!(early.ask(&server, "").await.json()["tokens"], json!([]));
    for (seconds, is_there) in [(3599, true), (1, false)] {
        clock.advance(seconds);
        let mut late = Follower::new(&secret);
        late.follow(&server).await;
        assert_eq!(late.refuses(&dead), is_there, "{seconds} s later");
    }
}

#[tokio::test]
async fn whatever_ends_all_sessions_of_a_user_is_in_the_feed_and_so_are_rights() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let mut follower = Follower::new(&service(&server).await);
    let (server, admin) = (&server, admin.as_str());
    let change = async |token: &str, method: Method, rest: &str, change: Value| {
        let path = format!("/users/{}{rest}", claims(token)["sub"].as_str().unwrap());
        assert!(server.request(method, &path).bearer(admin).json(&change).await.status.is_success());
    };
    let token = server.user("jo@example.com").await;
    assert_eq!(server.post("/auth/logout-all").bearer(&token).send().await.status, 200);
    follower.follow(server).await;
    assert!(follower.refuses(&token), "logged out everywhere");

    let token = server.log_in("jo@example.com").await;
    assert!(!follower.refuses(&token), "a later login");
    let body = json!({ "current_password": PASSWORD, "new_password": NEW_PASSWORD });
    let new = server.post("/auth/password").bearer(&token).json(&body).await.token();
    follower.follow(server).await;
    assert!(follower.refuses(&token) && !follower.refuses(&new), "a new password");

    change(&new, Method::PATCH, "", json!({ "password": PASSWORD })).await;
    follower.follow(server).await;
    assert!(follower.refuses(&new), "a new password from an administrator");

    let token = server.log_in("jo@example.com").await;
    change(&token, Method::POST, "/end-sessions", json!({})).await;
    follower.follow(server).await;
    assert!(follower.refuses(&token), "sessions ended by an administrator");

    let token = server.log_in("jo@example.com").await;
    for admin in [true, false, true] {
        change(&token, Method::PATCH, "", json!({ "admin": admin })).await;
        follower.follow(server).await;
        let user = &follower.users[claims(&token)["sub"].as_str().unwrap()];
        assert_eq!(user["admin"], admin);
        assert!(!follower.refuses(&token), "its user is another kind of user, and it lives on");
    }

    change(&token, Method::PATCH, "", json!({ "disabled": true })).await;
    follower.follow(server).await;
    assert!(follower.refuses(&token), "disabled");

    let token = server.user("al@example.com").await;
    change(&token, Method::DELETE, "", json!({})).await;
    follower.follow(server).await;
    let user = &follower.users[claims(&token)["sub"].as_str().unwrap()];
    assert!(follower.refuses(&token) && user["admin"] == false, "deleted");
    assert!(user["exp"].as_u64() >= claims(&token)["exp"].as_u64(), "the entry stays as long as the token");

    let token = server.user("al@example.com").await;
    assert!(!follower.refuses(&token), "another account of this email");
}

#[tokio::test]
async fn a_large_feed_comes_in_pages_without_a_gap() {
    let server = TestServer::with_admin(&[]);
    let secret = service(&server).await;
    server.user("jo@example.com").await;
    let (server, logouts) = (&server, 1100);
    let dead: Vec<String> = stream::iter(0..logouts)
        .map(async |_| {
            let token = server.log_in("jo@example.com").await;
            log_out(server, &token).await;
            token
        })
        .buffer_unordered(40)
        .collect()
        .await;
    let mut follower = Follower::new(&secret);
    follower.follow(server).await;
    assert_eq!((follower.tokens.len(), follower.pages), (logouts, 2));
    assert!(dead.iter().all(|token| follower.refuses(token)));
}

#[tokio::test]
async fn a_cursor_outlives_a_restart_but_not_a_restore() {
    let mut server = TestServer::with_admin(&[]);
    let secret = service(&server).await;
    let (mut follower, backup) = (Follower::new(&secret), server.dir.path().join("backup"));
    let (first, second) = (server.user("jo@example.com").await, server.log_in("jo@example.com").await);
    log_out(&server, &first).await;
    follower.follow(&server).await;
    let data = server.dir.path().join("data");
    done(&run(&["backup", backup.to_str().unwrap()], &data, ""));
    log_out(&server, &second).await;
    server.stop();
    server.start_again();
    let mut learned = Follower { cursor: follower.cursor.clone(), ..Follower::new(&secret) };
    learned.follow(&server).await;
    assert!(learned.refuses(&second) && !learned.refuses(&first), "it goes on where it was");
    server.stop();
    done(&run(&["restore", backup.to_str().unwrap()], &data, ""));
    server.start_again();
    for cursor in [follower.cursor, learned.cursor] {
        let answer = Follower { cursor, ..Follower::new(&secret) }.ask(&server, WAIT).await;
        assert_eq!(answer.status, 410, "{}", answer.text);
    }
    let mut anew = Follower::new(&secret);
    anew.follow(&server).await;
    assert!(anew.refuses(&first));
    server.stop();
    done(&run(&["check"], &data, ""));
}

#[tokio::test]
async fn only_a_service_may_read_the_feed_and_its_parameters_have_bounds() {
    let server = TestServer::with_admin(&[]);
    let secret = service(&server).await;
    let user = server.user("jo@example.com").await;
    for stranger in [&user, &server.admin().await, "lks_guess"] {
        assert_eq!(server.get("/token/revocations?wait=61").bearer(stranger).send().await.status, 401);
    }
    assert_eq!(server.get("/token/revocations").send().await.status, 401);
    let follower = Follower::new(&secret);
    let end = follower.ask(&server, "").await.json()["cursor"].as_str().unwrap().to_owned();
    let changed = |at: usize, to: &str| format!("{}{to}{}", &end[..at], &end[at + to.len()..]);
    for (query, status, field) in [
        ("wait=0".to_owned(), 200, ""),
        ("wait=60".to_owned(), 200, ""), // it has no cursor, and waits for nothing
        ("wait=61".to_owned(), 400, "wait"),
        ("wait=-1".to_owned(), 400, "wait"),
        ("wait=soon".to_owned(), 400, "wait"),
        ("wait=1&wait=1".to_owned(), 400, "wait"),
        (format!("after={end}"), 200, ""),
        ("after=".to_owned(), 400, "after"),
        (format!("after={end}0"), 400, "after"),
        (format!("after={}", changed(0, "G")), 400, "after"),
        (format!("after={}", changed(39, "1")), 410, ""),
        (format!("after={}", changed(16, "ffffffffffffffff")), 410, ""),
        (format!("after={}", "0".repeat(40)), 410, ""),
    ] {
        let answer = follower.ask(&server, &query).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text);
        assert!(field.is_empty() || !answer.error(field).is_empty(), "{query}: {}", answer.text);
    }
}
