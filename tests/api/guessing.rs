//! The limits on guessing: by address, and by account and address together.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::{
    harness::{ADMIN, Answer, PASSWORD, TestServer, add_user, latchkey},
    login::cpu_ticks,
    metrics::{scrape, value},
};

const WRONG: &str = "not it at all";
const JO: &str = "jo@example.com";
/// The maximum time until an expected event before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends a login as a client behind a proxy that the server trusts.
async fn log_in(server: &TestServer, from: &str, email: &str, password: &str) -> Answer {
    let call = server.post("/auth/login").header("x-forwarded-for", from);
    call.form(&[("email", email), ("password", password)]).await
}

async fn statuses(server: &TestServer, from: &str, tries: &[(&str, &str)]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for (email, password) in tries {
        statuses.push(log_in(server, from, email, password).await.status.as_u16());
    }
    statuses
}

/// Repeats the request until it is not answered with 429, and returns that response.
async fn let_in(server: &TestServer, from: &str, email: &str, password: &str) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = log_in(server, from, email, password).await;
        if answer.status != StatusCode::TOO_MANY_REQUESTS {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "it was never let in again");
    }
}

fn behind_proxy(limits: &[&str]) -> TestServer {
    TestServer::with(&[&["--trusted-proxy", "127.0.0.1"], limits].concat())
}

#[tokio::test]
async fn who_logs_in_too_often_is_told_when_to_come_back_and_let_in_then() {
    let server = behind_proxy(&["--login-limit", "3/1h"]);
    server.user(JO).await;
    let tries = [(JO, PASSWORD), (JO, WRONG), ("al@example.com", WRONG), (JO, PASSWORD)];
    assert_eq!(statuses(&server, "192.0.2.1", &tries).await, [200, 401, 401, 429]);
    let refused = log_in(&server, "192.0.2.1", JO, PASSWORD).await;
    assert_eq!(refused.message(), "Too many tries. Please try again later.");
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1100..=1200).contains(&seconds), "three an hour is one in twenty minutes: {seconds}");
    assert_eq!(statuses(&server, "192.0.2.2", &tries[..1]).await, [200], "another address has its own count");
    assert_eq!(log_in(&server, "192.0.2.1", "no email", PASSWORD).await.status, 400, "what is no login is not counted");

    let server = behind_proxy(&["--login-limit", "2/1s"]);
    server.user(JO).await;
    while log_in(&server, "192.0.2.1", JO, PASSWORD).await.status != StatusCode::TOO_MANY_REQUESTS {}
    assert_eq!(let_in(&server, "192.0.2.1", JO, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn who_registers_too_often_is_turned_away_and_others_may_make_users() {
    let dir = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
    let data = dir.path().join("data");
    add_user(&data, ADMIN, true);
    let server = TestServer::on(dir, &["--register-limit", "2/1h"]);
    for (email, status) in
        [("a@example.com", 201), ("a@example.com", 409), ("a@example.com", 429), ("b@example.com", 429)]
    {
        let answer = server.post("/auth/register").form(&[("email", email), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, status, "{email}");
    }
    let admin = server.admin().await; // logins have a separate limit
    for email in ["c@example.com", "d@example.com", "e@example.com"] {
        let made = server.post("/users").bearer(&admin).json(&json!({ "email": email, "password": PASSWORD })).await;
        assert_eq!(made.status, 201);
        add_user(&data, &format!("operator-{email}"), false);
    }
}

#[tokio::test]
async fn an_ipv6_address_is_counted_by_its_first_64_bits() {
    let server = behind_proxy(&["--login-limit", "2/1h"]);
    for (from, status) in [
        ("2001:db8:0:1::1", 401),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", 401),
        ("2001:db8:0:1::2", 429),
        ("2001:db8:0:2::1", 401),
        ("::ffff:192.0.2.1", 401),
        ("192.0.2.1", 401),
        ("::ffff:192.0.2.1", 429),
        ("192.0.2.2", 401),
    ] {
        assert_eq!(log_in(&server, from, JO, WRONG).await.status, status, "{from}");
    }
}

#[tokio::test]
async fn the_wait_grows_with_each_wrong_password_up_to_a_most_and_ends_with_the_right_one() {
    let server = behind_proxy(&["--failure-limit", "2/15m"]);
    server.user(JO).await;
    let from = "192.0.2.1";
    for wait in ["1", "2"] {
        while log_in(&server, from, JO, WRONG).await.status != StatusCode::TOO_MANY_REQUESTS {}
        assert_eq!(log_in(&server, from, JO, PASSWORD).await.header("retry-after"), wait, "also with the right one");
        if wait == "1" {
            assert_eq!(let_in(&server, from, JO, WRONG).await.status, 401);
        }
    }
    assert_eq!(let_in(&server, from, "JO@example.com", PASSWORD).await.status, 200);
    let tries = [(JO, WRONG), ("Jo@Example.com", PASSWORD), (JO, WRONG), (JO, WRONG), ("JO@EXAMPLE.COM", WRONG)];
    assert_eq!(statuses(&server, from, &tries).await, [401, 200, 401, 401, 429]);

    let server = behind_proxy(&["--failure-limit", "1/1s"]);
    for _ in 0..3 {
        assert_eq!(let_in(&server, from, JO, WRONG).await.status, 401);
        assert_eq!(log_in(&server, from, JO, WRONG).await.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn a_stranger_cannot_keep_a_user_out() {
    let server = behind_proxy(&["--login-limit", "20/1h", "--failure-limit", "2/15m"]);
    server.user(JO).await;
    for n in 0..50 {
        let stranger = format!("192.0.2.{n}");
        assert_eq!(statuses(&server, &stranger, &[(JO, WRONG); 4]).await, [401, 401, 429, 429]);
    }
    assert_eq!(statuses(&server, "198.51.100.1", &[(JO, PASSWORD); 3]).await, [200; 3]);
}

#[tokio::test]
async fn a_guess_whose_client_hangs_up_is_no_guess_and_keeps_nobody_out() {
    // A hash takes long enough for the test to observe it and to close the connection.
    let metrics = ["--metrics-listen", "127.0.0.1:0"];
    let server = behind_proxy(&[&["--failure-limit", "1/15m", "--scrypt", "ln=15,r=8,p=5"], &metrics[..]].concat());
    server.user(JO).await;
    let body = format!("email={JO}&password=wrong");
    let mut stream = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap();
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\n";
    let kind = "Content-Type: application/x-www-form-urlencoded\r\n";
    let request = format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let asked = Instant::now();
    while value(&scrape(&server).await, "hashes_running") < 1.0 {
        assert!(asked.elapsed() < PATIENCE, "it is not hashed");
    }
    drop(stream);
    assert_eq!(statuses(&server, "192.0.2.1", &[(JO, PASSWORD)]).await, [200]);
}

#[tokio::test]
async fn a_limit_does_not_tell_who_has_an_account() {
    let server = behind_proxy(&["--failure-limit", "2/15m"]);
    server.user(JO).await;
    let mut seen = Vec::new();
    for email in [JO, "al@example.com"] {
        let mut answers = Vec::new();
        for _ in 0..3 {
            let Answer { status, mut headers, text } = log_in(&server, "192.0.2.1", email, WRONG).await;
            headers.remove("x-request-id");
            headers.remove("date");
            answers.push((status.as_u16(), headers, text));
        }
        assert_eq!(answers[2].0, 429);
        seen.push(answers);
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn changing_the_password_and_deleting_the_account_are_guesses_like_a_login() {
    let server = behind_proxy(&["--failure-limit", "3/15m"]);
    let token = server.user(JO).await;
    let from = |from: &str, method: Method, path: &str| {
        server.request(method, path).bearer(&token).header("x-forwarded-for", from)
    };
    let change = |current: &str| json!({ "current_password": current, "new_password": "another good password" });
    let delete = json!({ "password": WRONG });
    for _ in 0..2 {
        assert_eq!(from("192.0.2.1", Method::POST, "/auth/password").json(&change(WRONG)).await.status, 400);
    }
    assert_eq!(from("192.0.2.1", Method::DELETE, "/auth/user").json(&delete).await.status, 400);
    assert_eq!(from("192.0.2.1", Method::DELETE, "/auth/user").json(&delete).await.status, 429);
    assert_eq!(from("192.0.2.1", Method::POST, "/auth/password").json(&change(PASSWORD)).await.status, 429);
    assert_eq!(log_in(&server, "192.0.2.1", JO, PASSWORD).await.status, 429);
    assert_eq!(from("192.0.2.2", Method::POST, "/auth/password").json(&change(PASSWORD)).await.status, 200);

    let server = TestServer::with(&["--login-limit", "1/1h"]);
    let token = server.user(JO).await;
    server.log_in(JO).await;
    assert_eq!(server.post("/auth/password").bearer(&token).json(&change(PASSWORD)).await.status, 429);
    assert_eq!(server.request(Method::DELETE, "/auth/user").bearer(&token).json(&delete).await.status, 429);
    assert_eq!(server.status_of(&token).await, 200, "nothing else is limited");
}

#[tokio::test]
async fn who_is_turned_away_costs_no_hash_and_is_counted() {
    let limits = ["--login-limit", "12/1h", "--register-limit", "1/1h", "--failure-limit", "1/15m"];
    let server =
        TestServer::with(&[&limits[..], &["--scrypt", "ln=15,r=8,p=4", "--metrics-listen", "127.0.0.1:0"]].concat());
    server.user(JO).await;
    let before = cpu_ticks(&server);
    server.post("/auth/login").form(&[("email", JO), ("password", WRONG)]).await;
    let hash = cpu_ticks(&server) - before;
    let before = cpu_ticks(&server);
    // The first few logins are refused for the account, and later ones for the address. All of them take less time than the wait.
    for n in 0..40 {
        server.post("/auth/login").form(&[("email", JO), ("password", WRONG)]).await;
        let email = format!("{n}@example.com");
        server.post("/auth/register").form(&[("email", &email), ("password", PASSWORD)]).await;
    }
    let refused = cpu_ticks(&server) - before;
    assert!(refused < 4 * hash, "80 refusals {refused}, a hash {hash}");
    let text = scrape(&server).await;
    let (address, account) =
        (value(&text, r#"throttled_total{by="address"}"#), value(&text, r#"throttled_total{by="account"}"#));
    assert!(address >= 69.0 && account >= 8.0 && (address + account - 80.0).abs() <= 2.0, "{address} {account}");
}

#[test]
fn a_limit_or_a_proxy_that_cannot_be_read_stops_the_start() {
    for (flag, value) in [
        ("--login-limit", "0/1m"),
        ("--login-limit", "60"),
        ("--login-limit", "none"),
        ("--register-limit", "60/1ms"),
        ("--failure-limit", "5/25h"),
        ("--trusted-proxy", "proxy.example.com"),
        ("--trusted-proxy", "10.0.0.0/33"),
        ("--trusted-proxy", "::ffff:10.0.0.0/104"),
    ] {
        let output = latchkey().args(["config", flag, value]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{flag} {value}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(flag), "{flag} {value}");
    }
}

/// Returns the resident memory of the process in KiB.
fn resident_kib(server: &TestServer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends a login with a wrong password for each of `owners`. Each has its own account and address. 100 logins at once are sent on one
/// connection.
async fn flood(server: &TestServer, owners: std::ops::Range<u32>) {
    let stream = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap();
    let (from, mut to) = stream.into_split();
    let mut from = BufReader::new(from);
    let owners: Vec<u32> = owners.collect();
    for some in owners.chunks(100) {
        let mut text = String::new();
        for n in some {
            let body = format!("email=someone-{n}@example.com&password=wrong-{n}");
            write!(
                text,
                "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {}\r\nContent-Length: {}\r\n\
                 Content-Type: application/x-www-form-urlencoded\r\n\r\n{body}",
                std::net::Ipv4Addr::from(0x0b00_0000 + n),
                body.len()
            )
            .unwrap();
        }
        to.write_all(text.as_bytes()).await.unwrap();
        for _ in some {
            let (mut line, mut length) = (String::new(), 0);
            from.read_line(&mut line).await.unwrap();
            assert!(line.starts_with("HTTP/1.1 401 "), "{line}");
            while line != "\r\n" {
                line.clear();
                from.read_line(&mut line).await.unwrap();
                length = line.strip_prefix("content-length: ").map_or(length, |text| text.trim().parse().unwrap());
            }
            from.read_exact(&mut vec![0; length]).await.unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "long: 100,000 logins"]
async fn a_hundred_thousand_guessers_take_no_more_memory_than_a_few() {
    let limits = ["--login-limit", "60/1m", "--failure-limit", "5/15m", "--log", "off"];
    let server = behind_proxy(&limits);
    flood(&server, 0..5_000).await;
    let before = resident_kib(&server);
    flood(&server, 5_000..105_000).await;
    let after = resident_kib(&server);
    println!("{before} KiB before, {after} KiB after");
    assert!(after < before + 2048, "{before} KiB before, {after} KiB after");
}
