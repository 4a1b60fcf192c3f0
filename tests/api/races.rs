//! Concurrent requests have the same results as sequential ones.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::harness::{ADMIN, Answer, PASSWORD, TestServer, claims};

/// Counts the responses by status.
fn tally(answers: &[Answer]) -> BTreeMap<u16, usize> {
    let mut tally = BTreeMap::new();
    for answer in answers {
        *tally.entry(answer.status.as_u16()).or_default() += 1;
    }
    tally
}

async fn at_once(server: &TestServer, path: &str, tries: &[(&str, &str)]) -> Vec<Answer> {
    join_all(
        tries
            .iter()
            .map(async |(email, password)| server.post(path).form(&[("email", email), ("password", password)]).await),
    )
    .await
}

#[tokio::test]
async fn of_200_registrations_of_one_email_at_once_exactly_one_wins() {
    let tries = [("jo@example.com", PASSWORD), ("JO@example.com", PASSWORD)].repeat(100);
    let server = TestServer::start();
    assert_eq!(tally(&at_once(&server, "/auth/register", &tries).await), [(201, 1), (409, 199)].into());
    let server = TestServer::with(&["--register-limit", "50/24h"]);
    assert_eq!(tally(&at_once(&server, "/auth/register", &tries).await), [(201, 1), (409, 49), (429, 150)].into());
}

#[tokio::test]
async fn logins_at_once_are_limited_like_logins_one_after_the_other() {
    let server = TestServer::with(&["--login-limit", "70/24h"]);
    server.user("jo@example.com").await;
    let tries = [("jo@example.com", PASSWORD)].repeat(200);
    assert_eq!(tally(&at_once(&server, "/auth/login", &tries).await), [(200, 70), (429, 130)].into());
}

#[tokio::test]
async fn guesses_at_once_get_no_more_tries_than_one_after_the_other() {
    let server = TestServer::with(&["--failure-limit", "5/15m"]);
    server.user("jo@example.com").await;
    for email in ["jo@example.com", "nobody@example.com"] {
        let tries = [(email, "not it at all")].repeat(200);
        assert_eq!(tally(&at_once(&server, "/auth/login", &tries).await), [(401, 5), (429, 195)].into(), "{email}");
    }
}

#[tokio::test]
async fn right_passwords_at_once_all_log_in() {
    let server = TestServer::with(&["--failure-limit", "2/15m"]);
    server.user("jo@example.com").await;
    let tries = [("jo@example.com", PASSWORD)].repeat(100);
    assert_eq!(tally(&at_once(&server, "/auth/login", &tries).await), [(200, 100)].into());
}

/// Returns the enabled administrators.
async fn administrators(server: &TestServer) -> Vec<String> {
    let mut acting = Vec::new();
    for email in [ADMIN, "other@example.com"] {
        let login = server.post("/auth/login").form(&[("email", email), ("password", PASSWORD)]).await;
        if login.status == 200 && server.get("/users").bearer(&login.token()).send().await.status == 200 {
            acting.push(email.to_owned());
        }
    }
    acting
}

#[tokio::test]
async fn however_the_last_two_administrators_turn_on_each_other_at_once_exactly_one_stays() {
    for round in 0..12 {
        let server = TestServer::with_admin(&[]);
        let first = server.admin().await;
        let new = json!({ "email": "other@example.com", "password": PASSWORD, "admin": true });
        assert_eq!(server.post("/users").bearer(&first).json(&new).await.status, 201);
        let second = server.log_in("other@example.com").await;
        let of = |token: &str| format!("/users/{}", claims(token)["sub"].as_str().unwrap());
        let change = |by: &str, whom: &str, body: Value| {
            let call = server.request(Method::PATCH, &of(whom)).bearer(by);
            call.body("application/json", body.to_string()).send()
        };
        let delete = |by: &str, whom: &str| server.request(Method::DELETE, &of(whom)).bearer(by).send();
        let mut calls: Vec<std::pin::Pin<Box<dyn Future<Output = Answer>>>> = Vec::new();
        for (by, whom) in [(&first, &second), (&second, &first), (&first, &first), (&second, &second)] {
            calls.push(Box::pin(change(by, whom, json!({ "admin": false }))));
            calls.push(Box::pin(change(by, whom, json!({ "disabled": true }))));
            calls.push(Box::pin(delete(by, whom)));
        }
        calls.rotate_left(round);
        let answers = join_all(calls).await;
        // A request that lost the race finds that the caller or the target is not an administrator, is disabled or is deleted. The last
        // administrator cannot be removed.
        let known = [200, 204, 401, 403, 404, 409];
        assert!(answers.iter().all(|answer| known.contains(&answer.status.as_u16())), "{:?}", tally(&answers));
        assert!(answers.iter().any(|answer| answer.status.is_success()));
        assert_eq!(administrators(&server).await.len(), 1, "round {round}: {:?}", tally(&answers));
    }
}

#[tokio::test]
async fn promotions_and_demotions_at_once_leave_somebody_in_charge() {
    let server = TestServer::with_admin(&[]);
    let first = server.admin().await;
    let new = json!({ "email": "other@example.com", "password": PASSWORD, "admin": true });
    assert_eq!(server.post("/users").bearer(&first).json(&new).await.status, 201);
    let second = server.log_in("other@example.com").await;
    for _ in 0..20 {
        let tokens = [&first, &second];
        let calls = tokens.into_iter().flat_map(|by| tokens.map(|whom| (by, whom))).flat_map(|(by, whom)| {
            let path = format!("/users/{}", claims(whom)["sub"].as_str().unwrap());
            [false, true].map(|admin| {
                let call = server.request(Method::PATCH, &path).bearer(by);
                call.body("application/json", json!({ "admin": admin }).to_string()).send()
            })
        });
        let answers = join_all(calls).await;
        let known = [StatusCode::OK, StatusCode::FORBIDDEN, StatusCode::CONFLICT];
        assert!(answers.iter().all(|answer| known.contains(&answer.status)), "{:?}", tally(&answers));
        assert!(!administrators(&server).await.is_empty(), "{:?}", tally(&answers));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_seen_at_once_however_many_read_meanwhile() {
    let server = TestServer::start();
    let token = server.user("reader@example.com").await;
    let done = AtomicBool::new(false);
    let read = async || {
        while !done.load(Ordering::Relaxed) {
            assert_eq!(server.status_of(&token).await, 200);
        }
    };
    let write = async {
        for n in 0..60 {
            let token = server.user(&format!("user-{n}@example.com")).await;
            assert_eq!(server.status_of(&token).await, 200, "user {n}");
            assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200);
            assert_eq!(server.status_of(&token).await, 401, "user {n}");
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(write, join_all((0..8).map(|_| read())));
}
