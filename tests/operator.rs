//! The command line has the same effects with a running server and without one.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
    process::{Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::api::harness::{ADMIN, PASSWORD, TestServer, latchkey};

fn run(data: &Path, args: &[&str], stdin: &str) -> Output {
    let mut command = latchkey();
    command.args(args).arg("--data-dir").arg(data);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// Runs a command that must succeed, and returns its stdout.
fn done(data: &Path, args: &[&str], stdin: &str) -> String {
    let output = run(data, args, stdin);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that must fail, and returns its stderr.
fn refused(data: &Path, args: &[&str], stdin: &str) -> String {
    let output = run(data, args, stdin);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

/// Runs `check` twice on the same kind of data, with a running server and without one. `check` gets the data directory.
fn both_ways(check: impl Fn(&Path)) {
    let server = TestServer::with_admin(&[]);
    check(&server.dir.path().join("data"));
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    done(&data, &["user", "add", ADMIN, "--admin", "--init", "--password-stdin"], PASSWORD);
    check(&data);
}

#[test]
fn users_are_managed_alike_beside_a_running_server_and_without_one() {
    both_ways(|data| {
        let added = done(data, &["user", "add", "Jo@example.com", "--password-stdin"], PASSWORD);
        assert!(added.starts_with("added user Jo@example.com ("), "{added}");
        let again = refused(data, &["user", "add", "jo@example.com", "--password-stdin"], PASSWORD);
        assert_eq!(again, "error: jo@example.com is already registered\n");
        let weak = refused(data, &["user", "add", "al@example.com", "--password-stdin"], "short");
        assert_eq!(weak, "error: the password must have at least 8 characters\n");
        for (command, says) in [
            ("disable", "disabled"),
            ("enable", "enabled"),
            ("promote", "promoted"),
            ("demote", "demoted"),
            ("end-sessions", "ended all sessions of"),
        ] {
            let said = done(data, &["user", command, "jo@EXAMPLE.com"], "");
            assert!(said.starts_with(&format!("{says} Jo@example.com (")), "{said}");
        }
        let shown = done(data, &["user", "show", "jo@example.com"], "");
        assert!(shown.contains("email       Jo@example.com\n") && shown.contains("disabled    no\n"), "{shown}");
        let json: Value = serde_json::from_str(&done(data, &["user", "show", "jo@example.com", "--json"], "")).unwrap();
        assert_eq!((&json["email"], &json["admin"]), (&"Jo@example.com".into(), &false.into()));
        let set = done(data, &["user", "set-password", "jo@example.com", "--generate"], "");
        assert!(set.contains("\npassword: "), "{set}");
        let lines = done(data, &["user", "list", "--json", "--search", "jo"], "");
        assert_eq!(lines.lines().count(), 1);
        assert_eq!(serde_json::from_str::<Value>(&lines).unwrap()["email"], "Jo@example.com");
        assert!(done(data, &["user", "remove", "jo@example.com"], "").starts_with("removed Jo@example.com ("));
        assert_eq!(refused(data, &["user", "show", "jo@example.com"], ""), "error: there is no user jo@example.com\n");
        for command in ["demote", "disable", "remove"] {
            let last = "error: This is the last enabled administrator; make another one first.\n";
            assert_eq!(refused(data, &["user", command, ADMIN], ""), last);
        }
        let table = done(data, &["user", "list"], "");
        assert_eq!(table.lines().count(), 2, "{table}");
    });
}

#[tokio::test]
async fn what_a_command_does_acts_on_the_next_request_to_the_running_server() {
    let server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let token = server.user("jo@example.com").await;
    done(&data, &["user", "promote", "jo@example.com"], "");
    assert_eq!(server.get("/users").bearer(&token).send().await.status, 200);
    done(&data, &["user", "demote", "jo@example.com"], "");
    assert_eq!(server.get("/users").bearer(&token).send().await.status, 403);
    done(&data, &["user", "disable", "jo@example.com"], "");
    assert_eq!(server.status_of(&token).await, 401);
    done(&data, &["user", "enable", "jo@example.com"], "");
    assert_eq!(server.status_of(&token).await, 401);
    done(&data, &["user", "set-password", "jo@example.com", "--password-stdin"], "a very different one\n");
    let form = [("email", "jo@example.com"), ("password", "a very different one")];
    assert_eq!(server.post("/auth/login").form(&form).await.status, 200);
}

#[tokio::test]
async fn a_token_given_on_stdin_is_revoked() {
    let mut server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let (first, second) = (server.user("jo@example.com").await, server.log_in("jo@example.com").await);
    assert_eq!(done(&data, &["token", "revoke"], &format!("{first}\n")), "revoked\n");
    assert_eq!(
        server.get("/auth/user").bearer(&first).send().await.message(),
        "Token blacklisted. Please log in again."
    );
    assert_eq!(done(&data, &["token", "revoke"], &first), "already revoked\n");
    assert_eq!(refused(&data, &["token", "revoke"], "nonsense"), "error: Invalid token. Please log in again.\n");
    server.stop();
    let json: Value = serde_json::from_str(&done(&data, &["token", "revoke", "--json"], &second)).unwrap();
    assert_eq!(json["status"], "success");
    server.start_again();
    assert_eq!(server.status_of(&second).await, 401);
}

#[tokio::test]
async fn the_socket_is_for_its_owner_alone_goes_with_the_server_and_a_stale_one_is_replaced() {
    let mut server = TestServer::start();
    let socket = server.dir.path().join("data/admin.sock");
    let metadata = fs::metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    server.stop();
    assert!(!socket.exists());
    server.start_again();
    server.signal("KILL");
    server.wait();
    assert!(socket.exists(), "a crash leaves it behind");
    let data = server.dir.path().join("data");
    done(&data, &["user", "add", "jo@example.com", "--password-stdin"], PASSWORD);
    server.start_again();
    done(&data, &["user", "show", "jo@example.com"], "");
}

#[tokio::test]
async fn nothing_that_comes_in_over_tcp_is_the_operator() {
    let server = TestServer::with_admin(&[]);
    for name in ["operator", "x-operator", "x-forwarded-for", "x-remote-user", "forwarded"] {
        let answer = server.get("/users").header(name, "operator").send().await;
        assert_eq!(answer.status, 401, "{name}");
    }
}
