//! TLS: which clients are served, what happens when the certificate changes, and how connections end.

use std::{
    fs::{self, Permissions},
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName},
};

use crate::api::harness::{PASSWORD, TestServer, latchkey};

const PATIENCE: Duration = Duration::from_secs(30);

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

/// A certificate and its key as files. They are replaced as in a renewal: complete files are renamed to the old names.
struct Files {
    dir: Arc<TempDir>,
}

impl Files {
    fn with(made: &CertifiedKey<KeyPair>) -> Self {
        let files = Self { dir: Arc::new(TempDir::new().unwrap()) };
        files.renew(made);
        files
    }

    fn cert(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.dir.path().join("key.pem")
    }

    fn replace(path: &Path, text: &str) {
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn renew(&self, made: &CertifiedKey<KeyPair>) {
        Self::replace(&self.cert(), &made.cert.pem());
        Self::replace(&self.key(), &made.signing_key.serialize_pem());
    }

    fn serve(&self) -> TestServer {
        let (cert, key) = (self.cert(), self.key());
        let args = ["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
        TestServer::on(Arc::clone(&self.dir), &args)
    }
}

type Connection = StreamOwned<ClientConnection, TcpStream>;

fn connect_plainly(server: &TestServer) -> TcpStream {
    let stream = TcpStream::connect(server.base.strip_prefix("https://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Opens a connection of a client that trusts these certificates and no other.
fn connect(server: &TestServer, trusted: &[&CertifiedKey<KeyPair>]) -> Connection {
    let mut roots = RootCertStore::empty();
    for made in trusted {
        roots.add(made.cert.der().clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    StreamOwned::new(client, connect_plainly(server))
}

/// Sends `HEAD /` on a connection that stays open, and returns the first line of the response.
fn ask(connection: &mut Connection) -> String {
    head(connection).lines().next().unwrap().to_owned()
}

fn head(connection: &mut Connection) -> String {
    connection.write_all(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

/// Returns the certificate that the server sends on a new connection.
fn shown(server: &TestServer, trusted: &[&CertifiedKey<KeyPair>]) -> CertificateDer<'static> {
    let mut connection = connect(server, trusted);
    assert_eq!(ask(&mut connection), "HTTP/1.1 200 OK");
    connection.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn a_client_that_trusts_the_certificate_is_served_and_one_that_speaks_plainly_is_not() {
    let made = certificate();
    let server = Files::with(&made).serve();
    assert_eq!(shown(&server, &[&made]), *made.cert.der());
    let stranger = certificate();
    let distrust = connect(&server, &[&stranger]).write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap_err();
    assert_eq!(distrust.kind(), ErrorKind::InvalidData, "{distrust}");
    let mut plain = connect_plainly(&server);
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(answer.starts_with(b"HTTP/1.1 400 Bad Request"), "{answer:?}");
}

#[test]
fn a_browser_is_told_to_come_over_tls_from_now_on() {
    let made = certificate();
    let head = head(&mut connect(&Files::with(&made).serve(), &[&made])).to_ascii_lowercase();
    assert!(head.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{head}");
}

#[test]
fn a_renewed_certificate_is_shown_without_a_restart_and_old_connections_go_on() {
    let (old, new) = (certificate(), certificate());
    let files = Files::with(&old);
    let server = files.serve();
    let mut before = connect(&server, &[&old]);
    assert_eq!(ask(&mut before), "HTTP/1.1 200 OK");
    files.renew(&new);
    let since = Instant::now();
    while shown(&server, &[&old, &new]) != *new.cert.der() {
        assert!(since.elapsed() < PATIENCE, "the new certificate is never shown");
    }
    assert_eq!(ask(&mut before), "HTTP/1.1 200 OK");
}

#[test]
fn a_new_pair_that_cannot_be_used_is_told_once_and_the_old_one_stays() {
    let (old, new) = (certificate(), certificate());
    let files = Files::with(&old);
    let server = files.serve();
    let told = || server.log().text().matches("the new certificate is not used; the old one stays").count();
    let until = |times: usize| {
        let since = Instant::now();
        while told() < times {
            assert!(since.elapsed() < PATIENCE, "{}", server.log().text());
            assert_eq!(shown(&server, &[&old, &new]), *old.cert.der());
        }
    };
    // The certificate is replaced before its key, as in a renewal that is not complete.
    Files::replace(&files.cert(), &new.cert.pem());
    until(1);
    fs::remove_file(files.key()).unwrap();
    until(2);
    // The server checks the files once a second. This waits for two more checks, which have nothing new to log.
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(2100) {
        assert_eq!(shown(&server, &[&old]), *old.cert.der());
    }
    files.renew(&new);
    let since = Instant::now();
    while shown(&server, &[&old, &new]) != *new.cert.der() {
        assert!(since.elapsed() < PATIENCE, "the pair that can be used is never shown");
    }
    assert_eq!(told(), 2);
}

#[test]
fn a_pair_that_cannot_be_used_stops_the_start_with_the_name_of_the_setting() {
    let made = certificate();
    let files = Files::with(&made);
    let (cert, key, other) = (files.cert(), files.key(), files.dir.path().join("other.pem"));
    fs::write(&other, certificate().signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
    let garbage = files.dir.path().join("garbage.pem");
    fs::write(&garbage, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let missing = files.dir.path().join("missing.pem");
    let cases: [(Option<&Path>, Option<&Path>, &str); 8] = [
        (Some(&cert), None, "--tls-cert needs --tls-key"),
        (None, Some(&key), "--tls-key needs --tls-cert"),
        (Some(&missing), Some(&key), "--tls-cert: cannot use the certificate"),
        (Some(&cert), Some(&missing), "--tls-key: cannot use the key"),
        (Some(&key), Some(&key), "--tls-cert: cannot use the certificate"),
        (Some(&cert), Some(&cert), "--tls-key: cannot use the key"),
        (Some(&cert), Some(&other), "--tls-cert and --tls-key: "),
        (Some(&garbage), Some(&key), "--tls-cert and --tls-key: "),
    ];
    let data = files.dir.path().join("data");
    for ((cert, key, part), word) in cases.into_iter().flat_map(|case| [(case, "serve"), (case, "config")]) {
        let mut command = latchkey();
        command.arg(word).args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
        for (variable, path) in [("LATCHKEY_TLS_CERT", cert), ("LATCHKEY_TLS_KEY", key)] {
            command.envs(path.map(|path| (variable, path)));
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut byte = [0];
        if child.stdout.as_mut().unwrap().read(&mut byte).unwrap() > 0 {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{part}: {stderr}");
        assert!(stderr.starts_with(&format!("error: {part}")) && stderr.lines().count() == 1, "{part}: {stderr}");
        assert!(!data.exists(), "nothing was made");
    }
}

/// `health` connects to an address of this machine, which no certificate contains.
#[test]
fn health_asks_over_tls_where_the_server_speaks_it() {
    let files = Files::with(&certificate());
    let server = files.serve();
    let health = |with_tls: bool| {
        let mut command = latchkey();
        command.args(["health", "--listen", server.base.strip_prefix("https://").unwrap()]);
        if with_tls {
            command.arg("--tls-cert").arg(files.cert()).arg("--tls-key").arg(files.key());
        }
        command.output().unwrap().status.code()
    };
    assert_eq!((health(true), health(false)), (Some(0), Some(1)));
    let mut told = latchkey();
    told.arg("health").arg("--data-dir").arg(server.dir.path().join("data"));
    assert!(told.status().unwrap().success(), "the running server says that it speaks TLS");
}

#[test]
fn http_without_tls_is_told_where_the_server_speaks_it() {
    let files = Files::with(&certificate());
    let server = files.serve();
    let address = server.base.strip_prefix("https://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
    let message = serde_json::from_str::<serde_json::Value>(body).unwrap()["message"].clone();
    assert_eq!(message, "This port speaks HTTPS: write https:// in the URL");
    let health = latchkey().args(["health", &format!("http://{address}")]).output().unwrap();
    assert_eq!(health.status.code(), Some(1));
    assert!(String::from_utf8(health.stderr).unwrap().contains(&format!("ask https://{address}")));
    assert!(latchkey().args(["health", &format!("https://{address}")]).status().unwrap().success());
}

/// A lingering close works under TLS, too: the client can read the response to its end although the server did not read the body.
#[test]
fn the_answer_to_an_upload_that_is_too_large_arrives() {
    let made = certificate();
    let server = Files::with(&made).serve();
    let mut connection = connect(&server, &[&made]);
    let body = vec![b'x'; 4 * 1024 * 1024];
    let head = format!(
        "POST /api/v1/auth/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    let _ = connection.write_all(&body);
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn sigterm_finishes_what_is_in_flight_and_waits_for_no_handshake() {
    let made = certificate();
    let mut server = Files::with(&made).serve();
    let body = format!(r#"{{"email":"jo@example.com","password":"{PASSWORD}"}}"#);
    let (first, second) = body.split_at(10);
    let mut silent = connect_plainly(&server); // accepted before the next connection
    let mut connection = connect(&server, &[&made]);
    let head = format!(
        "POST /api/v1/auth/register HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    connection.read_exact(&mut interim).unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100 Continue"));
    connection.write_all(first.as_bytes()).unwrap();
    server.signal("TERM");
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "closed without an answer");
    connection.write_all(second.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 Created"), "{answer}");
    assert!(server.wait().success());
}

#[test]
fn a_client_that_does_not_shake_hands_is_cut_off_and_holds_up_nobody() {
    let made = certificate();
    let server = Files::with(&made).serve();
    let mut silent = connect_plainly(&server);
    assert_eq!(shown(&server, &[&made]), *made.cert.der());
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "cut off");
}
