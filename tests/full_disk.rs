//! What happens where the disk is full: it is said, nothing that was there is lost, and nothing is left lying around.
//!
//! A limit on the size of a file stands in for the disk: to who writes, both are an error half-way.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output},
    sync::Arc,
    time::Instant,
};

use tempfile::TempDir;

use crate::{
    api::harness::{ADMIN, TestServer, add_user, latchkey},
    backup::{done, names},
    cli::{finish, refused, run, text},
    hashes::BCRYPT,
};

/// Two transactions of an import and the beginning of a third.
const LINES: usize = 20_000;
/// Room for the first of them.
const ROOM_KIB: u32 = 4000;

/// Runs the program where no file can have more than so many KiB.
pub(crate) fn on_a_full_disk(kib: u32, args: &[&str], data: &Path, stdin: &str) -> Output {
    let mut command = Command::new("bash");
    // Ignored, a write behind the limit is an error instead of a deadly signal.
    command.args(["-c", "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"", &kib.to_string()]);
    command.arg(latchkey().get_program()).args(args).arg("--data-dir").arg(data);
    finish(command.env("LATCHKEY_SCRYPT", "ln=1,r=8,p=1"), stdin)
}

fn lines() -> String {
    (0..LINES).fold(String::new(), |mut lines, n| {
        writeln!(lines, r#"{{"email": "user{n}@example.com", "password_hash": "{BCRYPT}"}}"#).unwrap();
        lines
    })
}

fn users(data: &Path) -> usize {
    let output = run(&["check"], data, "");
    done(&output);
    let said = text(&output.stdout);
    let counted = said.split(" is sound: ").nth(1).and_then(|rest| rest.split(' ').next());
    counted.unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

#[test]
fn a_first_start_says_what_it_cannot_make_leaves_nothing_and_works_where_there_is_room() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let output = on_a_full_disk(8, &["--log", "error", "--listen", "127.0.0.1:0"], &data, "");
    refused(&output, 1, &format!("cannot create {}/latchkey.redb: I/O error: File too large", data.display()));
    assert_eq!(names(&data), ["latchkey.lock"]);
    add_user(&data, ADMIN, true);
    assert_eq!(users(&data), 1);
}

#[test]
fn a_restore_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("copy.redb"));
    add_user(&data, "new@example.com", false);
    done(&run(&["backup", file.to_str().unwrap()], &data, ""));
    add_user(&data, ADMIN, true);
    let (before, beside) = (fs::read(data.join("latchkey.redb")).unwrap(), names(&data));
    let output = on_a_full_disk(8, &["restore", file.to_str().unwrap()], &data, "");
    refused(&output, 1, &format!("cannot copy {}: File too large", file.display()));
    assert!(fs::read(data.join("latchkey.redb")).unwrap() == before);
    assert_eq!(names(&data), beside);
    assert_eq!(users(&data), 2);
}

#[test]
fn an_import_keeps_what_was_there_and_what_it_added_and_goes_on_where_there_is_room() {
    let dir = TempDir::new().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("users.ndjson"));
    add_user(&data, ADMIN, true);
    let beside = names(&data);
    fs::write(&file, lines()).unwrap();
    refused(&on_a_full_disk(8, &["import"], &data, &lines()), 1, "cannot copy stdin to the data directory: File too");
    assert_eq!((users(&data), names(&data)), (1, beside.clone()));
    let output = on_a_full_disk(ROOM_KIB, &["import", file.to_str().unwrap()], &data, "");
    refused(
        &output,
        1,
        "the import stopped half-way; what it added stays, and another run goes on from there: I/O error",
    );
    let added = users(&data);
    assert!((2..=LINES).contains(&added), "{added}");
    assert_eq!(names(&data), beside);
    done(&run(&["import", file.to_str().unwrap()], &data, ""));
    assert_eq!(users(&data), LINES + 1);
}

#[test]
fn an_import_beside_a_server_is_told_why_it_stopped_and_nothing_is_lost() {
    let dir = Arc::new(TempDir::new().unwrap());
    let (data, file) = (dir.path().join("data"), dir.path().join("users.ndjson"));
    add_user(&data, ADMIN, true);
    fs::write(&file, lines()).unwrap();
    let import = || run(&["import", file.to_str().unwrap()], &data, "");
    let mut server = TestServer::on(Arc::clone(&dir), &[]);
    server.limit_files("102400");
    for _ in 0..8 {
        refused(&import(), 1, "File too large"); // where the server keeps the lines until it has them all
    }
    assert!(text(&run(&["user", "list"], &data, "").stdout).contains(ADMIN), "the server goes on");
    server.limit_files(&(ROOM_KIB * 1024).to_string());
    refused(&import(), 1, "the import stopped half-way; what it added stays");
    server.limit_files("unlimited");
    let mended = Instant::now();
    while !import().status.success() {
        assert!(mended.elapsed().as_secs() < 20, "it does not see that there is room");
    }
    server.stop();
    assert_eq!(users(&data), LINES + 1);
    assert_eq!(names(&data), ["latchkey.lock", "latchkey.redb", "signing.key"]);
}
