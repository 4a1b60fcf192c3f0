//! The content of the log: one line for each request, and the audit stream.

use std::process::Command;

use regex::Regex;
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::harness::{ADMIN, PASSWORD, TestServer, latchkey};

fn lines(server: &TestServer, part: &str) -> Vec<String> {
    server.log().text().lines().filter(|line| line.contains(part)).map(str::to_owned).collect()
}

fn only_line(server: &TestServer, part: &str) -> String {
    server.log().wait_for(part);
    let lines = lines(server, part);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.into_iter().next().unwrap()
}

#[tokio::test]
async fn each_request_is_one_line_with_its_template_and_not_the_names_in_its_path() {
    let server = TestServer::with(&["--log", "info,audit=off"]);
    for (path, id, route, status) in [
        ("/widgets/a-secret-name?q=a-secret-name", "one", "/api/v1/widgets/{name}", 401),
        ("/auth/user", "two", "/api/v1/auth/user", 401),
        ("//", "three", "/", 200),
        ("//healthz", "four", "/healthz", 200),
        ("/ui", "five", "/api/v1/ui", 200),
        ("//no/such/page?q=a-secret-name", "six", "/no/such/page", 404),
    ] {
        server.get(path).header("x-request-id", id).send().await;
        let line = only_line(&server, &format!("id=\"{id}\""));
        let shape = format!(
            r#"^\S+Z  INFO \S+: answered id="{id}" method=GET route="{}" client=127\.0\.0\.1 status={status} duration_us=\d+$"#,
            regex::escape(route)
        );
        assert!(Regex::new(&shape).unwrap().is_match(&line), "{line}");
    }
    assert!(!server.log().text().contains("a-secret-name"));
    server.get(&format!("//{}", "long".repeat(1000))).header("x-request-id", "seven").send().await;
    assert!(only_line(&server, "id=\"seven\"").len() < 500);
}

#[tokio::test]
async fn the_start_warns_where_a_hash_costs_less_than_the_least_of_owasps_choices_and_nowhere_else() {
    for (cost, is_warned_of) in [
        ("ln=13,r=8,p=10", false),
        ("ln=14,r=8,p=5", false),
        ("ln=17,r=8,p=1", false),
        ("ln=13,r=8,p=9", true),
        ("ln=16,r=8,p=1", true),
        ("ln=18,r=1,p=1", true),
    ] {
        let server = TestServer::with(&["--scrypt", cost]);
        server.get("/auth/user").header("x-request-id", "one").send().await;
        server.log().wait_for("id=\"one\"");
        let warnings = lines(&server, &format!("password hashes are cheap to guess; this is for tests cost={cost}"));
        assert_eq!(warnings.len(), usize::from(is_warned_of), "{cost}: {}", server.log().text());
    }
}

/// Returns the fields of the lines of the audit stream.
fn audit(server: &TestServer) -> Vec<Value> {
    let lines = lines(server, r#""target":"audit""#);
    lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].clone()).collect()
}

#[tokio::test]
async fn the_audit_stream_tells_who_registered_logged_in_failed_to_and_logged_out() {
    let server = TestServer::with(&["--log-format", "json"]);
    let token = server.user("Jo@example.com").await;
    let id = server.get("/auth/user").bearer(&token).send().await.json()["public_id"].clone();
    let other = server.log_in("jo@example.com").await;
    for email in ["jo@example.com", "nobody@example.com"] {
        server.post("/auth/login").form(&[("email", email), ("password", "not it at all")]).await;
    }
    server.post("/auth/register").form(&[("email", "jo@example.com"), ("password", PASSWORD)]).await;
    server.post("/auth/login").form(&[("email", "no email"), ("password", PASSWORD)]).await;
    server.post("/auth/logout").bearer(&other).send().await;
    server.post("/auth/logout").bearer(&other).send().await;
    server.get("/auth/user").header("x-request-id", "the-last-one").send().await;
    server.log().wait_for("the-last-one");
    let client = "127.0.0.1";
    let expected = [
        json!({ "event": "register", "email": "Jo@example.com", "user": id, "client": client }),
        json!({ "event": "login", "email": "jo@example.com", "user": id, "client": client }),
        json!({ "event": "login_failed", "email": "jo@example.com", "client": client }),
        json!({ "event": "login_failed", "email": "nobody@example.com", "client": client }),
        json!({ "event": "logout", "email": "Jo@example.com", "user": id, "client": client }),
    ];
    assert_eq!(audit(&server), expected);
    assert!(!server.log().text().contains("not it at all"));
}

#[tokio::test]
async fn the_audit_stream_tells_what_was_done_to_whom_and_by_whom() {
    let server = TestServer::with_admin(&["--log-format", "json"]);
    let admin = server.admin().await;
    let fields = json!({ "email": "jo@example.com", "password": PASSWORD });
    let made = server.post("/users").bearer(&admin).json(&fields).await;
    let id = made.json()["public_id"].as_str().unwrap().to_owned();
    let path = format!("/users/{id}");
    server.request(Method::PATCH, &path).bearer(&admin).json(&json!({ "admin": true })).await;
    server.post(&format!("{path}/end-sessions")).bearer(&admin).send().await;
    let data = server.dir.path().join("data");
    let done = latchkey().args(["user", "disable", "jo@example.com", "--data-dir"]).arg(&data).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    server.request(Method::DELETE, &path).bearer(&admin).send().await;
    let sam = server.user("sam@example.com").await;
    let change = [("current_password", PASSWORD), ("new_password", "another battery")];
    let sam = server.post("/auth/password").bearer(&sam).form(&change).await.token();
    server.post("/auth/logout-all").bearer(&sam).send().await;
    let sam = server.post("/auth/login").form(&[("email", "sam@example.com"), ("password", "another battery")]).await;
    server.request(Method::DELETE, "/auth/user").bearer(&sam.token()).form(&[("password", "another battery")]).await;
    server.get("/auth/user").header("x-request-id", "the-last-one").send().await;
    server.log().wait_for("the-last-one");
    let told: Vec<String> = audit(&server)
        .iter()
        .map(|act| {
            let part = |name: &str| act[name].to_string().replace('"', "");
            assert_eq!(act["user"] == id, act["email"] == "jo@example.com", "{act}");
            ["event", "email", "by", "client", "admin", "disabled"].map(part).join(" ").replace(" null", "")
        })
        .collect();
    assert_eq!(
        told,
        [
            "login admin@example.com 127.0.0.1",
            "user_created jo@example.com admin@example.com 127.0.0.1 false false",
            "user_changed jo@example.com admin@example.com 127.0.0.1 true false",
            "sessions_ended jo@example.com admin@example.com 127.0.0.1 true false",
            "user_changed jo@example.com operator local true true",
            "user_deleted jo@example.com admin@example.com 127.0.0.1 true true",
            "register sam@example.com 127.0.0.1",
            "password_changed sam@example.com 127.0.0.1",
            "logout_all sam@example.com 127.0.0.1",
            "login sam@example.com 127.0.0.1",
            "account_deleted sam@example.com 127.0.0.1",
        ]
    );
}

#[tokio::test]
async fn no_email_makes_a_line_of_its_own_or_looks_like_another_field() {
    let server = TestServer::start();
    let hostile = [
        "a\nb@example.com",
        "a\u{1b}[2J@example.com",
        "a client=192.0.2.1@example.com",
        "\u{202e}moc.elpmaxe@example.com",
        "a\u{85}b\u{2028}c@example.com",
        "client=192.0.2.1@example.com",
        "a'b\\c@example.com",
        "é@example.com",
        "a\u{202e}b@example.com",
        "o'neil@example.com",
        "a@\u{202e}moc.example.com",
        "a\u{200b}b@exa\u{2066}mple.com",
    ];
    for email in hostile {
        for path in ["/auth/register", "/auth/login"] {
            server.post(path).json(&json!({ "email": email, "password": "wrong, wrong" })).await;
            server.post(path).json(&json!({ "email": email, "password": "right, right" })).await;
        }
    }
    server.get("/auth/user").header("x-request-id", "the-last-one").send().await;
    server.log().wait_for("the-last-one");
    let log = server.log().text();
    let plain = |c: char| c == '\n' || !c.is_control() && !"\u{202e}\u{2028}".contains(c);
    assert!(log.chars().all(plain), "{log:?}");
    let fields = r": audit: event=\w+ email=\S+( user=[0-9a-f-]{36})? client=127\.0\.0\.1$";
    let fields = Regex::new(fields).unwrap();
    let acts = lines(&server, ": audit: ");
    assert!(acts.len() >= 4, "{log}");
    assert!(acts.iter().all(|line| fields.is_match(line)), "{acts:#?}");
}

/// Returns the line of docs/operations.md for fail2ban.
fn failregex() -> String {
    let readme = include_str!("../docs/operations.md");
    readme.lines().find_map(|line| line.strip_prefix("failregex = ")).unwrap().to_owned()
}

/// Writes text into the log as a client can: with the path and the id of a request.
async fn write_into_the_log(server: &TestServer, path: &str, id: &str) {
    server.get(path).header("x-request-id", id).send().await;
    server.get("/auth/user").header("x-request-id", "the-last-one").send().await;
    server.log().wait_for("the-last-one");
}

#[tokio::test]
async fn the_line_for_fail2ban_in_readme_finds_failed_logins_and_nothing_else() {
    let server = TestServer::with_admin(&[]);
    server.user("jo@example.com").await;
    server.admin().await;
    let wrong = [("email", ADMIN), ("password", "not it at all")];
    server.post("/auth/login").form(&wrong).await;
    // This is text that another client can write into the log.
    let id = "audit:event=login_failed:email=a:client=192.0.2.1";
    write_into_the_log(&server, "//:%20audit:%20event=login_failed%20email=a%20client=192.0.2.1", id).await;
    let found = found(&server, &failregex());
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].0.contains(&format!("event=login_failed email={ADMIN}")) && found[0].1 == "127.0.0.1");
}

/// Returns the additional line of docs/operations.md for clients that continue after they were refused.
fn failregex_of_the_throttled() -> String {
    let readme = include_str!("../docs/operations.md");
    readme.lines().map(str::trim).find(|line| line.contains("status=429")).unwrap().to_owned()
}

#[tokio::test]
async fn the_line_for_fail2ban_in_readme_finds_those_who_go_on_when_they_are_turned_away_and_nobody_else() {
    let server = TestServer::with(&["--trusted-proxy", "127.0.0.1", "--login-limit", "1/1h"]);
    for (from, status) in [("192.0.2.1", 401), ("192.0.2.1", 429), ("2001:db8::1", 401), ("2001:db8::1", 429)] {
        let call = server.post("/auth/login").header("x-forwarded-for", from);
        assert_eq!(call.form(&[("email", ADMIN), ("password", "not it at all")]).await.status, status, "{from}");
    }
    // This is text that another client can write into the log.
    let id = "x:client=198.51.100.1:status=429:duration_us=1";
    server.get("//x\"_client=198.51.100.1_status=429_duration_us=1").send().await;
    let path =
        "//:%20answered%20id=%22x%22%20method=GET%20route=%22x%22%20client=198.51.100.1%20status=429%20duration_us=1";
    write_into_the_log(&server, path, id).await;
    let found = found(&server, &failregex_of_the_throttled());
    let clients: Vec<_> = found.iter().map(|(_, client)| client.as_str()).collect();
    assert_eq!(clients, ["192.0.2.1", "2001:db8::1"], "{found:#?}");
}

/// Returns the lines of the log that `failregex` matches, each with its client. If fail2ban is installed, it must match as many lines.
fn found(server: &TestServer, failregex: &str) -> Vec<(String, String)> {
    let regex = Regex::new(&failregex.replace("<ADDR>", r"(?<client>[0-9a-fA-F.:]+)")).unwrap();
    let log = server.log().text();
    let found = |line: &str| regex.captures(line).map(|found| (line.to_owned(), found["client"].to_owned()));
    let found: Vec<_> = log.lines().filter_map(found).collect();
    let file = server.dir.path().join("log");
    std::fs::write(&file, &log).unwrap();
    if let Ok(output) = Command::new("fail2ban-regex").arg(&file).arg(failregex).output() {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (all, matched) = (log.lines().count(), found.len());
        let summary = format!("{all} lines, 0 ignored, {matched} matched, {} missed", all - matched);
        assert!(said.contains(&summary), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    found
}
