//! The server behind `nginx` and `haproxy`, which send the requests of many clients on the same connections.
//!
//! Bytes that a client hides in its request must not become a separate request between the proxy and the server (request smuggling). With
//! `--trusted-proxy` the log shows it: the proxy writes the client's address into each request that it knows, so that a request that it
//! does not know has another client. If the proxy itself finds a second request after the first (HTTP allows that), the request has the
//! right address.
//!
//! The proxies refuse or rewrite most of these requests, so that they reach the server with one meaning. For these the test shows that the
//! proxies and the server interpret requests in the same way. `wire` sends ambiguous requests directly.
//!
//! The test passes a listening socket to each proxy as its standard input, so that no other process can take the port first.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    time::timeout,
};

use super::{
    ambiguous::{ambiguous, hiding},
    harness::TestServer,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Loopback addresses of the parties of the test. The proxy has 127.0.0.1.
const ATTACKER: &str = "127.0.0.2";
const VICTIM: &str = "127.0.0.3";
/// The address that an attacker claims to have.
const SPOOFED: &str = "192.0.2.66";
/// The number of clients that send a request after each attack: more than the proxy keeps connections.
const VICTIMS: usize = 5;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Nginx,
    /// nginx without buffering of requests. It also accepts fields that it drops by default.
    NginxUnbuffered,
    Haproxy,
    /// haproxy that accepts requests that it refuses by default.
    HaproxyLenient,
}

const KINDS: [Kind; 4] = [Kind::Nginx, Kind::NginxUnbuffered, Kind::Haproxy, Kind::HaproxyLenient];

/// A proxy in front of a server.
struct Proxy {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Proxy {
    fn start(kind: Kind, server: &TestServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = server.base.strip_prefix("http://").unwrap();
        let dir = TempDir::new().unwrap();
        let said = File::create(dir.path().join("said")).unwrap();
        let config = dir.path().join("config");
        let mut command = match kind {
            Kind::Nginx | Kind::NginxUnbuffered => {
                let unbuffered = "proxy_request_buffering off; ignore_invalid_headers off; underscores_in_headers on;";
                let options = if matches!(kind, Kind::Nginx) { "" } else { unbuffered };
                fs::write(&config, nginx(address, upstream, options)).unwrap();
                let mut command = Command::new("nginx");
                command.args(["-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(&config).env("NGINX", "0;");
                command
            }
            Kind::Haproxy | Kind::HaproxyLenient => {
                let options = if matches!(kind, Kind::Haproxy) { "" } else { "option accept-invalid-http-request" };
                fs::write(&config, haproxy(upstream, options)).unwrap();
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(&config);
                command
            }
        };
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
        let child = command.stdout(said.try_clone().unwrap()).stderr(said).spawn();
        let child = child.unwrap_or_else(|error| {
            panic!("nginx and haproxy must be installed and in PATH, which /usr/sbin has to be in (tests/run installs them): {error}")
        });
        Self { child, address, dir }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("said")).unwrap()
    }

    /// Sends these bytes from this loopback address, closes its sending side, and returns all bytes that arrive.
    async fn send(&self, from: &str, bytes: &[u8]) -> String {
        let talk = async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
            let (mut from, mut to) = socket.connect(self.address).await.unwrap().into_split();
            let send = async {
                let _ = to.write_all(bytes).await; // the proxy may refuse it before it has read all of it
                let _ = to.shutdown().await;
            };
            let mut answer = Vec::new();
            let receive = async { while from.read_buf(&mut answer).await.unwrap_or(0) > 0 {} };
            tokio::join!(send, receive);
            String::from_utf8_lossy(&answer).to_ascii_lowercase()
        };
        let talked = timeout(PATIENCE, talk).await;
        talked.unwrap_or_else(|_| panic!("no end: {}\n{}", String::from_utf8_lossy(bytes), self.said()))
    }

    /// Sends a request on a new connection, and checks that only its own response arrives.
    async fn ask_as_victim(&self, id: &str, after: &str) {
        let request =
            format!("GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\nConnection: close\r\n\r\n");
        let answer = self.send(VICTIM, request.as_bytes()).await;
        let said = || format!("{after:?}\n{answer}\n{}", self.said());
        assert!(answer.starts_with("http/1.1 401 "), "{}", said());
        assert!(answer.contains(&format!("\r\nx-request-id: {id}\r\n")), "{}", said());
        assert_eq!(answer.matches("http/1.1 ").count(), 1, "{}", said());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // At SIGTERM, nginx ends its workers itself.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn nginx(address: SocketAddr, upstream: &str, options: &str) -> String {
    format!(
        "daemon off; user root; worker_processes 1; pid pid; error_log stderr;
        events {{ worker_connections 100; }}
        http {{
            access_log off;
            client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
            upstream latchkey {{ server {upstream}; keepalive 4; }}
            server {{
                listen {address};
                # Who sends no more still takes the answer.
                proxy_ignore_client_abort on;
                {options}
                location / {{
                    proxy_pass http://latchkey;
                    proxy_http_version 1.1;
                    proxy_set_header Connection \"\";
                    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                }}
            }}
        }}\n"
    )
}

fn haproxy(upstream: &str, options: &str) -> String {
    format!(
        "global\n maxconn 100\n nbthread 1\n\
         defaults\n mode http\n timeout connect 10s\n timeout client 10s\n timeout server 10s\n option forwardfor\n http-reuse always\n\
         frontend clients\n bind fd@0\n {options}\n default_backend latchkey\n\
         backend latchkey\n server latchkey {upstream}\n"
    )
}

fn behind_a_proxy() -> TestServer {
    TestServer::with(&["--trusted-proxy=127.0.0.1"])
}

/// Returns the addresses of the clients in the log.
fn clients(server: &TestServer) -> BTreeSet<String> {
    let log = server.log().text();
    let client =
        |line: &str| line.split_once(" client=").map(|(_, rest)| rest.split(['}', ' ']).next().unwrap().to_owned());
    log.lines().filter_map(client).collect()
}

/// Returns the remote addresses of the connections to the server. They include connections that were closed within the last minute.
fn connections(server: &TestServer) -> BTreeSet<String> {
    let port: u16 = server.base.rsplit(':').next().unwrap().parse().unwrap();
    let ours = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let peer = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote) = (fields.next()?, fields.next()?);
        let is_listener = remote.ends_with(":0000");
        if local == ours && !is_listener { Some(remote.to_owned()) } else { (remote == ours).then(|| local.to_owned()) }
    };
    table.lines().filter_map(peer).collect()
}

#[tokio::test]
async fn nobody_hides_a_request_in_another_behind_a_proxy() {
    let smuggled = format!(
        "GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\nX-Request-Id: smuggled\r\nX-Forwarded-For: {SPOOFED}\r\n\r\n"
    );
    let behind = ambiguous().into_iter().map(|first| first + &smuggled);
    let attacks: Vec<_> = hiding(&smuggled).into_iter().chain(behind).collect();
    for kind in KINDS {
        let server = behind_a_proxy();
        let proxy = Proxy::start(kind, &server);
        proxy.ask_as_victim("first", "nothing").await;
        for (n, attack) in attacks.iter().enumerate() {
            proxy.send(ATTACKER, attack.as_bytes()).await;
            for victim in 0..VICTIMS {
                proxy.ask_as_victim(&format!("victim-{n}-{victim}"), attack).await;
            }
            server.log().wait_for(&format!("victim-{n}-{}", VICTIMS - 1));
            let clients = clients(&server);
            let known = clients.iter().all(|client| client == ATTACKER || client == VICTIM);
            assert!(known, "{kind:?}: {attack:?}\n{}", server.log().text());
        }
        assert!(clients(&server).contains(ATTACKER), "{kind:?}: nothing went through");
    }
}

#[tokio::test]
async fn a_proxy_sends_the_requests_of_many_clients_on_few_connections() {
    for kind in KINDS {
        let server = behind_a_proxy();
        let proxy = Proxy::start(kind, &server);
        let before = connections(&server); // connections of an earlier server with this port
        for n in 0..20 {
            proxy.ask_as_victim(&format!("ask-{n}"), "nothing").await;
        }
        let made = connections(&server).difference(&before).count();
        assert!((1..=2).contains(&made), "{kind:?}: {made}");
    }
}

#[tokio::test]
async fn the_client_is_whom_the_proxy_saw_and_not_whom_it_says_to_be() {
    for kind in KINDS {
        let server = behind_a_proxy();
        let proxy = Proxy::start(kind, &server);
        for (id, fields) in [
            ("plain", String::new()),
            ("spoofed", format!("X-Forwarded-For: {SPOOFED}\r\n")),
            ("twice", format!("X-Forwarded-For: {SPOOFED}\r\nX-Forwarded-For: 127.0.0.1, {SPOOFED}\r\n")),
            ("trusted", "X-Forwarded-For: 127.0.0.1\r\n".to_owned()),
            ("no-text", "X-Forwarded-For: \u{ff}, 127.0.0.1,\r\n".to_owned()),
            (
                "other-names",
                format!("Forwarded: for={SPOOFED}\r\nX-Real-IP: {SPOOFED}\r\nX_Forwarded_For: {SPOOFED}\r\n"),
            ),
            ("dropped", format!("X-Forwarded-For: {SPOOFED}\r\nConnection: X-Forwarded-For\r\n")),
        ] {
            let request = format!("GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n{fields}\r\n");
            let answer = proxy.send(ATTACKER, request.as_bytes()).await;
            assert!(answer.starts_with("http/1.1 401 "), "{kind:?} {id}: {answer}\n{}", proxy.said());
            server.log().wait_for(&format!("id=\"{id}\""));
            assert_eq!(clients(&server), BTreeSet::from([ATTACKER.to_owned()]), "{kind:?} {id}");
        }
    }
}
