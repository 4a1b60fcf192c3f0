//! How the server stops, and what its log looks like.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::Value;

use crate::api::harness::{PASSWORD, TestServer};

fn connect(server: &TestServer) -> TcpStream {
    TcpStream::connect(server.base.trim_start_matches("http://")).unwrap()
}

#[tokio::test]
async fn sigterm_and_sigint_finish_what_is_in_flight_and_exit_0() {
    for name in ["TERM", "INT"] {
        let mut server = TestServer::start();
        // A request whose body comes in two parts, with the signal between them: surely in flight.
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
            std::thread::yield_now(); // until it accepts no more
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
    assert_eq!(line["span"]["id"], "from-the-proxy");
    assert_eq!(line["span"]["route"], "/api/v1/auth/user");
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
