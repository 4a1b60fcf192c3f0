//! Limits on connections of IPv6 clients, each of which has a whole network of addresses.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::harness::latchkey;

/// The variable that marks this process as running in its own network namespace.
const INSIDE: &str = "TEST_IN_A_NETWORK_OF_ITS_OWN";
/// The addresses of the clients with the expected status, in the order of the requests.
const CLIENTS: [(&str, &str); 6] = [
    ("fd00:0:0:1::1", "200"),
    ("fd00:0:0:1:ffff:ffff:ffff:ffff", "200"),
    ("fd00:0:0:1::2", "503"),
    ("fd00:0:0:2::1", "200"),
    ("fd00:0:0:2::2", "200"),
    ("fd00:0:0:2::3", "503"),
];
const NAME: &str = "api::wire_ipv6::connections_of_one_64_are_counted_together_and_those_of_another_apart";

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Connects from this address, and returns the status of the response and the open connection. A connection that is to be refused sends
/// nothing, because unread data would reset the connection and discard the response.
async fn connect(server: &str, from: &str, is_refused: bool) -> (String, TcpStream) {
    let socket = TcpSocket::new_v6().unwrap();
    socket.bind(format!("[{from}]:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(server.parse().unwrap()).await.unwrap();
    if !is_refused {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    }
    let mut status = [0; 12];
    let answered = stream.read_exact(&mut status).await;
    (answered.map_or_else(|error| error.to_string(), |_| String::from_utf8_lossy(&status[9..]).into_owned()), stream)
}

/// Runs this test again in a network namespace where it can add addresses.
#[tokio::test]
async fn connections_of_one_64_are_counted_together_and_those_of_another_apart() {
    if std::env::var_os(INSIDE).is_none() {
        let addresses = CLIENTS.map(|(from, _)| format!("ip -6 address add {from}/128 dev lo nodad && ")).concat();
        let set_up = |then: &str| {
            let mut command = Command::new("unshare");
            command.args(["--net", "sh", "-c", &format!("ip link set lo up && {addresses}{then}"), "sh"]);
            command
        };
        if !set_up("true").output().is_ok_and(|output| output.status.success()) {
            println!("skipped: only root can make a network of its own");
            return;
        }
        let mut again = set_up(r#"exec "$@""#);
        again.arg(std::env::current_exe().unwrap()).args(["--exact", NAME, "--nocapture"]).env(INSIDE, "1");
        let output = again.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("1 passed"), "{said}");
        return;
    }
    let dir = TempDir::new().unwrap();
    let mut command = latchkey();
    command
        .args(["--listen", "[::1]:0", "--connections-per-client", "2", "--header-timeout", "2s", "--data-dir"])
        .arg(dir.path().join("data"));
    let mut server = Killed(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let page = |line: String| line.trim().strip_prefix("Start page  http://").map(str::to_owned);
    let address = lines.by_ref().map_while(Result::ok).find_map(page).expect("it starts");
    let address = address.trim_end_matches('/');
    let mut open = Vec::new();
    for (from, expected) in CLIENTS {
        let (status, stream) = connect(address, from, expected == "503").await;
        assert_eq!(status, expected, "{from}");
        open.push(stream);
    }
}
