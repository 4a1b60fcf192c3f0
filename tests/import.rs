//! `latchkey export` and `latchkey import`: exporting and importing users, with a running server and without one.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    api::harness::{ADMIN, PASSWORD, TestServer, add_user, latchkey},
    backup::{done, names},
    cli::{finish, run, text},
    hashes::BCRYPT,
};

pub(crate) fn line(email: &str) -> Value {
    json!({"email": email, "password_hash": BCRYPT, "registered_on": "2020-02-29T12:00:00Z"})
}

pub(crate) fn import(data: &Path, args: &[&str], lines: &str) -> Output {
    run(&[&["import", "--init"], args].concat(), data, lines)
}

/// Checks that the command ended with code 1 and that stderr contains all of these texts.
fn failed(output: &Output, says: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in says {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

/// Runs `check` with a running server and without one.
pub(crate) fn both_ways(check: impl Fn(&Path)) {
    let server = TestServer::with_admin(&[]);
    check(&server.dir.path().join("data"));
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    add_user(&data, ADMIN, true);
    check(&data);
}

pub(crate) fn exported(data: &Path) -> Vec<Value> {
    let output = run(&["export"], data, "");
    done(&output);
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_exported_is_imported_elsewhere_as_the_same_users() {
    both_ways(|data| {
        let al = json!({"email": "Al@example.com", "password_hash": BCRYPT, "admin": true, "disabled": true,
            "registered_on": "2020-02-29T13:00:00+01:00", "public_id": "6a1b0f5e-0000-4000-8000-0123456789ab"});
        done(&import(data, &["-"], &format!("{al}\n{}\n", line("jo@example.com"))));
        let users = exported(data);
        assert_eq!(users.len(), 3);
        let found = users.iter().find(|user| user["email"] == "Al@example.com").unwrap();
        assert_eq!(found["registered_on"], "2020-02-29T12:00:00Z");
        for name in ["password_hash", "admin", "disabled", "public_id"] {
            assert_eq!(found[name], al[name]);
        }
        let elsewhere = TempDir::new().unwrap();
        let file = elsewhere.path().join("users.ndjson");
        done(&run(&["export", file.to_str().unwrap()], data, ""));
        let copy = elsewhere.path().join("data");
        done(&run(&["import", file.to_str().unwrap(), "--init"], &copy, ""));
        assert_eq!(exported(&copy), users);
        assert_eq!(names(elsewhere.path()), ["data", "users.ndjson"]);
        done(&run(&["check"], &copy, ""));
    });
}

/// There are so many lines that the right order cannot be a coincidence.
#[test]
fn users_of_one_moment_are_registered_in_the_order_of_their_lines() {
    let dir = TempDir::new().unwrap();
    let emails: Vec<_> =
        (0..500).map(|number: u32| format!("{}@example.com", number.wrapping_mul(0x9E37_79B9))).collect();
    let lines: Vec<_> = emails.iter().map(|email| line(email).to_string()).collect();
    done(&import(dir.path(), &["-"], &lines.join("\n")));
    let found: Vec<_> = exported(dir.path()).iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect();
    assert!(found == emails, "in another order");
}

#[test]
fn the_same_import_again_changes_nothing_and_a_dry_run_says_what_it_would_do() {
    both_ways(|data| {
        let lines = format!("{}\n\n{}\n", line("jo@example.com"), line("al@example.com"));
        let says = |output: &Output, said: &str| {
            done(output);
            assert_eq!(text(&output.stdout), format!("{said}\n"));
        };
        says(
            &import(data, &["--dry-run"], &lines),
            "would add 2 users, 0 were there already\npassword hashes:\n  bcrypt  2",
        );
        assert_eq!(exported(data).len(), 1);
        says(&import(data, &[], &lines), "added 2 users, 0 were there already");
        let before = exported(data);
        says(&import(data, &[], &lines), "added 0 users, 2 were there already");
        says(
            &import(data, &["--dry-run"], &lines),
            "would add 0 users, 2 were there already\npassword hashes:\n  bcrypt  2",
        );
        assert_eq!(exported(data), before);
    });
}

#[test]
fn every_bad_line_is_named_and_then_nothing_is_imported() {
    both_ways(|data| {
        let with = |name: &str, value: Value| {
            let mut user = line("x@example.com");
            user[name] = value;
            user.to_string()
        };
        let cases = [
            (line("good@example.com").to_string(), ""),
            ("{".to_owned(), "EOF while parsing an object at column 1"),
            (with("email", json!("nobody")), "nobody is not a valid email"),
            (with("password_hash", json!("secret")), "the password_hash cannot be used: it is not a hash of"),
            (with("password_hash", json!(BCRYPT.replace("$04$", "$31$"))), "bcrypt cost is not from 4 to 14"),
            (with("registered_on", json!("yesterday")), "the registered_on is not a date"),
            (with("public_id", json!("7")), "the public_id is not a UUID"),
            (with("pasword", json!("7")), "unknown field `pasword`"),
            (with("admin", json!(1)), "expected a boolean"),
            (line("GOOD@example.com").to_string(), "GOOD@example.com has a line already"),
            (json!({"email": "a@example.com"}).to_string(), "missing field `password_hash`"),
            ("\u{0}\u{1f511}".to_owned(), "expected value"),
        ];
        let lines: Vec<_> = cases.iter().map(|(line, _)| line.as_str()).collect();
        let lines = format!("{}\n{}\n{}", lines.join("\n"), "x".repeat(10_000), line("behind@example.com"));
        for args in [&[][..], &["--dry-run"]] {
            let output = import(data, args, &lines);
            failed(&output, &["12 of the lines are not good, so nothing was imported"]);
            let stderr = text(&output.stderr);
            for (n, (_, why)) in cases.iter().enumerate().skip(1) {
                let start = format!("line {}: ", n + 1);
                let said = stderr.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{stderr}"));
                assert!(said.contains(why), "{said}");
            }
            assert!(stderr.contains("line 13: it has more than 8192 bytes"), "{stderr}");
            assert!(!stderr.contains("line 1: "), "{stderr}");
            assert_eq!(exported(data).len(), 1);
        }
        let many: String = (0..150).map(|_| "{}\n").collect();
        let output = import(data, &[], &many);
        failed(&output, &["line 100: ", "150 of the lines"]);
        assert!(!text(&output.stderr).contains("line 101: "));
    });
}

#[test]
fn a_line_of_8192_bytes_is_read_and_one_of_8193_is_not() {
    let dir = TempDir::new().unwrap();
    let padded = |email: &str, bytes: usize| {
        let line = line(email).to_string();
        format!("{}{}}}\n", line.trim_end_matches('}'), " ".repeat(bytes - line.len() - 1))
    };
    let (longest, too_long) = (padded("jo@example.com", 8192), padded("al@example.com", 8193));
    assert_eq!((longest.len(), too_long.len()), (8192, 8193));
    failed(&import(dir.path(), &[], &too_long), &["line 1: it has more than 8192 bytes; nothing behind it was read"]);
    done(&import(dir.path(), &[], &format!("{longest}{}", padded("ed@example.com", 8192))));
    assert_eq!(exported(dir.path()).len(), 2);
}

#[test]
fn who_is_there_with_other_data_is_named_and_stays_as_he_is() {
    both_ways(|data| {
        let mut jo = line("jo@example.com");
        jo["public_id"] = json!("6a1b0f5e-0000-4000-8000-0123456789ab");
        done(&import(data, &[], &jo.to_string()));
        let before = exported(data);
        let mut promoted = jo.clone();
        promoted["admin"] = json!(true);
        let mut thief = line("thief@example.com");
        thief["public_id"] = jo["public_id"].clone();
        let lines = format!("{}\n{promoted}\n{}\n", line(ADMIN), line("new@example.com"));
        let says = [
            "line 1: admin@example.com is there with other data and stays as it is",
            "line 2: jo@example.com is there with other data and stays as it is",
            "2 users are there with other data and stay as they are",
        ];
        let output = import(data, &["--dry-run"], &lines);
        failed(&output, &says);
        assert_eq!(text(&output.stdout), "would add 1 user, 0 were there already\npassword hashes:\n  bcrypt  3\n");
        assert_eq!(exported(data), before);
        let output = import(data, &[], &lines);
        failed(&output, &says);
        assert_eq!(text(&output.stdout), "added 1 user, 0 were there already\n");
        let after = exported(data);
        assert_eq!(after.len(), before.len() + 1);
        assert!(before.iter().all(|user| after.contains(user)));
        failed(
            &import(data, &[], &thief.to_string()),
            &["line 1: the public id of thief@example.com belongs to another"],
        );
        assert_eq!(exported(data), after);
    });
}

#[tokio::test]
async fn an_imported_hash_logs_in_and_becomes_ours_at_the_first_login() {
    let server = TestServer::start();
    let data = server.dir.path().join("data");
    done(&import(&data, &[], &line("jo@example.com").to_string()));
    let wrong = server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", "wrong horse")]).await;
    assert_eq!(wrong.status, 401);
    assert_eq!(exported(&data)[0]["password_hash"], BCRYPT);
    server.log_in("Jo@example.com").await;
    let hash = exported(&data)[0]["password_hash"].as_str().unwrap().to_owned();
    assert!(hash.starts_with("$scrypt$ln=1,r=8,p=1$"), "{hash}");
    server.log_in("jo@example.com").await;
    failed(&import(&data, &[], &line("jo@example.com").to_string()), &["is there with other data"]);
}

#[test]
fn an_import_that_is_killed_goes_on_when_it_is_run_again() {
    const USERS: usize = 2 * 8192 + 1;
    let dir = TempDir::new().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("users"));
    let mut lines = String::new();
    for n in 0..USERS {
        writeln!(lines, "{}", line(&format!("user{n}@example.com"))).unwrap();
    }
    fs::write(&file, lines).unwrap();
    let mut before = 0;
    for wait in 0..100 {
        let mut command = latchkey();
        command.args(["import", file.to_str().unwrap(), "--init", "--data-dir"]).arg(&data);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(200 * wait) && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        let finished = child.wait().unwrap().success();
        let there = if data.join("latchkey.redb").exists() { exported(&data).len() } else { 0 };
        assert!(there >= before, "what was there is there");
        before = there;
        if finished {
            break;
        }
    }
    let output = run(&["import", file.to_str().unwrap()], &data, "");
    assert_eq!(text(&output.stdout), format!("added 0 users, {USERS} were there already\n"));
    assert_eq!(exported(&data).len(), USERS);
    done(&run(&["check"], &data, ""));
}

#[tokio::test]
async fn the_paths_of_the_operator_are_not_there_over_tcp() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    for path in
        ["//operator/backup", "//operator/export", "//operator/import", "//operator/address", "/operator/backup"]
    {
        for method in ["GET", "POST"] {
            let answer = server.request(method.parse().unwrap(), path).bearer(&admin).send().await;
            assert_eq!(answer.status, 404, "{path}");
        }
    }
}

/// Runs the command of docs/moving-users.md on a database like the one that the tutorial creates.
#[tokio::test]
async fn the_users_of_the_flask_tutorial_move_over_with_the_command_of_the_readme() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/moving-users.md")).unwrap();
    let start = readme.find("sqlite3 flask_api_tutorial_prod.db").expect("the page has the command");
    let command = readme[start..].split("```").next().unwrap();
    let server = TestServer::start();
    let dir = TempDir::new().unwrap();
    let made = format!(
        "create table site_user (id integer not null primary key autoincrement, email varchar(255) not null unique,
             password_hash varchar(100) not null, registered_on datetime, admin boolean, public_id varchar(36) unique);
         insert into site_user (email, password_hash, registered_on, admin, public_id) values
             ('jo@example.com', '{BCRYPT}', '2019-10-12 16:32:04.123456', 0, '1d8e0f2b-5d4a-4f0e-9a53-0f4a5c3f7d11'),
             ('o''hara@example.com', '{BCRYPT}', '2020-01-01 00:00:00.000000', 1, '5f2e7f4c-7f0d-4b5e-8f64-7d1c7f2f9a22');"
    );
    let sqlite = Command::new("sqlite3").arg("flask_api_tutorial_prod.db").arg(made).current_dir(dir.path()).status();
    assert!(sqlite.expect("sqlite3 is installed").success());
    let bin = Path::new(env!("CARGO_BIN_EXE_latchkey")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-ec", command]).current_dir(dir.path()).env("PATH", path);
    let output = finish(shell.env("LATCHKEY_DATA_DIR", server.dir.path().join("data")), "");
    done(&output);
    assert_eq!(text(&output.stdout), "added 2 users, 0 were there already\n");

    let me = server.get("/auth/user").bearer(&server.log_in("jo@example.com").await).send().await.json();
    assert_eq!((&me["admin"], &me["public_id"]), (&json!(false), &json!("1d8e0f2b-5d4a-4f0e-9a53-0f4a5c3f7d11")));
    assert_eq!(me["registered_on_iso8601"], "2019-10-12T16:32:04Z");
    let admin = server.log_in("o'hara@example.com").await;
    assert_eq!(server.get("/auth/user").bearer(&admin).send().await.json()["admin"], true);
    assert_eq!(PASSWORD, "correct horse battery", "what the hash was made of");
}
