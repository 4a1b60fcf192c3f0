//! Tests of the commands `latchkey check` and `latchkey restore`: unsound files are refused, and no data is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use redb::TableDefinition;
use tempfile::TempDir;

use crate::{
    api::harness::{ADMIN, TestServer, add_user, latchkey},
    backup::{done, furnished, names},
    cli::{refused, run, text},
};

const USERS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("users_1");
type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;
const BY_EMAIL: Bytes = TableDefinition::new("users_by_email_2");
const BY_FLAGS: Bytes = TableDefinition::new("users_by_flags_2");
const WIDGET_COUNTS: Bytes = TableDefinition::new("widgets_counts_2");
const COUNTS: Bytes = TableDefinition::new("users_by_flags_counts_2");
const FEED: Bytes = TableDefinition::new("revocations_1");
const FEED_BY_EXPIRY: Bytes = TableDefinition::new("revocations_by_expiry_1");
const BY_SEQUENCE: Bytes = TableDefinition::new("widgets_by_sequence_2");
const SERVICES: Bytes = TableDefinition::new("services_1");
const META: TableDefinition<&str, u64> = TableDefinition::new("latchkey");

fn check(file: &Path) -> std::process::Output {
    run(&["check", file.to_str().unwrap()], Path::new("/nonexistent"), "")
}

/// Copies `good`, applies `change` to the copy, and returns its path.
fn changed(good: &Path, name: &str, change: impl FnOnce(&redb::WriteTransaction)) -> PathBuf {
    let path = good.with_file_name(name);
    fs::copy(good, &path).unwrap();
    let database = redb::Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
    path
}

fn insert(txn: &redb::WriteTransaction, table: Bytes, key: &[u8], value: &[u8]) {
    txn.open_table(table).unwrap().insert(key, value).unwrap();
}

fn remove(txn: &redb::WriteTransaction, table: Bytes, key: &[u8]) {
    txn.open_table(table).unwrap().remove(key).unwrap().unwrap();
}

/// Returns the row of a service of this name.
fn service(name: &[u8]) -> Vec<u8> {
    [&[1, u8::try_from(name.len()).unwrap()], name, &[0; 32 + 1 + 1 + 1 + 1]].concat()
}

/// Replaces `from` with `to`, which has the same length, in every user's record.
fn in_users(txn: &redb::WriteTransaction, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut users = txn.open_table(USERS).unwrap();
    let rows = redb::ReadableTable::iter(&users).unwrap().map(|row| {
        let (id, row) = row.unwrap();
        (id.value(), row.value().to_vec())
    });
    let rows: Vec<_> = rows.collect();
    for (id, mut row) in rows {
        while let Some(at) = row.windows(from.len()).position(|window| window == from.as_bytes()) {
            row[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
        users.insert(id, row.as_slice()).unwrap();
    }
}

/// Returns files that are invalid in one way each, with the expected error messages.
fn unsound(good: &Path) -> Vec<(PathBuf, &'static str)> {
    let with = |name: &str, bytes: &[u8]| {
        let path = good.with_file_name(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let bytes = fs::read(good).unwrap();
    let mut altered = bytes.clone();
    let at = altered.windows(14).rposition(|window| window == b"Jo@example.com").unwrap();
    altered[at] ^= 1;
    let foreign = good.with_file_name("foreign");
    drop(redb::Database::create(&foreign).unwrap());
    vec![
        (with("text", b"not a database"), "is not a latchkey database"),
        (with("empty", b""), "is not a latchkey database"),
        (with("truncated", &bytes[..bytes.len() / 2]), "truncated"),
        (with("altered", &altered), "is damaged"),
        (foreign, "is a redb database but not latchkey's"),
        (
            changed(good, "newer", |txn| drop(txn.open_table(META).unwrap().insert("schema_version", 99).unwrap())),
            "was written by a newer latchkey",
        ),
        (changed(good, "hostile", |txn| in_users(txn, "ln=1,r=8,p=1", "ln=9,r=9,p=9")), "parameters are out of bounds"),
        (changed(good, "undecodable", |txn| in_users(txn, "Jo@example.com", "Jo example.com")), "is not a valid email"),
        (
            changed(good, "lost", |txn| remove(txn, BY_EMAIL, b"jo@example.com")),
            "the email Jo@example.com does not lead to its user",
        ),
        (
            changed(good, "dangling", |txn| insert(txn, BY_EMAIL, b"x@example.com", &[7; 16])),
            "an email leads to no user",
        ),
        (
            changed(good, "unindexed", |txn| {
                txn.open_table(BY_FLAGS).unwrap().retain(|key, _| key[0] == 0).unwrap();
            }),
            "the index of users by flags is wrong about admin@example.com",
        ),
        (
            changed(good, "overindexed", |txn| insert(txn, BY_FLAGS, &[3; 17], b"")),
            "the index of users by flags names a user who is not there",
        ),
        (
            changed(good, "miscounted", |txn| {
                let mut first_key = [0; 17];
                first_key[0] = 1; // administrators
                insert(txn, COUNTS, &first_key, &2_u64.to_be_bytes());
            }),
            "the index of users by flags is counted wrong",
        ),
        (
            changed(good, "unordered", |txn| remove(txn, BY_SEQUENCE, &[0; 8])),
            "the widget one is not in the order of widgets",
        ),
        (
            changed(good, "overordered", |txn| insert(txn, BY_SEQUENCE, &99_u64.to_be_bytes(), b"gone")),
            "names a widget that is not there",
        ),
        (
            changed(good, "widgets-miscounted", |txn| insert(txn, WIDGET_COUNTS, &[0; 8], &7_u64.to_be_bytes())),
            "the order of widgets is counted wrong",
        ),
        (
            changed(good, "feed-unordered", |txn| {
                txn.open_table(FEED_BY_EXPIRY).unwrap().retain(|_, _| false).unwrap();
            }),
            "the revocation feed and its order of expiry differ",
        ),
        (
            changed(good, "feed-overordered", |txn| insert(txn, FEED_BY_EXPIRY, &[7; 16], b"")),
            "the revocation feed and its order of expiry differ",
        ),
        (changed(good, "feed-undecodable", |txn| insert(txn, FEED, &[7; 8], &[0; 20])), "an entry that cannot be read"),
        (
            changed(good, "service", |txn| insert(txn, SERVICES, &[7; 16], b"no service")),
            "a record in services does not decode",
        ),
        (
            changed(good, "service-name", |txn| insert(txn, SERVICES, &[7; 16], &service(b"two words"))),
            "a record in services does not decode: its name must be 1 to 64 characters",
        ),
        (
            changed(good, "services", |txn| {
                insert(txn, SERVICES, &[7; 16], &service(b"Billing"));
                insert(txn, SERVICES, &[8; 16], &service(b"billing"));
            }),
            "two services have the same name",
        ),
    ]
}

#[tokio::test]
async fn what_is_unsound_is_named_by_check_refused_by_restore_and_left_as_it_is() {
    let server = furnished().await;
    let good = server.dir.path().join("data/latchkey.redb");
    let files = server.dir.path().join("files");
    fs::create_dir(&files).unwrap();
    fs::copy(&good, files.join("good")).unwrap();
    let present = TempDir::new().unwrap();
    add_user(present.path(), "present@example.com", false);
    let database = present.path().join("latchkey.redb");
    let (before, beside) = (fs::read(&database).unwrap(), names(present.path()));
    for (file, sentence) in unsound(&files.join("good")) {
        let bytes = fs::read(&file).unwrap();
        let sentence = if sentence == "truncated" { file.to_str().unwrap() } else { sentence };
        refused(&check(&file), 1, sentence);
        let output = run(&["restore", file.to_str().unwrap()], present.path(), "");
        refused(&output, 1, sentence);
        assert!(text(&output.stderr).contains(file.to_str().unwrap()), "{}", text(&output.stderr));
        assert!(fs::read(&file).unwrap() == bytes, "{}", file.display());
        assert!(fs::read(&database).unwrap() == before, "{}", file.display());
        assert_eq!(names(present.path()), beside);
    }
    refused(&check(Path::new("/nonexistent/x")), 1, "cannot open /nonexistent/x");
    refused(&run(&["check"], Path::new("/nonexistent"), ""), 1, "there is no latchkey database in");
}

#[tokio::test]
async fn what_is_sound_is_counted_and_keeps_every_byte_also_after_a_kill_and_of_an_older_schema() {
    let server = furnished().await;
    let data = server.dir.path().join("data");
    let file = data.join("latchkey.redb");
    let bytes = fs::read(&file).unwrap();
    let output = check(&file);
    done(&output);
    let said = "is sound: 2 users, 1 of them an administrator, 1 widget, 1 logged-out token, schema 8";
    assert!(text(&output.stdout).contains(said), "{}", text(&output.stdout));
    done(&run(&["check"], &data, ""));
    assert!(fs::read(&file).unwrap() == bytes);

    let mut killed = TestServer::on(server.dir.clone(), &[]);
    killed.user("late@example.com").await;
    assert!(text(&run(&["check"], &data, "").stdout).contains("is sound: 3 users"), "beside the server");
    assert_eq!(names(&data), ["admin.sock", "latchkey.lock", "latchkey.redb", "signing.key"]);
    refused(&check(&file), 1, "is in use by another process");
    refused(&run(&["restore", file.to_str().unwrap()], &data, ""), 1, "in use by another latchkey");
    killed.signal("KILL");
    killed.wait();
    let bytes = fs::read(&file).unwrap();
    assert!(text(&check(&file).stdout).contains("3 users"));
    assert!(fs::read(&file).unwrap() == bytes);
    done(&check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schema-1.redb")));
}

#[tokio::test]
async fn a_restored_backup_serves_and_the_database_from_before_is_kept_beside_it() {
    let server = furnished().await;
    let data = server.dir.path().join("data");
    let file = server.dir.path().join("copy.redb");
    done(&run(&["backup", file.to_str().unwrap()], &data, ""));
    add_user(&data, "later@example.com", false);
    fs::write(data.join("latchkey.redb.restoring"), "left by a crash").unwrap();
    let before = fs::read(data.join("latchkey.redb")).unwrap();
    let output = run(&["restore", file.to_str().unwrap()], &data, "");
    done(&output);
    assert!(text(&output.stdout).contains("2 users"), "{}", text(&output.stdout));
    let names = names(&data);
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names[2].starts_with("latchkey.redb.before-restore-2") && names[2].ends_with('Z'), "{names:?}");
    assert!(text(&output.stdout).contains(&names[2]));
    assert!(fs::read(data.join(&names[2])).unwrap() == before);
    let listed = run(&["user", "list"], &data, "");
    assert!(text(&listed.stdout).contains(ADMIN) && !text(&listed.stdout).contains("later@"));

    let empty = TempDir::new().unwrap();
    let moved = empty.path().join("data");
    done(&run(&["restore", file.to_str().unwrap(), "--init"], &moved, ""));
    assert_eq!(crate::backup::names(&moved), ["latchkey.lock", "latchkey.redb"]);
    let moved = TestServer::on(empty.into(), &[]);
    moved.log_in("jo@example.com").await;
}

#[tokio::test]
async fn a_restore_revives_no_token_and_ends_every_session() {
    let mut server = TestServer::start();
    let (live, dead) = (server.user("live@example.com").await, server.user("dead@example.com").await);
    let (data, file) = (server.dir.path().join("data"), server.dir.path().join("copy.redb"));
    done(&run(&["backup", file.to_str().unwrap()], &data, ""));
    assert_eq!(server.post("/auth/logout").bearer(&dead).send().await.status, 200);
    let mut before = vec![live, dead];
    for _ in 0..2 {
        server.stop();
        let output = run(&["restore", file.to_str().unwrap()], &data, "");
        done(&output);
        assert!(text(&output.stdout).contains("everybody has to log in again"), "{}", text(&output.stdout));
        server.start_again();
        for token in &before {
            let refused = server.get("/auth/user").bearer(token).send().await;
            assert_eq!(refused.message(), "Invalid token. Please log in again.");
        }
        let new = server.log_in("live@example.com").await;
        assert_eq!(server.status_of(&new).await, 200);
        before.push(new);
    }
}

#[test]
fn a_restore_that_is_killed_leaves_the_old_database_or_the_new_one() {
    let dir = TempDir::new().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("copy.redb"));
    add_user(&data, "new@example.com", false);
    done(&run(&["backup", file.to_str().unwrap()], &data, ""));
    let mut restored = 0;
    for n in 0..16 {
        fs::remove_dir_all(&data).unwrap();
        add_user(&data, "old@example.com", false);
        let started = Instant::now();
        let mut command = latchkey();
        command.args(["restore", file.to_str().unwrap(), "--data-dir"]).arg(&data);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        while started.elapsed() < Duration::from_millis(2 * n) && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        let listed = run(&["user", "list"], &data, "");
        done(&listed);
        let users = text(&listed.stdout);
        let kept = names(&data).into_iter().find(|name| name.contains("before-restore"));
        if users.contains("new@") {
            restored += 1;
            assert!(text(&check(&data.join(kept.unwrap())).stdout).contains("1 user,"));
        } else {
            assert!(users.contains("old@"), "{users}");
        }
    }
    assert!(restored < 16, "none was killed before it was done");
}
