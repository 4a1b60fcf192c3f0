//! A full disk: the error is reported, nothing stored is lost, and no temporary file is left.
//!
//! A limit on the file size simulates the full disk: both make a write fail half-way. If a file system can be mounted, one of two
//! megabytes is really filled.

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
    time::Instant,
};

use tempfile::TempDir;

use crate::{
    api::harness::{ADMIN, PASSWORD, TestServer, add_user, latchkey},
    backup::{done, names},
    cli::{finish, refused, run, text},
    hashes::BCRYPT,
};

/// The number of lines. They are two transactions of an import and the beginning of a third.
const LINES: usize = 20_000;
/// A limit with enough space for the first transaction.
const ROOM_KIB: u32 = 4000;

/// Runs the program with a maximum size of each file of `kib` KiB.
pub(crate) fn on_a_full_disk(kib: u32, args: &[&str], data: &Path, stdin: &str) -> Output {
    let mut command = Command::new("bash");
    // If the signal is ignored, a write beyond the limit is an error and does not kill the process.
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
        refused(&import(), 1, "File too large"); // the server cannot store the lines that it receives
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

/// A separate file system in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts the file system. Returns `None` if that is not possible.
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "none"]).arg(path).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(path.to_owned()))
    }

    fn fill(&self) -> PathBuf {
        let ballast = self.0.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_file_system_that_is_full_for_real_loses_nothing_and_room_is_seen_at_once() {
    let dir = Arc::new(TempDir::new().unwrap());
    let data = dir.path().join("data");
    let Some(disk) = SmallDisk::mount(&data) else {
        println!("skipped: only root can mount a small file system");
        return;
    };
    add_user(&data, ADMIN, true);
    let mut server = TestServer::on(Arc::clone(&dir), &[]);
    let (live, dead) = (server.user("live@example.com").await, server.user("dead@example.com").await);
    assert_eq!(server.post("/auth/logout").bearer(&dead).send().await.status, 200);
    let ballast = disk.fill();
    let register = async |n: usize| {
        let email = format!("user-{n}@{}example", "long.".repeat(30));
        let form = [("email", email.as_str()), ("password", PASSWORD)];
        server.post("/auth/register").may_fail().form(&form).await.status.as_u16()
    };
    let (mut registered, mut refused) = (0, 0);
    while refused < 20 {
        // After the first refusals, the store knows the free space in the file again, so that some more users fit.
        match register(registered).await {
            503 => refused += 1,
            _ => registered += 1,
        }
        assert!(registered < 10_000, "the disk is never full");
        if refused > 0 {
            assert_eq!(server.status_of(&live).await, 200);
            assert_eq!(server.status_of(&dead).await, 401);
            server.log_in(ADMIN).await;
        }
    }
    fs::remove_file(ballast).unwrap();
    let mended = Instant::now();
    let again = loop {
        match register(registered).await {
            503 => assert!(mended.elapsed().as_secs() < 5, "{}", server.log().text()),
            status => break status,
        }
    };
    // The user may exist, because an error response means that the outcome is unknown.
    assert!([201, 409].contains(&again), "{again}");
    server.signal("KILL");
    server.wait();
    server.start_again();
    for n in 0..=registered {
        server.log_in(&format!("user-{n}@{}example", "long.".repeat(30))).await;
    }
    assert_eq!(server.status_of(&live).await, 200);
    assert_eq!(server.status_of(&dead).await, 401);
    server.stop();
    assert_eq!(users(&data), registered + 4);
}
