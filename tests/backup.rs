//! Tests of the command `latchkey backup`.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Output,
};

use tempfile::TempDir;

use crate::{
    api::harness::{ADMIN, TestServer, add_user},
    cli::{refused, run, text},
    full_disk::on_a_full_disk,
    terminal::on_a_terminal,
};

/// Creates a data directory with a user, an administrator, a widget and a logged-out token. Returns its server, which is stopped.
pub(crate) async fn furnished() -> TestServer {
    let mut server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    server.user("Jo@example.com").await;
    let token = server.log_in("jo@example.com").await;
    assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200);
    let fields = [("name", "one"), ("info_url", "https://example.com/"), ("deadline", "2999-12-31")];
    assert_eq!(server.post("/widgets").bearer(&admin).form(&fields).await.status, 201);
    server.stop();
    server
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

pub(crate) fn done(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[tokio::test]
async fn a_backup_is_a_database_of_its_own_with_everything_in_it() {
    let server = furnished().await;
    let data = server.dir.path().join("data");
    let file = server.dir.path().join("copy.redb");
    done(&run(&["backup", file.to_str().unwrap()], &data, ""));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(names(server.dir.path()), ["copy.redb", "data"], "nothing else is left");
    assert_eq!(names(&data), ["latchkey.lock", "latchkey.redb", "signing.key"]);

    let moved = TempDir::new().unwrap();
    done(&run(&["restore", file.to_str().unwrap(), "--init"], &moved.path().join("data"), ""));
    let moved = TestServer::on(moved.into(), &[]);
    moved.log_in("jo@example.com").await;
    let token = moved.admin().await;
    let widgets = moved.get("/widgets").bearer(&token).send().await.json();
    assert_eq!(widgets["items"][0]["name"], "one");
    let copied = redb::ReadOnlyDatabase::open(&file).unwrap();
    let blacklist = redb::TableDefinition::<[u8; 24], ()>::new("blacklist_1");
    let txn = redb::ReadableDatabase::begin_read(&copied).unwrap();
    assert_eq!(redb::ReadableTableMetadata::len(&txn.open_table(blacklist).unwrap()).unwrap(), 1);
}

/// Each user and each token is one transaction. A copy that mixes two moments would have only a part of these writes.
#[tokio::test]
async fn a_backup_beside_a_busy_server_is_one_moment_and_the_server_goes_on() {
    let server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let file = server.dir.path().join("copy.redb");
    let copying = std::thread::spawn({
        let (data, file) = (data.clone(), file.clone());
        move || {
            for _ in 0..8 {
                done(&run(&["backup", "--force", file.to_str().unwrap()], &data, ""));
                done(&run(&["check", file.to_str().unwrap()], &data, ""));
            }
        }
    });
    let mut registered = 0;
    while !copying.is_finished() {
        server.user(&format!("user{registered}@example.com")).await;
        registered += 1;
    }
    copying.join().unwrap();
    assert!(registered > 0);
    done(&run(&["backup", "--force", file.to_str().unwrap()], &data, ""));
    let counted = run(&["check", file.to_str().unwrap()], &data, "");
    assert!(text(&counted.stdout).contains(&format!("is sound: {} users", registered + 1)));
    let to_stdout = run(&["backup", "-"], &data, "");
    assert!(to_stdout.stdout.starts_with(b"redb"));
    assert_eq!(names(&data), ["admin.sock", "latchkey.lock", "latchkey.redb", "signing.key"]);
}

#[test]
fn a_backup_to_stdout_is_the_same_and_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    add_user(&data, ADMIN, true);
    let output = run(&["backup", "-"], &data, "");
    done(&output);
    assert_eq!(names(&data), ["latchkey.lock", "latchkey.redb", "signing.key"]);
    let copy = dir.path().join("copy");
    let file = dir.path().join("copy.redb");
    fs::write(&file, output.stdout).unwrap();
    done(&run(&["restore", file.to_str().unwrap(), "--init"], &copy, ""));
    assert!(text(&run(&["user", "list"], &copy, "").stdout).contains(ADMIN));
}

#[test]
fn a_backup_replaces_a_file_only_when_told_to_and_never_the_database_itself() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    let file = dir.path().join("copy.redb");
    let backup = |args: &[&str]| run(&[&["backup", file.to_str().unwrap()], args].concat(), &data, "");
    refused(&backup(&[]), 1, "there is no latchkey database in");
    assert!(!data.exists() && !file.exists());
    add_user(&data, ADMIN, true);
    fs::write(&file, "last week's").unwrap();
    refused(&backup(&[]), 1, "it exists (--force replaces it)");
    assert_eq!(fs::read(&file).unwrap(), b"last week's");
    done(&backup(&["--force"]));
    assert!(fs::read(&file).unwrap().starts_with(b"redb"));

    for name in ["latchkey.redb", "signing.key", "latchkey.lock"] {
        let file = data.join(name);
        let before = fs::metadata(&file).unwrap().ino();
        refused(
            &run(&["backup", "--force", file.to_str().unwrap()], &data, ""),
            1,
            "is a file that latchkey works with",
        );
        assert_eq!(fs::metadata(&file).unwrap().ino(), before, "{name}");
    }
    refused(&run(&["backup", "--force", dir.path().to_str().unwrap()], &data, ""), 1, "it is a directory");
    refused(&run(&["backup", "/nonexistent/copy"], &data, ""), 1, "cannot write /nonexistent/copy: No such file");
}

#[test]
fn a_backup_that_fails_half_way_leaves_no_file_and_keeps_the_old_one() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    add_user(&data, ADMIN, true);
    let file = dir.path().join("copy.redb");
    fs::write(&file, "last week's").unwrap();
    let output = on_a_full_disk(8, &["backup", "--force", file.to_str().unwrap()], &data, "");
    refused(&output, 1, "cannot copy the database");
    assert_eq!(fs::read(&file).unwrap(), b"last week's");
    assert_eq!(names(dir.path()), ["copy.redb", "data"]);
}

#[test]
fn long_work_shows_how_far_it_is_on_a_terminal_and_nothing_in_a_pipe() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    add_user(&data, ADMIN, true);
    let (copy, users) = (dir.path().join("copy"), dir.path().join("users"));
    done(&run(&["export", users.to_str().unwrap()], &data, ""));
    for (name, line) in
        [("backup", format!("backup --force {}", copy.display())), ("import", format!("import {}", users.display()))]
    {
        let shown = on_a_terminal(&line, &data, "");
        let drawn = format!("\r{name} [##############################] 100%");
        assert!(shown.status.success() && text(&shown.stdout).contains(&drawn), "{}", text(&shown.stdout));
        assert!(text(&shown.stdout).contains("\r\u{1b}[K"), "it is gone at the end");
        let args: Vec<_> = line.split(' ').collect();
        assert_eq!(text(&run(&args, &data, "").stderr), "");
    }
}
