//! `--metrics-listen`: what is counted, and that Prometheus can read it.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
};

use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::json;

use super::harness::TestServer;

fn watched() -> TestServer {
    TestServer::with_admin(&["--metrics-listen", "127.0.0.1:0", "--purge-interval", "50ms", "--token-lifetime", "2s"])
}

fn url(server: &TestServer) -> String {
    if let Some(address) = server.metrics {
        return format!("http://{address}/metrics");
    }
    server.log().wait_for("metrics are served");
    let log = server.log().text();
    let (_, rest) = log.split_once("metrics are served address=").unwrap();
    format!("http://{}/metrics", rest.split_whitespace().next().unwrap())
}

pub(crate) async fn scrape(server: &TestServer) -> String {
    let answer = reqwest::get(url(server)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.unwrap()
}

/// Returns the value of one series, or 0 if it does not exist.
pub(crate) fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("latchkey_{series} ")));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn what_happens_is_counted_and_prometheus_can_read_it() {
    let server = watched();
    let token = server.user("jo@example.com").await;
    server.log_in("jo@example.com").await;
    for _ in 0..3 {
        server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", "not it at all")]).await;
    }
    assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200);
    server.get("/widgets/some-name").send().await;
    server.get("/widgets/another-name").send().await;
    let text = scrape(&server).await;
    for (series, expected) in [
        (r#"http_requests_total{route="/api/v1/auth/login",method="POST",status="200"}"#, 1.0),
        (r#"http_requests_total{route="/api/v1/auth/login",method="POST",status="401"}"#, 3.0),
        (r#"http_requests_total{route="/api/v1/widgets/{name}",method="GET",status="401"}"#, 2.0),
        (r#"http_request_duration_seconds_count{route="/api/v1/auth/login",method="POST"}"#, 4.0),
        (r#"http_request_duration_seconds_bucket{route="/api/v1/auth/login",method="POST",le="+Inf"}"#, 4.0),
        (r#"logins_total{outcome="good"}"#, 1.0),
        (r#"logins_total{outcome="bad"}"#, 3.0),
        (r#"logins_total{outcome="failed"}"#, 0.0),
        ("tokens_issued_total", 2.0),
        ("tokens_blacklisted_total", 1.0),
        ("users", 2.0),
        ("panics_total", 0.0),
        ("hashes_running", 0.0),
        ("hashes_waiting", 0.0),
        ("commit_writes_count", 4.0), // the start begins the key ring, and the login stores a known device
        ("commit_writes_sum", 4.0),
        ("commit_duration_seconds_count", 4.0),
        (concat!("build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert!((value(&text, series) - expected).abs() < 0.001, "{series} is not {expected}:\n{text}");
    }
    for series in [
        "database_bytes",
        "commit_duration_seconds_sum",
        "purge_runs_total",
        r#"http_request_duration_seconds_sum{route="/api/v1/auth/login",method="POST"}"#,
    ] {
        assert!(value(&text, series) > 0.0, "{series}:\n{text}");
    }
    assert!(!text.contains("example.com") && !text.contains("-name"), "{text}");

    // If the checker of Prometheus is installed, it must accept the text, too.
    let check =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    if let Ok(mut check) = check {
        check.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = check.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    }

    // The token expires, and its entry is purged.
    while value(&scrape(&server).await, "purged_entries_total") < 1.0 {}
    let text = scrape(&server).await; // the previous scrape may have read the entries before the purge
    assert!(value(&text, "blacklist_entries") < 0.5, "{text}");
}

#[tokio::test]
async fn accounts_and_logged_out_tokens_are_counted() {
    let server = TestServer::with(&["--metrics-listen", "127.0.0.1:0"]);
    for n in 0..3 {
        let token = server.user(&format!("user-{n}@example.com")).await;
        assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200);
    }
    server.user("jo@example.com").await;
    let text = scrape(&server).await;
    assert!(text.contains("latchkey_users 4\n") && text.contains("latchkey_blacklist_entries 3\n"), "{text}");
}

#[tokio::test]
async fn the_number_of_series_does_not_grow_with_traffic() {
    let server = watched();
    let series = async || {
        let text = scrape(&server).await;
        let name = |line: &str| line.rsplit_once(' ').unwrap().0.to_owned();
        text.lines().filter(|line| !line.starts_with('#')).map(name).collect::<BTreeSet<_>>()
    };
    let ask = async |n: usize| {
        server.get(&format!("//no/such/{n}")).send().await;
        server.get(&format!("/widgets/name-{n}")).send().await;
        server.request(Method::from_bytes(format!("METHOD{n}").as_bytes()).unwrap(), "/auth/user").send().await;
        server.post("/auth/login").json(&json!({ "email": format!("u{n}@example.com"), "password": "no" })).await;
    };
    ask(0).await;
    let before = series().await;
    for n in 1..50 {
        ask(n).await;
    }
    let after = series().await;
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(before.contains(r#"latchkey_http_requests_total{route="other",method="GET",status="404"}"#), "{before:?}");
}

#[tokio::test]
async fn metrics_have_a_listener_of_their_own_with_nothing_else_on_it() {
    let server = watched();
    let metrics = url(&server);
    assert_eq!(server.get("//metrics").send().await.status, 404);
    let client = reqwest::Client::new();
    for path in ["/", "/api/v1/auth/user", "/healthz", "/metrics/"] {
        assert_eq!(client.get(metrics.replace("/metrics", path)).send().await.unwrap().status(), 404, "{path}");
    }
    let refused = client.post(&metrics).send().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD"));
    assert_eq!(client.head(&metrics).send().await.unwrap().status(), 200);
    let plain = TestServer::start();
    plain.get("/auth/user").send().await;
    assert!(!plain.log().text().contains("metrics"));
}

/// A metrics connection must not keep the database open after the server has stopped.
#[tokio::test]
async fn who_keeps_a_connection_to_the_metrics_does_not_keep_the_server_from_stopping() {
    let mut server = watched();
    let client = reqwest::Client::new();
    assert_eq!(client.get(url(&server)).send().await.unwrap().status(), 200);
    server.stop();
    server.start_again();
    server.log_in(super::harness::ADMIN).await;
}
