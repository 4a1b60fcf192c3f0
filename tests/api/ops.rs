//! `/healthz`, `/readyz` and `latchkey health`.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::{Command, Output, Stdio},
    time::Instant,
};

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

/// It says so in one line and exits with 1.
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
        // Outside of the API.
        assert_eq!(server.get(path.trim_start_matches('/')).send().await.status, 404);
    }
}

#[tokio::test]
async fn health_asks_the_server_that_runs_with_these_settings() {
    let mut server = TestServer::start();
    let address = address(&server.base).to_owned();
    let output = health(&address);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"ready\n".as_slice()));
    // What a server that listens everywhere is told, too.
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
    server.signal("KILL"); // what was written is there nevertheless
    server.wait();
    let file = redb::Database::open(server.dir.path().join("data/latchkey.redb")).unwrap();
    let meta = file.begin_read().unwrap().open_table(redb::TableDefinition::<&str, u64>::new("latchkey")).unwrap();
    let probes = meta.get("probes").unwrap().unwrap().value();
    assert!((1..=seconds + 1).contains(&probes), "{probes} writes in {seconds} s");
}

/// The file may not grow any more: to the database, a disk that is full.
#[tokio::test]
async fn a_database_that_takes_no_writes_is_not_ready_and_the_process_is_well_all_the_same() {
    let dir = TempDir::new().unwrap();
    // `env` makes a write behind the limit an error instead of a deadly signal.
    let mut command = Command::new("env");
    command.args(["--ignore-signal=XFSZ", env!("CARGO_BIN_EXE_latchkey"), "--log", "error"]);
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Kept to the end: a server that cannot write what it has to say ends.
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let page = said.find(|line| line.contains("Start page")).unwrap();
    let base = page.split_whitespace().last().unwrap().trim_end_matches('/').to_owned();
    let status = async |path: &str| reqwest::get(format!("{base}{path}")).await.unwrap();

    assert_eq!(status("/readyz").await.status(), 200);
    assert!(health(address(&base)).status.success());
    let limited = Command::new("prlimit").args(["--fsize=0:", "--pid", &child.id().to_string()]).status().unwrap();
    assert!(limited.success());
    let limited_at = Instant::now();
    let refused = loop {
        let answer = status("/readyz").await; // what was found a moment ago may be told for a second
        assert!(limited_at.elapsed().as_secs() < 20, "it says that it is ready");
        if answer.status() != 200 {
            break answer;
        }
    };
    assert_eq!(refused.status(), 503);
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u32>().is_ok());
    let id = refused.headers()["x-request-id"].to_str().unwrap().to_owned();
    let body = refused.text().await.unwrap();
    assert_eq!(body, r#"{"status":"fail","message":"The server cannot reach its data. Please try again soon."}"#);
    unhealthy(&health(address(&base)), "answers 503 Service Unavailable");
    assert_eq!(status("/healthz").await.status(), 200);

    child.kill().unwrap();
    let log = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    let cause = log.lines().find(|line| line.contains("not ready")).unwrap_or_else(|| panic!("{log}"));
    assert!(cause.contains("File too large"), "{cause}");
    assert!(cause.contains(&id), "{id}: {cause}");
}
