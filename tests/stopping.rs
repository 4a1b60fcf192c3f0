//! How the server stops, and the format of its log.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    api::{
        harness::{PASSWORD, TestServer, ended, latchkey, send_signal},
        raw::is_complete,
    },
    import::line,
};

fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.base.trim_start_matches("http://")).unwrap()
}

#[tokio::test]
async fn sigterm_and_sigint_finish_what_is_in_flight_and_exit_0() {
    for name in ["TERM", "INT"] {
        let mut server = TestServer::start();
        // The body of the request arrives in two parts, with the signal between them, so that the request is certainly in flight.
        let body = format!(r#"{{"email":"jo@example.com","password":"{PASSWORD}"}}"#);
        let (first, second) = body.split_at(10);
        let mut stream = connect(&server);
        let head = format!(
            "POST /api/v1/auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Expect: 100-continue\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut interim = [0; 25];
        stream.read_exact(&mut interim).unwrap();
        assert!(interim.starts_with(b"HTTP/1.1 100 Continue"), "the server reads the body now");
        stream.write_all(first.as_bytes()).unwrap();
        server.signal(name);
        server.log().wait_for(&format!("stopping signal=\"SIG{name}\""));
        while TcpStream::connect(server.base.trim_start_matches("http://")).is_ok() {
            std::thread::yield_now(); // until the server accepts no more connections
        }
        stream.write_all(second.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 Created"), "{answer}");
        assert!(server.wait().success(), "{name}");
        server.start_again();
        server.log_in("jo@example.com").await;
    }
}

/// Sends the lines of an import in two parts, with the signal between them.
#[test]
fn what_the_operator_asked_for_is_finished_before_the_end_too() {
    let mut server = TestServer::start();
    let (first, second) = (line("jo@example.com").to_string(), line("al@example.com").to_string());
    let mut idle = UnixStream::connect(server.dir.path().join("data/admin.sock")).unwrap();
    let mut stream = UnixStream::connect(server.dir.path().join("data/admin.sock")).unwrap();
    let length = first.len() + 1 + second.len();
    let head = format!(
        "POST /operator/import HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    stream.write_all(first.as_bytes()).unwrap();
    server.signal("TERM");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0, "it has begun to stop");
    stream.write_all(format!("\n{second}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(r#""added":2"#), "{answer}");
    let log = server.log().clone();
    assert!(server.wait().success());
    log.wait_for(": stopped");
    let log = log.text();
    assert!(log.find("event=\"import\"").unwrap() < log.find(": stopped").unwrap(), "{log}");
}

#[tokio::test]
async fn sighup_changes_nothing() {
    let mut server = TestServer::start();
    let token = server.user("jo@example.com").await;
    for _ in 0..3 {
        server.signal("HUP");
        assert_eq!(server.status_of(&token).await, 200);
    }
    server.log_in("jo@example.com").await;
    server.stop();
}

/// Sends one request after the other on one connection, until the server closes it. Returns the emails whose registration was answered,
/// each with the status, and whether a response was incomplete.
async fn register_until_the_end(
    address: String,
    worker: usize,
    answered: Arc<AtomicUsize>,
) -> (Vec<(String, u16)>, bool) {
    let mut done = Vec::new();
    let Ok(mut stream) = tokio::net::TcpStream::connect(&address).await else { return (done, false) };
    for n in 0.. {
        let email = format!("u{worker}-{n}@example.com");
        let body = format!(r#"{{"email":"{email}","password":"{PASSWORD}"}}"#);
        let request = format!(
            "POST /api/v1/auth/register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(request.as_bytes()).await.is_err() {
            break;
        }
        let mut answer = Vec::new();
        while !is_complete(&answer) && stream.read_buf(&mut answer).await.unwrap_or(0) > 0 {}
        if !is_complete(&answer) {
            return (done, !answer.is_empty());
        }
        done.push((email, str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()));
        answered.fetch_add(1, Ordering::Relaxed);
    }
    (done, false)
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_answers_what_was_accepted_in_full_and_does_nothing_else() {
    let mut server = TestServer::start();
    let address = server.base.trim_start_matches("http://").to_owned();
    let answered = Arc::new(AtomicUsize::new(0));
    let work = |worker| tokio::spawn(register_until_the_end(address.clone(), worker, Arc::clone(&answered)));
    let workers: Vec<_> = (0..32).map(work).collect();
    while answered.load(Ordering::Relaxed) < 200 {
        tokio::task::yield_now().await; // until all workers are busy
    }
    let log = server.log().clone();
    server.stop();
    let mut registered = BTreeSet::new();
    for worker in join_all(workers).await {
        let (done, cut_off) = worker.unwrap();
        assert!(!cut_off, "half an answer");
        assert!(done.iter().all(|(_, status)| *status == 201), "{done:?}");
        registered.extend(done.into_iter().map(|(email, _)| email));
    }
    assert!(!log.text().contains("were cut off"));
    // A registration without a response has created no account.
    let list =
        latchkey().args(["user", "list", "--json", "--data-dir"]).arg(server.dir.path().join("data")).output().unwrap();
    let user = |line: &str| serde_json::from_str::<Value>(line).unwrap()["email"].as_str().unwrap().to_owned();
    let stored: BTreeSet<String> = str::from_utf8(&list.stdout).unwrap().lines().map(user).collect();
    assert_eq!(stored, registered);
}

#[tokio::test]
async fn an_idle_connection_does_not_keep_the_server_from_stopping() {
    let mut server = TestServer::start();
    let mut idle = connect(&server);
    idle.write_all(b"GET /api/v1/auth/user HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    let _never_spoke = connect(&server);
    server.stop();
}

#[tokio::test]
async fn a_log_line_is_json_where_that_is_asked_for_and_names_the_request() {
    let server = TestServer::with(&["--log-format", "json"]);
    server.get("/auth/user").header("x-request-id", "from-the-proxy").send().await;
    server.log().wait_for("from-the-proxy");
    let text = server.log().text();
    let line = text.lines().find(|line| line.contains("from-the-proxy")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["fields"]["status"], 401);
    assert_eq!(line["fields"]["id"], "from-the-proxy");
    assert_eq!(line["fields"]["route"], "/api/v1/auth/user");
}

#[tokio::test]
async fn the_log_has_no_colours_in_a_pipe_and_is_silent_where_that_is_asked_for() {
    let server = TestServer::start();
    server.get("/auth/user").send().await;
    server.log().wait_for("status=401");
    assert!(!server.log().text().contains('\u{1b}'));
    let mut silent = TestServer::with(&["--log", "off"]);
    silent.get("/auth/user").send().await;
    let log = silent.log().clone();
    silent.stop();
    assert_eq!(log.text(), "");
}

#[tokio::test]
async fn what_was_asked_before_sigterm_is_answered_also_where_nobody_had_read_it_yet() {
    let mut server = TestServer::start();
    let ask = b"GET /api/v1/auth/user HTTP/1.1\r\nHost: x\r\n\r\n";
    let status = |stream: &mut TcpStream| {
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).map(|()| String::from_utf8(answer.to_vec()).unwrap())
    };
    // Three kinds of connections: those with an earlier request, those that were accepted and have sent no request, and those that are not
    // accepted yet.
    let mut streams: Vec<_> = (0..20).map(|_| connect(&server)).collect();
    for stream in &mut streams[..10] {
        stream.write_all(ask).unwrap();
        assert_eq!(status(stream).unwrap(), "HTTP/1.1 401");
        stream.set_nonblocking(true).unwrap();
        while stream.read(&mut [0; 4096]).is_ok() {} // discards the rest of the response
        stream.set_nonblocking(false).unwrap();
    }
    server.signal("STOP");
    streams.extend((0..10).map(|_| connect(&server)));
    for stream in &mut streams {
        stream.write_all(ask).unwrap();
    }
    server.signal("TERM");
    server.signal("CONT");
    for (n, stream) in streams.iter_mut().enumerate() {
        let answered = status(stream);
        assert_eq!(answered.unwrap_or_else(|error| panic!("connection {n}: {error}")), "HTTP/1.1 401");
    }
    assert!(server.wait().success());
}

#[tokio::test]
async fn a_request_that_is_on_its_way_when_the_server_stops_is_answered() {
    // The server waits a quarter of a second for such a request. If the machine is too slow for that, the test tries again.
    let on_their_way = || {
        let mut server = TestServer::start();
        let ask = b"GET /api/v1/auth/user HTTP/1.1\r\nHost: x\r\n\r\n";
        let answered = |stream: &mut TcpStream| {
            let mut answer = Vec::new();
            let mut bytes = [0; 4096];
            let _ = stream.write_all(ask);
            while !is_complete(&answer) {
                match stream.read(&mut bytes) {
                    Ok(count) if count > 0 => answer.extend_from_slice(&bytes[..count]),
                    _ => return false,
                }
            }
            answer.starts_with(b"HTTP/1.1 401")
        };
        let mut streams: Vec<_> = (0..5).map(|_| connect(&server)).collect();
        assert!(streams.iter_mut().all(answered));
        server.signal("TERM");
        while TcpStream::connect(server.base.trim_start_matches("http://")).is_ok() {
            std::thread::yield_now(); // until the server accepts no more connections
        }
        let all = streams.iter_mut().all(answered);
        assert!(server.wait().success());
        all
    };
    assert!((0..5).any(|_| on_their_way()));
}

#[test]
fn every_line_of_the_log_is_written_before_the_end_also_where_nobody_read_it_until_then() {
    let dir = tempfile::TempDir::new().unwrap();
    let mut command = latchkey();
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path().join("data"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address =
        lines.find_map(|line| line.trim().strip_prefix("Start page  http://").map(ToOwned::to_owned)).unwrap();
    let mut stream = TcpStream::connect(address.trim_end_matches('/')).unwrap();
    // The log is larger than the buffer of a pipe.
    for _ in 0..1000 {
        let path = "x".repeat(200);
        stream.write_all(format!("GET /{path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !is_complete(&answer) {
            let mut bytes = [0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            answer.extend_from_slice(&bytes[..count]);
        }
    }
    drop(stream);
    send_signal(child.id(), "TERM");
    // The database is closed after the last request. After that, only the log remains to be written.
    while !latchkey().arg("check").arg("--data-dir").arg(dir.path().join("data")).output().unwrap().status.success() {}
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(ended(child).success());
    assert_eq!(log.matches(" status=404 ").count(), 1000);
    assert!(log.trim_end().ends_with(": stopped"), "{}", log.lines().last().unwrap());
}
