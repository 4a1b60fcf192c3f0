//! Connections: their limits and deadlines, and which bytes are accepted as a request.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    ambiguous::{POST, ambiguous},
    harness::{PASSWORD, TestServer},
    metrics::{scrape, value},
    raw::{is_complete, raw},
};

const ASK: &[u8] = b"GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\n\r\n";

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Returns the status of the next response, or 0 if the connection was closed instead.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut answer = Vec::new();
    while !is_complete(&answer) {
        if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
            return 0;
        }
    }
    str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()
}

/// Waits until the server closes the connection, and returns how long that took.
async fn closed(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    let to_the_end = async { while stream.read(&mut [0; 4096]).await.unwrap_or(0) > 0 {} };
    tokio::time::timeout(Duration::from_secs(20), to_the_end).await.expect("it stays open");
    started.elapsed()
}

#[tokio::test]
async fn a_request_that_another_server_could_read_in_another_way_is_refused_and_ends_its_connection() {
    let server = TestServer::start();
    for first in ambiguous() {
        // Single bytes use another path of the parser. After a valid request, the ambiguous one is the second on its connection.
        for (good_before, whole) in [(false, true), (false, false), (true, true)] {
            let mut stream = connect(&server).await;
            let bytes = [if good_before { ASK } else { b"" }, first.as_bytes(), ASK].concat();
            let (mut from, mut to) = stream.split();
            let send = async {
                for part in bytes.chunks(if whole { bytes.len() } else { 1 }) {
                    if to.write_all(part).await.is_err() {
                        break;
                    }
                }
                let _ = to.shutdown().await;
            };
            let mut answer = Vec::new();
            let receive = async { while from.read_buf(&mut answer).await.unwrap_or(0) > 0 {} };
            tokio::join!(send, receive);
            let answer = String::from_utf8(answer).unwrap();
            let statuses: Vec<_> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
            let of_it = &statuses[usize::from(good_before).min(statuses.len())..];
            assert!(of_it.is_empty() || of_it == ["400"], "{first:?} ({good_before}, {whole}): {answer}");
            assert!(!answer.contains("errors"), "its fields were read: {first:?} ({good_before}, {whole}): {answer}");
        }
    }
}

#[tokio::test]
async fn what_is_unusual_and_has_one_meaning_is_served() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let body = format!(r#"{{"email":"jo@example.com","password":"{PASSWORD}"}}"#);
    let chunks = format!("{:x};a=b\r\n{}\r\n00{:X}\r\n{}\r\n0\r\n\r\n", 3, &body[..3], body.len() - 3, &body[3..]);
    let length = body.len();
    for request in [
        format!("GET /api/v1/auth/user HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n"),
        format!("\r\nGET /api/v1/auth/user HTTP/1.1\r\nhost:\r\nauthorization:Bearer {token}  \r\n\r\n"),
        format!(
            "GET /api/v1/auth/user HTTP/1.1\r\nHOST: [::1]:80\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        ),
        format!("GET http://a/api/v1/auth/user HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"),
        format!("{POST}CONTENT-LENGTH:\t{length} \r\n\r\n{body}"),
        format!("{POST}Transfer-Encoding:Chunked\r\n\r\n{chunks}"),
    ] {
        assert_eq!(raw(&server, request.as_bytes()).await.status, 200, "{request}");
    }
    // A body ends after its stated length. The bytes after it on the connection are the next request.
    let mut stream = connect(&server).await;
    for _ in 0..3 {
        stream.write_all(format!("{POST}Content-Length: {length}\r\n\r\n{body}").as_bytes()).await.unwrap();
        assert_eq!(status(&mut stream).await, 200);
        stream.write_all(ASK).await.unwrap();
        assert_eq!(status(&mut stream).await, 401);
    }
}

fn hurried() -> TestServer {
    TestServer::with(&[
        "--metrics-listen=127.0.0.1:0",
        "--header-timeout=200ms",
        "--body-timeout=400ms",
        "--request-timeout=10s",
        "--idle-timeout=1600ms",
    ])
}

fn about(took: Duration, ms: u64) {
    let expected = Duration::from_millis(ms);
    assert!((expected * 9 / 10..expected + Duration::from_secs(5)).contains(&took), "{took:?} and not {expected:?}");
}

#[tokio::test]
async fn who_is_slow_is_cut_off_in_time_and_counted() {
    let server = hurried();
    let token = server.user("jo@example.com").await;
    // One client sends nothing, one does not end its header section, and one sends empty lines forever.
    about(closed(&mut connect(&server).await).await, 200);
    let mut stream = connect(&server).await;
    stream.write_all(b"GET /api/v1/auth/user HTTP/1.1\r\nx: y").await.unwrap();
    about(closed(&mut stream).await, 200);
    let stream = connect(&server).await;
    stream.set_nodelay(true).unwrap();
    let (mut from, mut to) = stream.into_split();
    let started = Instant::now();
    let drip = async {
        // The bytes are slow enough that each is read separately, and that all of them are fewer than the maximum size of a header section.
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        for byte in [b"\r", b"\n"].iter().cycle() {
            ticks.tick().await;
            if to.write_all(*byte).await.is_err() {
                break;
            }
        }
    };
    let end = async { while from.read(&mut [0; 64]).await.unwrap_or(0) > 0 {} };
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(drip, end) })
        .await
        .expect("empty lines for ever");
    about(started.elapsed(), 200);
    // A client does not complete a body, with a length or without one.
    for body in ["Content-Length: 100\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n2\r\n{"] {
        let mut stream = connect(&server).await;
        stream.write_all(format!("{POST}{body}").as_bytes()).await.unwrap();
        about(closed(&mut stream).await, 400);
    }
    // A client sends a request, reads the response, and stays.
    let mut stream = connect(&server).await;
    stream.write_all(ASK).await.unwrap();
    assert_eq!(status(&mut stream).await, 401);
    about(closed(&mut stream).await, 1600);
    let text = scrape(&server).await;
    assert!(value(&text, "connections_timed_out_total") >= 6.0, "{text}");
    assert_eq!(server.status_of(&token).await, 200);
}

#[tokio::test]
async fn who_does_not_take_the_answers_is_cut_off() {
    let server = TestServer::with(&["--request-timeout=800ms"]);
    // The client sends until neither side accepts more bytes.
    let mut stream = connect(&server).await;
    let ask = b"GET /api/v1/ui HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100);
    let stuck = async { while stream.write_all(&ask).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(8), stuck).await.expect("it is never cut off");
}

#[tokio::test]
async fn who_is_busy_is_not_cut_off() {
    let server = TestServer::with(&["--header-timeout=200ms", "--request-timeout=400ms", "--idle-timeout=400ms"]);
    let mut stream = connect(&server).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) {
        stream.write_all(ASK).await.unwrap();
        assert_eq!(status(&mut stream).await, 401);
    }
}

#[tokio::test]
async fn fields_that_are_too_many_are_never_taken_for_a_request_wherever_a_packet_ends() {
    let server = TestServer::start();
    let fields: String = (0..120).fold(String::new(), |fields, n| fields + &format!("x-{n}: y\r\n"));
    let request = format!("GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\n{fields}\r\n{}", str::from_utf8(ASK).unwrap());
    let last = request.find("x-99").unwrap();
    for cut in last - 3..last + 12 {
        let mut stream = connect(&server).await;
        stream.set_nodelay(true).unwrap();
        stream.write_all(&request.as_bytes()[..cut]).await.unwrap();
        tokio::task::yield_now().await;
        let _ = stream.write_all(&request.as_bytes()[cut..]).await; // the server may have responded already
        let mut answers = String::new();
        stream.read_to_string(&mut answers).await.unwrap();
        assert!(answers.starts_with("HTTP/1.1 431 ") && answers.contains("too large"), "{cut}: {answers}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{cut}: {answers}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_many_clients_and_nobody_else_is() {
    for (proxy, status_of_third) in [("127.0.0.1", 401), ("127.0.0.2", 503)] {
        let server = TestServer::with(&["--connections-per-client=2", "--trusted-proxy", proxy]);
        let _inside = (connect(&server).await, connect(&server).await);
        assert_eq!(raw(&server, ASK).await.status, status_of_third, "{proxy}");
    }
}

#[tokio::test]
async fn there_are_as_many_connections_as_are_allowed_and_a_place_is_free_again_at_once() {
    for (setting, places) in [("--connections=3", 3), ("--connections-per-client=5", 5)] {
        let server = TestServer::with(&[setting, "--metrics-listen=127.0.0.1:0"]);
        for _ in 0..3 {
            let mut inside = Vec::new();
            for _ in 0..places {
                let mut stream = connect(&server).await;
                stream.write_all(ASK).await.unwrap();
                assert_eq!(status(&mut stream).await, 401, "{setting}");
                inside.push(stream);
            }
            let answer = raw(&server, ASK).await;
            assert_eq!(answer.status, 503, "{setting}");
            assert_eq!(answer.json()["status"], "fail");
            assert!(
                answer.head.contains("\r\nretry-after: 1\r\n") && answer.head.contains("\r\nconnection: close\r\n")
            );
            for stream in &mut inside {
                stream.write_all(ASK).await.unwrap();
                assert_eq!(status(stream).await, 401, "who is inside stays");
                stream.shutdown().await.unwrap();
                closed(stream).await;
            }
        }
        let text = scrape(&server).await;
        assert!(text.contains("latchkey_connections_refused_total 3\n"), "{text}");
    }
}
