//! Memory under attack: the server with default settings in a control group of 256 MiB, or with a limit on its data if no control group
//! can be created.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    ambiguous::POST,
    harness::{PASSWORD, TestServer},
    metrics::{scrape, value},
    raw::is_complete,
};

const ASK: &str = "GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\n";
const MIB: usize = 1024 * 1024;
const MEMORY_BYTES: usize = 256 * MIB;
/// A hundred fewer connections than the server accepts.
const SLOW: usize = 2900;
/// Connections per address. The default limit is twice as many.
const SLOW_OF_ADDRESS: usize = 500;
const LOGINS_AT_ONCE: usize = 16;
const ATTACK: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(30);

/// A control group of one process.
struct Group(PathBuf);

impl Group {
    /// Returns `None` if this process cannot create a control group with a memory limit.
    fn make(name: u32) -> Option<Self> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let below = |start: &str, root: &str| {
            let path = own.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(start))?;
            Some(Path::new(root).join(path.trim_start_matches('/')).join(format!("latchkey-test-{name}")))
        };
        let path = below("memory:", "/sys/fs/cgroup/memory").or_else(|| below(":", "/sys/fs/cgroup"))?;
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        group.limit_file().exists().then_some(group)
    }

    fn limit_file(&self) -> PathBuf {
        let first = self.0.join("memory.limit_in_bytes");
        if first.exists() { first } else { self.0.join("memory.max") }
    }

    /// Returns the peak memory usage.
    fn most(&self) -> String {
        let read = |name| fs::read_to_string(self.0.join(name));
        read("memory.max_usage_in_bytes").or_else(|_| read("memory.peak")).unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The group can be removed when its process has ended, which takes a moment.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Limits the memory of the server, including what it uses already.
fn limit(server: &TestServer) -> Option<Group> {
    let pid = server.pid();
    let Some(group) = Group::make(pid) else {
        let data = format!("--data={MEMORY_BYTES}:{MEMORY_BYTES}");
        assert!(Command::new("prlimit").args([&data, "--pid", &pid.to_string()]).status().unwrap().success());
        println!("no control group can be made here: its data alone is limited");
        return None;
    };
    fs::write(group.limit_file(), (MEMORY_BYTES - resident(server)).to_string()).unwrap();
    fs::write(group.0.join("cgroup.procs"), pid.to_string()).unwrap();
    Some(group)
}

/// Returns the resident memory in bytes.
fn resident(server: &TestServer) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it lives");
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

async fn connect(server: &str, n: usize) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(format!("127.0.1.{}:0", 1 + n / SLOW_OF_ADDRESS).parse().unwrap())?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(server.parse().unwrap()).await
}

/// Repeatedly sends what takes memory, and keeps the connection until the server closes it.
async fn attack(server: String, n: usize, kinds: &'static [Slow]) {
    let bytes = kinds[n % kinds.len()].bytes();
    loop {
        if let Ok(mut stream) = connect(&server, n).await {
            let sent = timeout(Duration::from_secs(2), stream.write_all(&bytes)).await;
            // If the write succeeded or blocks, the client waits until the server closes the connection. It reads only one byte per second,
            // because unread data does not end the connection.
            if !matches!(sent, Ok(Err(_))) {
                let mut byte = [0; 1];
                let is_open = |answered: std::io::Result<usize>| answered.is_ok_and(|count| count > 0);
                while is_open(stream.read(&mut byte).await) {
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Sends these bytes and returns the status of the response, or 0 if there is none.
async fn status(stream: &mut TcpStream, bytes: &[u8]) -> u16 {
    let mut answer = Vec::new();
    if stream.write_all(bytes).await.is_err() {
        return 0;
    }
    while !is_complete(&answer) {
        if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
            return 0;
        }
    }
    str::from_utf8(&answer[9..12]).unwrap().parse().unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Slow {
    /// A header line without an end, and a head without an end.
    Line,
    Header,
    /// An incomplete body, and one that is too large.
    Body,
    TooLarge,
    /// Requests pages and does not read the responses.
    Reading,
    Idle,
}

impl Slow {
    fn bytes(self) -> Vec<u8> {
        let get = "GET /api/v1/ui HTTP/1.1\r\nHost: a\r\n";
        let text = match self {
            Self::Line => format!("{get}x: {}", "x".repeat(60 * 1024)),
            Self::Header => format!("{get}{}", format!("x: {}\r\n", "x".repeat(600)).repeat(99)),
            Self::Body => format!("{POST}Content-Length: 65536\r\n\r\n{}", "x".repeat(65_000)),
            Self::TooLarge => format!("{POST}Content-Length: 1000000\r\n\r\n{}", "x".repeat(100_000)),
            Self::Reading => format!("{get}\r\n").repeat(400),
            Self::Idle => format!("{get}\r\n").replace("/api/v1/ui", "/healthz"),
        };
        text.into_bytes()
    }
}

async fn survives(kinds: &'static [Slow]) {
    let group; // dropped after the server, because its process must have ended
    let server = TestServer::with(&["--log=warn", "--scrypt=ln=15,r=8,p=3"]);
    let token = server.user("jo@example.com").await;
    group = limit(&server);
    let address = server.base.strip_prefix("http://").unwrap().to_owned();
    // This connection is opened before the attack, because new connections may be refused.
    let mut inside = TcpStream::connect(&address).await.unwrap();
    let request = format!("{ASK}Authorization: Bearer {token}\r\n\r\n");
    let mut attackers = JoinSet::new();
    for n in 0..SLOW {
        attackers.spawn(attack(address.clone(), n, kinds));
    }
    for n in 0..LOGINS_AT_ONCE {
        let (client, url) = (reqwest::Client::new(), format!("{}/api/v1/auth/login", server.base));
        attackers.spawn(async move {
            let (email, password) = (format!("u{n}@example.com"), PASSWORD);
            loop {
                let _ = client.post(&url).form(&[("email", email.as_str()), ("password", password)]).send().await;
            }
        });
    }
    let (started, mut asked, mut longest) = (Instant::now(), 0, Duration::ZERO);
    while started.elapsed() < ATTACK {
        let begun = Instant::now();
        assert_eq!(status(&mut inside, request.as_bytes()).await, 200, "{kinds:?}");
        (asked, longest) = (asked + 1, longest.max(begun.elapsed()));
        sleep(Duration::from_millis(20)).await;
    }
    let most = resident(&server) / MIB;
    attackers.shutdown().await;
    let form = [("email", "jo@example.com"), ("password", PASSWORD)];
    // Passwords of clients that are gone may still be in the queue before it.
    let mut answer = server.post("/auth/login").may_fail().form(&form).await;
    while answer.status == 503 && started.elapsed() < ATTACK + PATIENCE {
        answer = server.post("/auth/login").may_fail().form(&form).await;
    }
    assert_eq!(answer.status, 200, "{}", answer.text);
    let used = group.as_ref().map(Group::most);
    println!(
        "{kinds:?}: {asked} asked, the longest {longest:?}; {most} MiB at the end, at most {used:?} bytes since the limit"
    );
    assert!(!server.log().text().contains("panicked"), "{}", server.log().text());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: two minutes, and thousands of connections"]
async fn with_256_mib_it_is_never_killed_whatever_strangers_do() {
    survives(&[Slow::Line, Slow::Header, Slow::Body, Slow::TooLarge, Slow::Reading, Slow::Idle]).await;
    survives(&[Slow::Line]).await;
    survives(&[Slow::TooLarge]).await;
    survives(&[Slow::Reading]).await;
}

#[tokio::test]
async fn large_requests_that_are_incomplete_have_an_end_and_small_ones_are_taken_beside_them() {
    let server = TestServer::with(&["--metrics-listen=127.0.0.1:0"]);
    let token = server.user("jo@example.com").await;
    let address = server.base.strip_prefix("http://").unwrap().to_owned();
    let mut held = JoinSet::new();
    for n in 0..300 {
        let stream = connect(&address, n).await.unwrap();
        let bytes = [Slow::Line, Slow::Header, Slow::Body][n % 3].bytes();
        held.spawn(async move {
            let mut stream = stream;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.read(&mut [0; 1]).await; // until the server responds or closes
        });
    }
    // The 300 requests need twice the space that the server has for incomplete requests.
    while value(&scrape(&server).await, "connections_refused_total") < 100.0 {
        assert_eq!(server.status_of(&token).await, 200);
    }
    // Small requests are also served if they arrive in parts.
    let mut parts = Vec::new();
    for n in 0..400 {
        let mut stream = connect(&address, n).await.unwrap();
        stream.write_all(format!("{ASK}x: {}", "x".repeat(3000)).as_bytes()).await.unwrap();
        parts.push(stream);
    }
    for mut stream in parts {
        assert_eq!(status(&mut stream, b"\r\n\r\n").await, 401);
    }
    held.shutdown().await;
    // There is space again when the server has noticed that the connections are closed.
    while value(&scrape(&server).await, "connections") > 10.0 {}
    let large = "x".repeat(20 * 1024);
    assert_eq!(server.get("//").header("x", &large).send().await.status, 200);
}

#[tokio::test]
async fn large_requests_that_are_complete_take_no_room() {
    let server = TestServer::start();
    let address = server.base.strip_prefix("http://").unwrap();
    let large = "x".repeat(20 * 1024);
    let requests =
        [format!("{ASK}x: {large}\r\n\r\n"), format!("{POST}Content-Length: {}\r\n\r\n{large}", large.len())];
    let mut held = Vec::new();
    // The requests of each kind alone need more space than the server has for incomplete requests.
    for n in 0..400 {
        let mut stream = connect(address, n).await.unwrap();
        for _ in 0..3 {
            assert_ne!(status(&mut stream, requests[n % 2].as_bytes()).await, 0, "connection {n}");
        }
        held.push(stream);
    }
}
