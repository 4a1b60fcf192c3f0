//! Backup, check, export and import: their output for scripts and on terminals, and what happens when they are interrupted.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    process::{Child, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    api::harness::{ADMIN, TestServer, add_user, ended, latchkey, latchkey_with_signals, send_signal},
    backup::{done, furnished, names},
    cli::{refused, run, text},
    import::{both_ways, line},
    terminal::on_a_terminal,
};

/// Returns the only line that the command printed, which is JSON.
fn said(output: &Output) -> Value {
    let stdout = text(&output.stdout);
    assert_eq!(stdout.lines().count(), 1, "{stdout}{}", text(&output.stderr));
    serde_json::from_str(stdout).unwrap()
}

/// Returns the percentages that the bar with this label showed, without 0 and 100.
fn between(shown: &str, label: &str) -> Vec<u32> {
    let bars = shown.split('\r').filter_map(|drawn| drawn.strip_prefix(label)?.strip_prefix(" [")?.split_once("] "));
    let percents = bars.map(|(_, percent)| percent.trim().trim_end_matches('%').parse().unwrap());
    percents.filter(|percent| (1..100).contains(percent)).collect()
}

#[test]
fn the_work_of_a_running_server_is_shown_on_a_terminal_while_it_is_done() {
    let server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let users = server.dir.path().join("users");
    let mut lines = String::new();
    for n in 0..20_000 {
        writeln!(lines, "{}", line(&format!("user{n}@example.com"))).unwrap();
    }
    fs::write(&users, lines).unwrap();
    let copy = server.dir.path().join("copy");
    for (label, args) in [
        ("import", format!("import {}", users.display())),
        ("backup", format!("backup {}", copy.display())),
        ("export", format!("export --force {}", users.display())),
        ("copy", "check".to_owned()),
    ] {
        let shown = on_a_terminal(&args, &data, "");
        let shown = (shown.status.success(), text(&shown.stdout));
        let percents = between(shown.1, label);
        assert!(shown.0 && percents.len() > 1, "{args}: {}", shown.1);
        assert!(percents.is_sorted(), "{percents:?}");
        // The import reads the lines twice. The second time it adds the users.
        assert!(label != "import" || percents.iter().any(|percent| *percent > 50), "{percents:?}");
    }
}

/// A replacement for a server. It can end a response at any byte.
struct Pretender {
    dir: TempDir,
    listener: UnixListener,
}

impl Pretender {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("latchkey.redb"), "").unwrap();
        let listener = UnixListener::bind(data.join("admin.sock")).unwrap();
        Self { dir, listener }
    }

    fn spawn(&self, args: &[&str]) -> Child {
        let mut command = latchkey_with_signals();
        command.args(args).current_dir(self.dir.path()).args(["--data-dir", "data"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Reads the head of the next request and sends `body`, which may be only the beginning of a response.
    fn answer(&self, body: &[u8]) -> UnixStream {
        let (to, accepted) = mpsc::channel();
        let listener = self.listener.try_clone().unwrap();
        std::thread::spawn(move || to.send(listener.accept()));
        let (mut stream, _) = accepted.recv_timeout(Duration::from_secs(30)).expect("it connects").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend_from_slice(&byte);
        }
        // The response has no length. In HTTP, only the end of the connection shows its end.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let _ = stream.write_all(body);
        stream
    }

    fn names(&self) -> Vec<String> {
        [names(self.dir.path()), names(&self.dir.path().join("data"))].concat()
    }
}

#[test]
fn an_answer_that_breaks_off_is_never_taken_for_the_whole() {
    let server = Pretender::start();
    let lines = "{\"progress\":{\"done\":1,\"all\":2}}\n{\"progress\":{\"done\":2,\"all\":2}}\n";
    let report = json!({"added": 1, "unchanged": 0, "differing": 0, "bad": 0, "lines": []}).to_string();
    let ask = |args: &[&str], body: &str| {
        let child = server.spawn(args);
        drop(server.answer(body.as_bytes()));
        child.wait_with_output().unwrap()
    };
    let before = server.names();
    for (args, file) in [(&["backup", "copy"], "the copy"), (&["export", "copy"], ""), (&["import", "-"], &*report)] {
        let body = format!("{lines}{{\"whole\":{{\"bytes\":{}}}}}\n{file}", file.len());
        let to_the_file = body.len() - file.len();
        let cuts = [0, 1, lines.len() - 1, lines.len(), to_the_file - 1, to_the_file, body.len() - 1];
        for cut in cuts.into_iter().filter(|cut| *cut < body.len()) {
            refused(&ask(args, &body[..cut]), 1, "the server broke off");
            assert_eq!(server.names(), before, "{args:?} {cut}");
        }
        refused(&ask(args, &format!("{body} and more")), 1, "the server broke off");
        refused(&ask(args, &format!("{lines}{{\"failed\":{{\"message\":\"no room\"}}}}\n")), 1, "no room");
        refused(&ask(args, "<html>\n"), 1, "the server runs another version of latchkey");
        assert_eq!(server.names(), before);
        done(&ask(args, &body));
        if args[1] == "copy" {
            assert_eq!(fs::read_to_string(server.dir.path().join("copy")).unwrap(), file);
            fs::remove_file(server.dir.path().join("copy")).unwrap();
        }
    }
}

/// On other systems, a file with its temporary name may remain.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_half_way_leaves_nothing_but_what_was_there() {
    use rustix::fs::{Mode, OFlags, open};

    let server = Pretender::start();
    if let Err(error) = open(server.dir.path(), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR | Mode::WUSR) {
        eprintln!("SKIP: this file system has no files without a name: {error}");
        return;
    }
    let old = server.dir.path().join("old");
    fs::write(&old, "last week's").unwrap();
    let before = server.names();
    for args in
        [&["backup", "new"][..], &["export", "new"], &["backup", "old", "--force"], &["backup", "-"], &["check"]]
    {
        for signal in ["INT", "TERM", "KILL"] {
            let child = server.spawn(args);
            // The command has sent its request, so it has created the file. The response is not complete.
            let _open = server.answer(b"{\"whole\":{\"bytes\":1000}}\nredb");
            send_signal(child.id(), signal);
            assert!(!ended(child).success());
            assert_eq!(server.names(), before, "{args:?} {signal}");
            assert_eq!(fs::read_to_string(&old).unwrap(), "last week's");
        }
    }
}

#[tokio::test]
async fn a_backup_a_check_and_a_restore_tell_scripts_what_was_done() {
    let mut server = furnished().await;
    let data = server.dir.path().join("data");
    let counts = json!({"schema": 8, "users": 2, "administrators": 1, "widgets": 1, "blacklisted": 1});
    let with = |more: Value| {
        let mut all = counts.clone();
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        all
    };
    for beside_a_server in [true, false] {
        if beside_a_server {
            server.start_again();
        } else {
            server.stop();
        }
        let file = server.dir.path().join("copy.redb");
        let path = file.to_str().unwrap();
        for _ in 0..2 {
            let output = run(&["backup", path, "--force", "--json"], &data, "");
            let bytes = fs::metadata(&file).unwrap().len();
            assert_eq!(said(&output), json!({"file": path, "bytes": bytes}));
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(said(&run(&["check", path, "--json"], &data, "")), with(json!({"database": path})));
        let database = data.join("latchkey.redb");
        assert_eq!(said(&run(&["check", "--json"], &data, "")), with(json!({"database": database})));
        let users = server.dir.path().join("users");
        let output = run(&["export", users.to_str().unwrap(), "--force", "--json"], &data, "");
        assert_eq!(said(&output), json!({"file": users, "bytes": fs::metadata(&users).unwrap().len()}));
        refused(&run(&["backup", "-", "--json"], &data, ""), 2, "--json needs a FILE");
        refused(&run(&["export", "--json"], &data, ""), 2, "--json needs a FILE");
    }
    let copy = server.dir.path().join("copy.redb");
    let restored = said(&run(&["restore", copy.to_str().unwrap(), "--json"], &data, ""));
    let kept = names(&data).into_iter().find(|name| name.contains("before-restore")).unwrap();
    assert_eq!(restored, with(json!({"file": copy, "kept": data.join(kept)})));
    let moved = TempDir::new().unwrap();
    let restored = said(&run(&["restore", copy.to_str().unwrap(), "--init", "--json"], &moved.path().join("data"), ""));
    assert_eq!(restored, with(json!({"file": copy, "kept": null})));
}

#[test]
fn an_import_tells_scripts_what_was_done_and_fails_all_the_same() {
    both_ways(|data| {
        let jo = line("jo@example.com").to_string();
        let import = |args: &[&str], lines: &str, code| {
            let output = run(&[&["import", "--json"], args].concat(), data, lines);
            assert_eq!(output.status.code(), Some(code));
            assert_eq!(text(&output.stderr).lines().count(), usize::from(code != 0), "{}", text(&output.stderr));
            said(&output)
        };
        let report = |added: u64, unchanged: u64, dry_run: bool| json!({"added": added, "unchanged": unchanged, "differing": 0, "bad": 0, "hash_formats": {"bcrypt": 1}, "lines": [], "dry_run": dry_run});
        assert_eq!(import(&["--dry-run"], &jo, 0), report(1, 0, true));
        assert_eq!(import(&[], &jo, 0), report(1, 0, false));
        assert_eq!(import(&[], &jo, 0), report(0, 1, false));
        let differs = import(&[], &format!("{jo}\n{}", line(ADMIN)), 1);
        assert_eq!((&differs["unchanged"], &differs["differing"]), (&1.into(), &1.into()));
        let message = "admin@example.com is there with other data and stays as it is";
        assert_eq!(differs["lines"], json!([{"line": 2, "message": message}]));
        let bad = import(&[], &format!("{jo}\n{}\n{{}}", line("new@example.com")), 1);
        assert_eq!((&bad["bad"], &bad["lines"][0]["line"]), (&1.into(), &3.into()));
        assert_eq!((&bad["added"], &bad["unchanged"]), (&0.into(), &0.into()), "nothing was imported");
        assert_eq!(text(&run(&["import"], data, &jo).stdout), "added 0 users, 1 was there already\n");
        let one = "1 user is there with other data and stays as it is";
        assert!(text(&run(&["import"], data, &line(ADMIN).to_string()).stderr).contains(one));
        assert!(text(&run(&["import"], data, "{}").stderr).contains("1 of the lines is not good"));
    });
}

#[test]
fn a_backup_to_a_name_without_a_directory_is_made_where_one_stands() {
    let dir = TempDir::new().unwrap();
    add_user(&dir.path().join("data"), ADMIN, true);
    for args in [&["backup", "copy"][..], &["backup", "copy", "--force"]] {
        let mut command = latchkey();
        let child = command.args(args).args(["--data-dir", "data"]).current_dir(dir.path()).spawn().unwrap();
        done(&child.wait_with_output().unwrap());
        assert_eq!(names(dir.path()), ["copy", "data"]);
    }
}

/// An import that is being uploaded holds its place until the client disconnects.
#[test]
fn four_transfers_run_at_a_time_and_the_next_is_told_so() {
    let server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let begun = || {
        let mut stream = UnixStream::connect(data.join("admin.sock")).unwrap();
        let head = "POST /operator/import HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 100", "the server reads the body");
        stream
    };
    let uploads: Vec<_> = (0..4).map(|_| begun()).collect();
    let backup = || run(&["backup", "-"], &data, "");
    refused(&backup(), 1, "4 transfers are running already; try again when one of them has ended");
    drop(uploads);
    assert!((0..500).any(|_| backup().status.success()));
}
