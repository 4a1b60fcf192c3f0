//! `/healthz`, `/readyz` and `latchkey health`.

use std::{io::Read as _, net::TcpListener, os::unix::net::UnixListener, process::Output, time::Instant};

use futures_util::future::join_all;
use redb::ReadableDatabase as _;
use reqwest::{Method, StatusCode};
use tempfile::TempDir;

use super::harness::{TestServer, latchkey};

fn health(address: &str) -> Output {
    latchkey().args(["health", "--listen", address]).output().unwrap()
}

fn address(base: &str) -> &str {
    base.strip_prefix("http://").unwrap()
}

/// Checks that the command prints one line and exits with 1.
fn unhealthy(output: &Output, part: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: ") && said.contains(part) && said.lines().count() == 1, "{said}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn anyone_may_ask_whether_it_is_well_and_learns_nothing_else() {
    let server = TestServer::start();
    for path in ["//healthz", "//readyz"] {
        let answer = server.get(path).send().await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, r#"{"status":"ok"}"#), "{path}");
        assert_eq!(server.request(Method::HEAD, path).send().await.status, 200);
        let refused = server.post(path).send().await;
        assert_eq!((refused.status, refused.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
        // The path is not part of the API.
        assert_eq!(server.get(path.trim_start_matches('/')).send().await.status, 404);
    }
}

#[tokio::test]
async fn health_asks_the_server_that_runs_with_these_settings() {
    let mut server = TestServer::start();
    let address = address(&server.base).to_owned();
    let output = health(&address);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"ready\n".as_slice()));
    let json = latchkey().args(["health", "--json", "--listen", &address]).output().unwrap();
    assert_eq!((json.status.code(), json.stdout.as_slice()), (Some(0), b"{\"ready\":true}\n".as_slice()));
    // A server may also listen on all addresses.
    let (_, port) = address.split_once(':').unwrap();
    let mut from_variable = latchkey();
    assert!(from_variable.arg("health").env("LATCHKEY_LISTEN", format!("0.0.0.0:{port}")).status().unwrap().success());
    server.stop();
    unhealthy(&health(&address), &format!("no answer from {address}"));
    unhealthy(&health("127.0.0.1:0"), "port 0");
}

#[test]
fn health_does_not_wait_for_a_server_that_hangs_or_is_another() {
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    unhealthy(&health(&hangs.local_addr().unwrap().to_string()), "within 2 seconds");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        use std::io::Write as _;
        let (mut stream, _) = other.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    unhealthy(&health(&address), "answers 404 Not Found");

    let data = TempDir::new().unwrap();
    let _mute = UnixListener::bind(data.path().join("admin.sock")).unwrap();
    let output = latchkey().arg("health").arg("--data-dir").arg(data.path()).output().unwrap();
    unhealthy(&output, "admin.sock within 2 seconds");
}

#[tokio::test]
async fn however_often_it_is_asked_the_disk_gets_one_write_a_second() {
    let mut server = TestServer::start();
    let started = Instant::now();
    for _ in 0..5 {
        let asking = (0..40).map(|_| server.get("//readyz").send());
        assert!(join_all(asking).await.iter().all(|answer| answer.status == 200));
    }
    let seconds = started.elapsed().as_secs();
    server.signal("KILL"); // committed writes survive a kill
    server.wait();
    let file = redb::Database::open(server.dir.path().join("data/latchkey.redb")).unwrap();
    let meta = file.begin_read().unwrap().open_table(redb::TableDefinition::<&str, u64>::new("latchkey")).unwrap();
    let probes = meta.get("probes").unwrap().unwrap().value();
    assert!((1..=seconds + 1).contains(&probes), "{probes} writes in {seconds} s");
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_not_ready_and_the_process_is_well_all_the_same() {
    let mut server = TestServer::with(&["--log", "error"]);
    assert_eq!(server.get("//readyz").send().await.status, 200);
    assert!(health(address(&server.base)).status.success());
    server.limit_files("0");
    let limited_at = Instant::now();
    let refused = loop {
        let answer = server.get("//readyz").may_fail().send().await; // the server may reuse a result for a second
        assert!(limited_at.elapsed().as_secs() < 20, "it says that it is ready");
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.text,
        r#"{"status":"fail","message":"The server cannot reach its data. Please try again soon."}"#
    );
    unhealthy(&health(address(&server.base)), "answers 503 Service Unavailable");
    assert_eq!(server.get("//healthz").send().await.status, 200);

    let log = server.log().clone();
    server.stop();
    let log = log.text();
    let cause = log.lines().find(|line| line.contains("not ready")).unwrap_or_else(|| panic!("{log}"));
    assert!(cause.contains("File too large"), "{cause}");
    let id = refused.header("x-request-id");
    assert!(cause.contains(id), "{id}: {cause}");
}
