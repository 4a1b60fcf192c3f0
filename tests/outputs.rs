//! Outputs that are full, closed, or a terminal: nothing panics, and nothing that is shown once is lost.

use std::{fs::File, process::Stdio};

use tempfile::TempDir;

use crate::{
    api::harness::{ADMIN, add_user, latchkey},
    backup::done,
    cli::{run, text},
    terminal::on_a_terminal,
};

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn the_server_runs_where_its_banner_cannot_be_printed() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let mut server = latchkey();
    server.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(&data).stdout(full()).stderr(Stdio::null());
    let mut server = server.spawn().unwrap();
    let ready = || run(&["health"], &data, "").status.success();
    let became_ready = (0..3000).any(|_| {
        std::thread::yield_now();
        ready()
    });
    let ended = server.try_wait().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(became_ready && ended.is_none());
}

#[test]
fn a_generated_password_that_cannot_be_printed_is_not_in_force() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    add_user(&data, "jo@example.com", false);
    let before = run(&["export"], &data, "").stdout;
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for args in [
        &["user", "add", "al@example.com", "--generate"][..],
        &["user", "add", "al@example.com", "--generate", "--json"],
        &["user", "set-password", "jo@example.com", "--generate"],
        &["user", "set-password", "jo@example.com", "--generate", "--json"],
    ] {
        for stdout in [full(), closed()] {
            let mut command = latchkey();
            let output = command.args(args).arg("--data-dir").arg(&data).stdout(stdout).stderr(Stdio::piped());
            let output = output.spawn().unwrap().wait_with_output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.starts_with("error: cannot print the password, so"), "{said}");
            assert!(run(&["export"], &data, "").stdout == before, "{args:?}");
        }
    }
}

#[test]
fn no_command_panics_where_its_output_is_full() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    add_user(&data, ADMIN, true);
    let copy = dir.path().join("copy");
    done(&run(&["backup", copy.to_str().unwrap()], &data, ""));
    let copy = copy.to_str().unwrap();
    for args in [
        &["--version"][..],
        &["--help"],
        &["config"],
        &["openapi"],
        &["man"],
        &["completions", "bash"],
        &["user", "list"],
        &["user", "show", ADMIN],
        &["user", "end-sessions", ADMIN],
        &["check"],
        &["check", copy],
        &["export"],
        &["backup", "-"],
        &["import"],
        &["restore", copy],
        &["health"],
        &["user", "nothing"],
    ] {
        for full_stderr in [false, true] {
            let mut command = latchkey();
            command.args(args).env("LATCHKEY_DATA_DIR", &data).stdin(Stdio::null()).stdout(full());
            command.stderr(if full_stderr { full() } else { Stdio::piped() });
            let output = command.spawn().unwrap().wait_with_output().unwrap();
            let code = output.status.code().unwrap();
            assert!(code <= 2, "{args:?} ended with {code}: {}", text(&output.stderr));
            assert!(!text(&output.stderr).contains("panicked"), "{args:?}: {}", text(&output.stderr));
        }
    }
}

#[test]
fn a_backup_is_not_written_to_a_terminal() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    add_user(&data, ADMIN, true);
    let output = on_a_terminal("backup -", &data, "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stdout).contains("it has the password hashes of all users"), "{}", text(&output.stdout));
}
