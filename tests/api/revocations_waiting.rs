//! `GET /token/revocations` with `wait`: when a waiting request is answered, and what it costs.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    harness::TestServer,
    metrics,
    revocations::{Follower, WAIT, log_out, service},
    wire_held::memory,
};

/// The end of a response without `Content-Length` (RFC 9112 §7.1).
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(25);

impl Follower {
    /// Sends a request that waits, and another one before it on the same connection: once that is answered, the server has both.
    async fn wait(&self, server: &TestServer) -> Waiting {
        let (host, secret, after) = ("Host: x\r\n", &self.secret, self.cursor.as_ref().unwrap());
        let first = format!("GET /api/v1/auth/user HTTP/1.1\r\n{host}\r\n");
        let second = format!(
            "GET /api/v1/token/revocations?after={after}&{WAIT} HTTP/1.1\r\n{host}Authorization: Bearer {secret}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(server.base.trim_start_matches("http://")).await.unwrap();
        stream.write_all(format!("{first}{second}").as_bytes()).await.unwrap();
        let mut waiting = Waiting(stream, Vec::new());
        assert!(waiting.answer().await.starts_with("HTTP/1.1 401"));
        waiting
    }
}

/// Returns the length of the first answer, if it is complete. It has a length, or chunks if it waited.
fn end_of_answer(received: &[u8]) -> Option<usize> {
    let after = |end: &[u8]| received.windows(end.len()).position(|window| window == end).map(|at| at + end.len());
    let body_at = after(b"\r\n\r\n")?;
    let head = str::from_utf8(&received[..body_at]).unwrap();
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => Some(body_at + length.parse::<usize>().unwrap()).filter(|end| *end <= received.len()),
        None => after(LAST_CHUNK),
    }
}

/// A connection with a waiting request, and what was received and not read yet.
struct Waiting(TcpStream, Vec<u8>);

impl Waiting {
    /// Returns the next answer. The head of one that waits comes before its body.
    async fn answer(&mut self) -> String {
        let Self(stream, received) = self;
        let end = loop {
            if let Some(end) = end_of_answer(received) {
                break end;
            }
            let read = timeout(PATIENCE, stream.read_buf(received)).await.expect("it still waits").unwrap();
            assert!(read > 0, "the connection was cut off");
        };
        String::from_utf8(received.drain(..end).collect()).unwrap()
    }

    /// Returns the body of the next answer, which is that of the feed.
    async fn body(&mut self) -> Value {
        let answer = self.answer().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        // The body of a request that waited comes in one chunk.
        let body = body.lines().find(|line| line.starts_with('{')).unwrap();
        serde_json::from_str(body).unwrap()
    }
}

#[tokio::test]
async fn a_waiting_request_is_answered_by_the_logout_and_not_before() {
    let server = TestServer::with_admin(&[]);
    let mut follower = Follower::new(&service(&server).await);
    for n in 0..5 {
        let token = server.anybody(&format!("jo-{n}@example.com")).await;
        follower.follow(&server).await;
        let (mut one, mut other) = (follower.wait(&server).await, follower.wait(&server).await);
        let started = Instant::now();
        log_out(&server, &token).await;
        let body = one.body().await;
        println!("the answer came {:?} after the logout was asked for", started.elapsed());
        follower.learn(&body);
        assert!(follower.refuses(&token), "{body}");
        assert_eq!(other.body().await, body);
    }
    let token = server.anybody("jo-0@example.com").await;
    follower.follow(&server).await;
    let mut waiting = follower.wait(&server).await;
    assert_eq!(server.post("/auth/logout-all").bearer(&token).send().await.status, 200);
    follower.learn(&waiting.body().await);
    assert!(follower.refuses(&token));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: it looks at the memory, which other work on the machine moves"]
async fn a_thousand_services_that_wait_take_little_memory_and_hear_of_a_logout_together() {
    const SERVICES: usize = 1000;
    let server = TestServer::with_admin(&["--log=warn", "--connections=4000", "--connections-per-client=4000"]);
    let mut follower = Follower::new(&service(&server).await);
    for n in 0..3 {
        let token = server.user(&format!("jo-{n}@example.com")).await;
        follower.follow(&server).await;
        let before = memory(&server, "VmRSS");
        let mut waiting = Vec::new();
        for _ in 0..SERVICES {
            waiting.push(follower.wait(&server).await);
        }
        let more = memory(&server, "VmRSS") - before;
        let started = Instant::now();
        let hear = waiting.iter_mut().map(async |waiting| (waiting.body().await, started.elapsed()));
        let (mut heard, ()) = tokio::join!(join_all(hear), log_out(&server, &token));
        heard.sort_by_key(|(_, after)| *after);
        let (median, last) = (heard[SERVICES / 2].1, heard[SERVICES - 1].1);
        println!("{SERVICES} waiting: {more} KiB; half of them heard within {median:?}, all within {last:?}");
        follower.learn(&heard[0].0);
        assert!(follower.refuses(&token) && heard.iter().all(|(body, _)| *body == heard[0].0));
        assert!(more < 16 * 1024, "{more} KiB");
    }
}

#[tokio::test]
async fn where_nothing_comes_the_answer_has_nothing_when_the_time_is_up() {
    let server = TestServer::with_admin(&["--request-timeout", "3s", "--idle-timeout", "2s"]);
    let mut follower = Follower::new(&service(&server).await);
    follower.follow(&server).await;
    for query in ["wait=1", WAIT] {
        // The server would cut the longer one off.
        let answer = follower.ask(&server, query).await;
        assert_eq!((answer.status.as_u16(), answer.json()["tokens"].clone()), (200, json!([])), "{query}");
        assert_eq!(answer.json()["more"], false);
    }
}

#[tokio::test]
async fn a_waiting_request_ends_when_the_server_stops() {
    let mut server = TestServer::with_admin(&[]);
    let mut follower = Follower::new(&service(&server).await);
    follower.follow(&server).await;
    let mut waiting = follower.wait(&server).await;
    let log = server.log().clone();
    server.stop();
    assert_eq!(waiting.body().await["cursor"], json!(follower.cursor));
    assert!(!log.text().contains("were cut off"), "{}", log.text());
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_waiting_request_with_it() {
    let server = TestServer::with_admin(&["--metrics-listen", "127.0.0.1:0"]);
    let mut follower = Follower::new(&service(&server).await);
    follower.follow(&server).await;
    let connections = async || metrics::value(&metrics::scrape(&server).await, "connections");
    let before = connections().await;
    let waiting = [follower.wait(&server).await, follower.wait(&server).await];
    assert!(connections().await >= before + 2.0);
    drop(waiting);
    let gone = async {
        while connections().await > before {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the connections of clients that are gone stay open");
}
