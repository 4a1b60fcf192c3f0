//! The server under a service manager: the notifications that it sends, and the socket that is passed to it. `tests/systemd` tests it with
//! systemd.

use std::{
    cell::{Cell, RefCell},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    process::{Child, Command, Stdio},
    time::Duration,
};

use latchkey::supervisor;
use tempfile::TempDir;

use crate::api::harness::{latchkey, send_signal};

const PATIENCE: Duration = Duration::from_secs(30);

/// A child process that is killed at the end of its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A service manager that receives notifications, and the address and the process of the server that it started.
struct Manager {
    told: UnixDatagram,
    server: Running,
    address: String,
    _dir: TempDir,
}

impl Manager {
    fn start(settings: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().unwrap();
        let told = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        told.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = latchkey();
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path().join("data"));
        command.env("NOTIFY_SOCKET", dir.path().join("notify")).envs(settings.iter().copied());
        let mut server = Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        let address = address(&mut server.0);
        Self { told, server, address, _dir: dir }
    }

    /// Receives the next message.
    fn next(&self) -> String {
        let mut bytes = [0; 1000];
        let length = self.told.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }
}

/// Returns the address that the server prints.
fn address(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
    let line = lines.find_map(|line| line.trim().strip_prefix("Start page  http://").map(ToOwned::to_owned));
    line.expect("the server did not start").trim_end_matches('/').to_owned()
}

fn status_of_start_page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn readiness_is_told_when_requests_are_answered_and_the_end_when_it_begins() {
    let mut manager = Manager::start(&[]);
    let address = manager.address.clone();
    assert_eq!(manager.next(), format!("READY=1\nSTATUS=Listening on {address}\n"));
    assert_eq!(status_of_start_page(&address), "HTTP/1.1 200 OK");
    send_signal(manager.server.0.id(), "TERM");
    assert!(manager.next().starts_with("STOPPING=1\n"), "and no watchdog was asked for");
    assert!(manager.server.0.wait().unwrap().success());
}

#[test]
fn the_watchdog_is_fed_where_there_is_one() {
    let manager = Manager::start(&[("WATCHDOG_USEC", "20000")]);
    assert!(manager.next().starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1\n");
    }
}

#[tokio::test]
async fn the_watchdog_is_not_fed_while_the_check_fails() {
    let (checks, fed_after) = (Cell::new(0), RefCell::new(Vec::new()));
    let check = || {
        checks.set(checks.get() + 1);
        if (3..=5).contains(&checks.get()) { Err("the disk is gone") } else { Ok(()) }
    };
    let checked_enough = async {
        while checks.get() < 7 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = supervisor::feed(Duration::from_millis(1), check, || fed_after.borrow_mut().push(checks.get())) => {}
        () = checked_enough => {}
    }
    assert_eq!(fed_after.borrow()[..4], [1, 2, 6, 7]);
}

/// Starts the server as `sd_listen_fds(3)` describes, with this socket as file descriptor 3.
fn pass(socket: impl Into<OwnedFd>, sockets: u8) -> (Child, TempDir) {
    let dir = TempDir::new().unwrap();
    let server = latchkey();
    // Safe Rust can pass a socket as stdin. The shell moves it to file descriptor 3.
    let script = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ exec "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(server.get_program()).arg("--data-dir").arg(dir.path().join("data"));
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.env("LISTEN_FDS", sockets.to_string()).stdin(Stdio::from(socket.into()));
    (command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(), dir)
}

#[test]
fn a_socket_that_is_passed_is_served_and_outlives_the_server() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = socket.local_addr().unwrap().to_string();
    for _ in 0..2 {
        // A client that connects before the server has started waits and is served.
        let early = std::thread::spawn({
            let here = here.clone();
            move || status_of_start_page(&here)
        });
        let (mut server, _dir) = pass(socket.try_clone().unwrap(), 1);
        assert_eq!(address(&mut server), here);
        assert_eq!(early.join().unwrap(), "HTTP/1.1 200 OK");
        drop(Running(server));
    }
}

/// The running server reports its address. Only a request to that address shows whether the server responds.
#[test]
fn health_asks_where_the_server_is_and_not_where_it_would_have_been() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let (server, dir) = pass(socket.try_clone().unwrap(), 1);
    let mut server = Running(server);
    let here = address(&mut server.0);
    let health = |listen: &[&str]| {
        let mut command = latchkey();
        command.env("LATCHKEY_LISTEN", "127.0.0.1:1").arg("health").args(listen);
        let output = command.arg("--data-dir").arg(dir.path().join("data")).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(health(&[]), (Some(0), String::new()));
    assert_eq!(health(&["--listen", "127.0.0.1:0"]).0, Some(0), "port 0 says nothing about where");
    assert_eq!(health(&["--listen", "127.0.0.1:1"]).0, Some(1), "what is given is asked");

    // A shutdown of one handle of a socket affects all handles: the server runs, and no client can connect.
    TcpStream::from(OwnedFd::from(socket)).shutdown(Shutdown::Both).unwrap();
    let (code, said) = health(&[]);
    assert!(
        code == Some(1) && said.contains(&format!("no answer from {here} (where the server says it is)")),
        "{said}"
    );
    assert!(server.0.try_wait().unwrap().is_none());
}

#[test]
fn what_cannot_be_served_is_refused_with_its_name() {
    let socket = || TcpListener::bind("127.0.0.1:0").unwrap();
    let datagram = UnixDatagram::unbound().unwrap();
    for (started, part) in [
        (pass(socket(), 2), "2 sockets were passed and one is served"),
        (pass(datagram, 1), "is not a valid tcp socket"),
    ] {
        let (mut server, _dir) = (Running(started.0), started.1);
        let said = BufReader::new(server.0.stdout.take().unwrap()).lines().next();
        assert!(said.is_none(), "it serves where it should have refused: {said:?}");
        assert_eq!(server.0.wait().unwrap().code(), Some(1));
        let mut stderr = String::new();
        server.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(stderr.contains("LISTEN_FDS") && stderr.contains(part), "{stderr}");
    }
}
