//! Thousands of connections, exhausted file descriptors, and connections beyond the limit: their effect on others, on memory and on the
//! processor.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    harness::TestServer,
    raw::{is_complete, raw},
};

const POST: &str = "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
/// The tolerance of a deadline: two sweeps, and a busy machine.
const LATE_MAX: Duration = Duration::from_secs(4);

async fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Returns the value of a line of `/proc/PID/status`, in KiB.
pub(crate) fn memory(server: &TestServer, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    value.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

/// Returns the processor time of the process in hundredths of a second.
fn processor(server: &TestServer) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Sends a request on one connection and waits for the response.
async fn ask(stream: &mut TcpStream, request: &[u8]) -> bool {
    let mut answer = Vec::new();
    if stream.write_all(request).await.is_err() {
        return false;
    }
    while !is_complete(&answer) {
        if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
            return false;
        }
    }
    true
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Slow {
    Header,
    Body,
    Reading,
    Idle,
}

impl Slow {
    /// The deadline that ends the connection, in seconds.
    fn limit(self) -> u64 {
        match self {
            Self::Header => 20,
            Self::Body => 21,
            Self::Reading => 22,
            Self::Idle => 23,
        }
    }

    /// Continues until the server closes the connection, and returns how long that took.
    async fn hold(self, mut stream: TcpStream) -> Duration {
        let pause = Duration::from_secs(1);
        let ui = b"GET /api/v1/ui HTTP/1.1\r\nHost: a\r\n\r\n".repeat(8);
        match self {
            Self::Header => stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap(),
            Self::Body => stream.write_all(format!("{POST}Content-Length: 1000\r\n\r\n").as_bytes()).await.unwrap(),
            Self::Reading => stream.write_all(&ui).await.unwrap(),
            Self::Idle => assert!(ask(&mut stream, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await),
        }
        let started = Instant::now();
        let (mut from, mut to) = stream.into_split();
        match self {
            Self::Header | Self::Body => {
                let drip = async {
                    while to.write_all(b"x").await.is_ok() {
                        sleep(pause).await;
                    }
                };
                let end = async { while from.read(&mut [0; 64]).await.unwrap_or(0) > 0 {} };
                tokio::join!(drip, end);
            }
            // A write to a closed connection returns an error. A write to a connection that is only blocked returns `WouldBlock`.
            Self::Reading => {
                while !matches!(to.try_write(b"\r\n"), Err(error) if error.kind() != std::io::ErrorKind::WouldBlock) {
                    sleep(pause / 4).await;
                }
            }
            Self::Idle => assert_eq!(from.read(&mut [0; 64]).await.unwrap_or(0), 0),
        }
        started.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: half a minute, thousands of connections, and a figure that takes a machine without other work"]
async fn thousands_of_slow_connections_are_cut_off_in_time_and_slow_nobody_down() {
    const EACH: usize = 1250;
    let server = TestServer::with(&[
        "--log=warn",
        "--connections=10000",
        "--connections-per-client=10000",
        "--header-timeout=20s",
        "--body-timeout=21s",
        "--request-timeout=22s",
        "--idle-timeout=23s",
    ]);
    let token = server.user("jo@example.com").await;
    let before = memory(&server, "VmRSS");
    let mut held = Vec::new();
    let connecting = Instant::now();
    for n in 0..4 * EACH {
        let kind = [Slow::Header, Slow::Body, Slow::Reading, Slow::Idle][n % 4];
        let stream = connect(&server).await;
        held.push(tokio::spawn(async move { (kind, kind.hold(stream).await) }));
    }
    let request = format!("GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    let mut stream = connect(&server).await;
    let mut took = Vec::new();
    println!("connected in {:?}", connecting.elapsed());
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(8) {
        if let Some(n) = held.iter().position(tokio::task::JoinHandle::is_finished) {
            panic!("after {:?}: {:?}", started.elapsed(), held.remove(n).await);
        }
        for _ in 0..100 {
            let asked = Instant::now();
            assert!(ask(&mut stream, request.as_bytes()).await);
            took.push(asked.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
    let most = memory(&server, "VmHWM");
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    println!("held after {:?}", started.elapsed());
    for ended in join_all(held).await {
        let (kind, lasted) = ended.unwrap();
        let limit = Duration::from_secs(kind.limit());
        assert!((limit..limit + LATE_MAX).contains(&(lasted + Duration::from_secs(1))), "{kind:?}: {lasted:?}");
    }
    println!("{} slow connections: p99 {p99:?} of {} requests; {before} KiB, at most {most} KiB", 4 * EACH, took.len());
    assert!(p99 < Duration::from_millis(10), "{p99:?}");
    assert!(most - before < 200 * 1024, "{before} KiB, {most} KiB");
    assert_eq!(server.status_of(&token).await, 200);
}

#[tokio::test]
#[ignore = "long: it looks at the processor for some seconds"]
async fn without_file_descriptors_it_waits_and_goes_on() {
    let server = TestServer::with(&["--log=warn"]);
    assert_eq!(server.get("/auth/user").send().await.status, 401); // the server has counted its descriptors by now
    let limited = Command::new("prlimit").args(["--nofile=256:256", "--pid", &server.pid().to_string()]).status();
    assert!(limited.unwrap().success());
    let mut streams = Vec::new();
    for _ in 0..500 {
        streams.push(connect(&server).await);
    }
    server.log().wait_for("cannot accept a connection");
    let (started, before) = (Instant::now(), processor(&server));
    sleep(Duration::from_secs(5)).await;
    let percent = f64::from(u32::try_from(processor(&server) - before).unwrap()) / started.elapsed().as_secs_f64();
    let said = server.log().text().matches("cannot accept a connection").count();
    drop(streams);
    let started = Instant::now();
    assert_eq!(server.get("/auth/user").send().await.status, 401);
    let back = started.elapsed();
    println!("256 file descriptors: {percent:.1} % of a processor while exhausted, back after {back:?}");
    assert!(percent < 20.0, "{percent} %");
    assert!(back < Duration::from_secs(1), "{back:?}");
    assert!(said < 5, "said {said} times");
}

#[tokio::test]
#[ignore = "long: it looks at the memory, which other work on the machine moves"]
async fn what_is_far_too_large_is_turned_away_and_takes_no_memory() {
    const MIB: usize = 1024 * 1024;
    let server = TestServer::with(&["--log=warn"]);
    let token = server.user("jo@example.com").await;
    for _ in 0..50 {
        raw(&server, format!("{POST}Content-Length: 2\r\n\r\n{{}}").as_bytes()).await;
    }
    let before = memory(&server, "VmHWM");
    let get = "GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\n";
    for (what, request) in [
        ("10,000 headers", format!("{get}{}\r\n", "x: y\r\n".repeat(10_000))),
        ("a URI of 1 MB", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(MIB))),
        ("a token of 1 MB", format!("{get}Authorization: Bearer {}\r\n\r\n", "x".repeat(MIB))),
        ("a method of 1 MB", format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "X".repeat(MIB))),
    ] {
        let answer = raw(&server, request.as_bytes()).await;
        println!("{what}: {}", answer.status);
        assert!(matches!(answer.status, 0 | 400..=499), "{what}: {}", answer.head);
    }
    let mut stream = connect(&server).await;
    stream.write_all(format!("{POST}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
    let chunk = [b"100000\r\n".to_vec(), vec![b'x'; MIB], b"\r\n".to_vec()].concat();
    let (mut from, mut to) = stream.into_split();
    let send = async {
        let mut sent = 0_usize;
        while sent < 10 * 1024 && to.write_all(&chunk).await.is_ok() {
            sent += 1;
        }
        sent
    };
    let receive = async {
        let mut answer = Vec::new();
        while from.read_buf(&mut answer).await.unwrap_or(0) > 0 {}
        String::from_utf8(answer).unwrap()
    };
    let begun = Instant::now();
    let (mib, answer) = timeout(Duration::from_secs(30), async { tokio::join!(send, receive) }).await.unwrap();
    println!("a body of 10 GB: closed after {mib} MiB in {:?}, {:?}", begun.elapsed(), answer.lines().next());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(mib < 10 * 1024, "all of it was taken");
    let more = memory(&server, "VmHWM") - before;
    println!("memory: {more} KiB more than before");
    assert!(more <= 5 * 1024, "{more} KiB");
    assert_eq!(server.status_of(&token).await, 200);
}
