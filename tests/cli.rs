//! The real executable: exit code, stdout, stderr, files.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    api::harness::{PASSWORD, TestServer, add_user, latchkey},
    terminal::on_a_terminal,
};

pub(crate) fn run(args: &[&str], data_dir: &Path, stdin: &str) -> Output {
    finish(latchkey().args(args).arg("--data-dir").arg(data_dir), stdin)
}

pub(crate) fn finish(command: &mut Command, stdin: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (pid, (done, ended)) = (child.id().to_string(), mpsc::channel::<()>());
    std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(30)) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-s", "KILL", &pid]).status(); // the server runs instead of refusing
        }
    });
    // A program that fails before it reads stdin closes the pipe. The error of the write is therefore ignored.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    drop(done);
    output
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Checks the exit code, that stderr is one line with `part`, and that stdout is empty.
pub(crate) fn refused(output: &Output, code: i32, part: &str) {
    let stderr = text(&output.stderr);
    let errors: Vec<_> = stderr.lines().filter(|line| !line.contains("WARN")).collect();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(errors[0].starts_with("error: ") && errors[0].contains(part), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(text(&output.stdout), "");
}

fn data() -> (TempDir, std::path::PathBuf) {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    (dir, data)
}

#[tokio::test]
async fn a_user_made_with_a_password_from_stdin_logs_in() {
    let (dir, data) = data();
    let output = run(
        &["user", "add", "Jo@example.com", "--init", "--password-stdin"],
        &data,
        "päss wörd 🔑 of jo\nsecond line\n",
    );
    assert!(output.status.success());
    assert!(text(&output.stdout).starts_with("added user Jo@example.com ("));
    let output = run(&["user", "add", "al@example.com", "--admin", "--password-stdin"], &data, PASSWORD);
    assert!(text(&output.stdout).starts_with("added administrator al@example.com ("));

    let server = TestServer::on(dir.into(), &[]);
    let answer =
        server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", "päss wörd 🔑 of jo")]).await;
    assert_eq!(answer.status, 200);
    let me = server.get("/auth/user").bearer(&server.log_in("al@example.com").await).send().await;
    assert_eq!(me.json()["admin"], true);
}

#[tokio::test]
async fn a_generated_password_is_printed_once_and_works() {
    let (dir, data) = data();
    let output = run(&["user", "add", "jo@example.com", "--init", "--generate"], &data, "");
    let stdout = text(&output.stdout);
    let password = stdout.lines().nth(1).unwrap().strip_prefix("password: ").unwrap();
    assert_eq!(password.len(), 24);
    assert_eq!(stdout.matches(password).count(), 1);
    assert!(!text(&output.stderr).contains(password));
    let server = TestServer::on(dir.into(), &[]);
    let answer = server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", password)]).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_password_is_asked_for_twice_without_echo() {
    let (dir, data) = data();
    let typed = format!("{PASSWORD}\n{PASSWORD}\n");
    let output = on_a_terminal("user add jo@example.com --init", &data, &typed);
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("Password: ") && shown.contains("Again: ") && shown.contains("added user"), "{shown}");
    let after_the_prompt = shown.split_once("Password: ").unwrap().1;
    assert!(!after_the_prompt.contains(PASSWORD), "{shown}");

    let output = on_a_terminal("user add al@example.com", &data, &format!("{PASSWORD}\nsomething else\n"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("the two passwords differ"));
    let server = TestServer::on(dir.into(), &[]);
    server.log_in("jo@example.com").await;
}

#[test]
fn adding_a_user_is_refused_with_a_reason() {
    let (_dir, data) = data();
    refused(&run(&["user", "add", "jo"], &data, ""), 2, "jo is not a valid email");
    refused(&run(&["user", "add", "jo@example.com", "--init"], &data, ""), 2, "use --password-stdin or --generate");
    let add = ["user", "add", "jo@example.com", "--init", "--password-stdin"];
    refused(&run(&add, &data, ""), 1, "the password must have at least 8 characters");
    refused(&run(&add, &data, "password1\n"), 1, "the password is one of the most commonly used");
    add_user(&data, "JO@example.com", false);
    refused(&run(&add, &data, PASSWORD), 1, "jo@example.com is already registered");
    let both = run(&["user", "add", "x@example.com", "--password-stdin", "--generate"], &data, "");
    refused(&both, 2, "cannot be used with");
    refused(&run(&["user", "add", "x@example.com", "--password", PASSWORD], &data, ""), 2, "unexpected argument");
}

#[test]
fn users_are_listed_in_order_of_registration() {
    let (_dir, data) = data();
    for (email, admin) in
        [("zoe@example.com", true), ("a-rather-long-name@example.com", false), ("al@example.com", false)]
    {
        add_user(&data, email, admin);
    }
    let output = run(&["user", "list"], &data, "");
    assert!(output.status.success());
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    let emails: Vec<_> = lines.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(emails, ["EMAIL", "zoe@example.com", "a-rather-long-name@example.com", "al@example.com"]);
    let admins: Vec<_> = lines.iter().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(admins, ["ADMIN", "yes", "no", "no"]);
    let column = lines[0].find("PUBLIC ID").unwrap();
    assert!(lines[1..].iter().all(|line| line[column..].len() == 36));
}

#[tokio::test]
async fn a_second_server_on_the_same_data_says_so_and_touches_nothing() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let data = server.dir.path().join("data");
    let in_use = "is in use by another latchkey; stop that one first";
    refused(&run(&["--listen", "127.0.0.1:0"], &data, ""), 1, in_use);
    assert_eq!(server.status_of(&token).await, 200);
}

#[test]
fn an_unknown_variable_or_a_value_that_cannot_be_read_stops_the_start_with_its_name() {
    let (_dir, data) = data();
    let with = |name: &str, value: &str| finish(latchkey().env(name, value).arg("--data-dir").arg(&data), "");
    refused(&with("LATCHKEY_TOKEN_LIFETIEM", "1h"), 2, "LATCHKEY_TOKEN_LIFETIEM is not a setting");
    for (name, value) in [
        ("LATCHKEY_TOKEN_LIFETIME", "soon"),
        ("LATCHKEY_TOKEN_LIFETIME", "0s"),
        ("LATCHKEY_TOKEN_LIFETIME", "1500ms"),
        ("LATCHKEY_TOKEN_LIFETIME", "366d"),
        ("LATCHKEY_LISTEN", "localhost"),
        ("LATCHKEY_SCRYPT", "ln=40,r=8,p=1"),
        ("LATCHKEY_SCRYPT", "ln=15"),
        ("LATCHKEY_HASH_THREADS", "0"),
        ("LATCHKEY_PURGE_INTERVAL", "-1s"),
        ("LATCHKEY_PASSWORD_MIN_LENGTH", "0"),
        ("LATCHKEY_CORS_ORIGIN", "https://a.example/path"),
        ("LATCHKEY_LOG", "loud"),
        ("LATCHKEY_LOG_FORMAT", "xml"),
        ("LATCHKEY_DOMAIN", "a\"b"),
    ] {
        refused(&with(name, value), 2, name);
        let flag = format!("--{}", name.trim_start_matches("LATCHKEY_").to_lowercase().replace('_', "-"));
        let flagged = finish(latchkey().arg(format!("{flag}={value}")).arg("--data-dir").arg(&data), "");
        let errors = text(&flagged.stderr);
        assert!(errors.contains(&flag) && !errors.contains("in the variable"), "{errors}");
        assert_eq!(flagged.status.code(), Some(2));
    }
    refused(
        &finish(latchkey().args(["--password-min-length", "200"]), ""),
        2,
        "--password-min-length 200 is more than",
    );
    refused(&finish(latchkey().arg("sevre"), ""), 2, "sevre");
    assert!(!data.exists(), "nothing was made");
}

#[tokio::test]
async fn a_secret_that_is_too_short_stops_the_start_and_a_good_one_signs() {
    let (dir, data) = data();
    let file = dir.path().join("secret");
    let from_file = |contents: &str| {
        fs::write(&file, contents).unwrap();
        run(&["--secret-key-file", file.to_str().unwrap()], &data, "")
    };
    refused(&from_file(""), 2, "is empty; the secret must have at least 32 bytes");
    refused(&from_file("\n"), 2, "is empty");
    refused(&from_file(&("x".repeat(31) + "\n")), 2, "has 31 bytes");
    let missing = run(&["--secret-key-file", "/nonexistent/key"], &data, "");
    refused(&missing, 2, "--secret-key-file: cannot read /nonexistent/key");
    let short = finish(latchkey().env("LATCHKEY_SECRET_KEY", "short").arg("--data-dir").arg(&data), "");
    refused(&short, 2, "LATCHKEY_SECRET_KEY has 5 bytes");
    assert!(!text(&short.stderr).contains("short;"), "a secret is not repeated");
    fs::write(&file, "x".repeat(32)).unwrap();
    let both = finish(latchkey().env("LATCHKEY_SECRET_KEY", "y".repeat(32)).arg("--secret-key-file").arg(&file), "");
    refused(&both, 2, "both given");

    let server = TestServer::with(&["--secret-key-file", file.to_str().unwrap()]);
    let token = server.user("jo@example.com").await;
    assert_eq!(server.status_of(&token).await, 200);
    assert!(!server.dir.path().join("data/signing.key").exists(), "no key is made where one is given");
}

#[tokio::test]
async fn what_the_first_start_makes_is_for_its_owner_alone_and_what_it_prints_is_true() {
    let server = TestServer::start();
    let data = server.dir.path().join("data");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    let mut names: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["admin.sock", "latchkey.lock", "latchkey.redb", "signing.key"]);
    assert!(names.iter().all(|name| mode(&data.join(name)) == 0o600));
    assert_eq!(server.request("GET".parse().unwrap(), "//").send().await.status, 200);
    assert_eq!(server.get("/ui").send().await.status, 200);
}

#[test]
fn data_that_cannot_be_used_is_refused_in_one_sentence_and_keeps_every_byte() {
    let (dir, data) = data();
    let output = run(&[], Path::new("/proc/latchkey"), "");
    refused(&output, 1, "cannot create the data directory /proc/latchkey: No such file or directory");
    assert_eq!(text(&output.stderr).matches("No such file").count(), 1, "a cause is told once");
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    refused(&run(&[], &file, ""), 1, "cannot create the data directory");
    refused(&run(&["user", "list"], &data, ""), 1, "there is no latchkey database in");
    assert!(!data.exists(), "a typing error makes nothing");

    add_user(&data, "jo@example.com", false);
    let database = data.join("latchkey.redb");
    let good = fs::read(&database).unwrap();
    let foreign = dir.path().join("foreign.redb");
    drop(redb::Database::create(&foreign).unwrap());
    let newer = dir.path().join("newer.redb");
    fs::write(&newer, &good).unwrap();
    set_schema(&newer, 99);
    // One bit of a stored email is changed. An altered file must not decide who may log in.
    let mut altered = good.clone();
    let email = altered.windows(14).rposition(|window| window == b"jo@example.com").unwrap();
    altered[email] ^= 1;
    let cases = [
        (b"not a database".to_vec(), "is not a latchkey database"),
        (Vec::new(), "is not a latchkey database"),
        (fs::read(&foreign).unwrap(), "is a redb database but not latchkey's"),
        (fs::read(&newer).unwrap(), "was written by a newer latchkey (schema 99; this one knows up to 8)"),
        (good[..good.len() / 2].to_vec(), "latchkey.redb"),
        (altered, "is damaged"),
    ];
    for (bytes, sentence) in cases {
        fs::write(&database, &bytes).unwrap();
        refused(&run(&["user", "list"], &data, ""), 1, sentence);
        assert!(fs::read(&database).unwrap() == bytes, "{sentence}: the file was changed");
    }
    fs::write(&database, &good).unwrap();
    assert!(run(&["user", "list"], &data, "").status.success());
}

fn set_schema(path: &Path, version: u64) {
    let database = redb::Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("latchkey");
    txn.open_table(meta).unwrap().insert("schema_version", version).unwrap();
    txn.commit().unwrap();
}

#[test]
fn an_administrator_of_the_settings_needs_a_password_that_can_be_used() {
    let (dir, data) = data();
    let file = dir.path().join("password");
    fs::write(&file, "short\n").unwrap();
    let path = file.to_str().unwrap();
    let with = |args: &[&str]| finish(latchkey().args(args).arg("--data-dir").arg(&data), "");
    refused(&with(&["--admin-email", "boss@example.com"]), 2, "--admin-password-file go together");
    refused(&with(&["--admin-email", "boss", "--admin-password-file", path]), 2, "--admin-email");
    let weak = with(&["--admin-email", "boss@example.com", "--admin-password-file", path]);
    refused(&weak, 2, "the password must have at least 8 characters");
    let shown = with(&["config", "--admin-email", "boss@example.com", "--admin-password-file", path]);
    refused(&shown, 2, "the password must have at least 8 characters");
    let missing = with(&["--admin-email", "boss@example.com", "--admin-password-file", "/nonexistent"]);
    refused(&missing, 2, "--admin-password-file /nonexistent: No such file");
}

#[test]
fn the_settings_in_force_are_shown_with_their_source_and_without_secrets() {
    let secret = "a secret of more than thirty-two bytes";
    let mut command = latchkey();
    command.args(["config", "--domain", "example.org", "--hash-threads", "3"]).env("LATCHKEY_SECRET_KEY", secret);
    let output = finish(&mut command, "");
    let shown = text(&output.stdout);
    let line = |name: &str| {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        shown.lines().map(words).find(|words| words[0] == name).unwrap_or_else(|| panic!("{name}: {shown}"))
    };
    assert_eq!(line("domain"), ["domain", "example.org", "--domain"]);
    assert_eq!(line("hash-threads"), ["hash-threads", "3", "--hash-threads"]);
    assert_eq!(line("scrypt"), ["scrypt", "ln=1,r=8,p=1", "LATCHKEY_SCRYPT"]);
    assert_eq!(line("token-lifetime"), ["token-lifetime", "1h", "default"]);
    assert_eq!(line("secret-key"), ["secret-key", "(not", "shown)", "LATCHKEY_SECRET_KEY"]);
    assert!(!shown.contains(secret));
    let json = finish(command.arg("--json"), "");
    assert!(text(&json.stdout).lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));

    for (variable, value, culprit) in [
        ("LATCHKEY_SECRET_KEY", "short", "LATCHKEY_SECRET_KEY has 5 bytes"),
        ("LATCHKEY_PASSWORD_MIN_LENGTH", "200", "--password-min-length 200 is more than"),
    ] {
        refused(&finish(command.env(variable, value), ""), 2, culprit); // as at the start of the server
        command.env_remove(variable);
    }
}

#[tokio::test]
async fn the_document_the_completions_and_the_man_page_need_no_data() {
    let (_dir, data) = data();
    let printed = |args: &[&str]| {
        let output = run(args, &data, "");
        assert!(output.status.success() && output.stderr.is_empty());
        text(&output.stdout).to_owned()
    };
    let server = TestServer::start();
    assert_eq!(printed(&["openapi"]).trim_end(), server.get("/openapi.json").send().await.text);
    assert!(printed(&["completions", "bash"]).contains("set-password"));
    assert!(printed(&["man"]).contains(".TH latchkey 1"));
    assert!(!data.exists());
}

#[test]
fn a_taken_port_is_named() {
    let (_dir, data) = data();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&run(&["--listen", &address], &data, ""), 1, &format!("cannot listen on {address} (--listen): "));
}

#[test]
fn a_file_left_by_a_crash_while_the_database_was_made_is_in_nobodys_way() {
    let (_dir, data) = data();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("latchkey.redb.new"), "half a database").unwrap();
    fs::write(data.join("signing.key.new"), "half a key").unwrap();
    add_user(&data, "jo@example.com", false);
    assert!(text(&run(&["user", "list"], &data, "").stdout).contains("jo@example.com"));
}

#[test]
fn the_help_names_every_setting_with_its_variable_and_default() {
    let output = finish(latchkey().args(["serve", "--help"]), "");
    assert!(output.status.success());
    let help = text(&output.stdout);
    for setting in [
        "listen",
        "data-dir",
        "domain",
        "token-lifetime",
        "secret-key-file",
        "purge-interval",
        "scrypt",
        "hash-threads",
        "cache-mib",
        "password-min-length",
        "password-max-length",
        "allow-common-passwords",
        "signup",
        "admin-email",
        "admin-password-file",
        "cors-origin",
        "log",
        "log-format",
    ] {
        let variable = format!("[env: LATCHKEY_{}", setting.to_uppercase().replace('-', "_"));
        assert!(help.contains(&format!("--{setting}")) && help.contains(&variable), "{setting}");
    }
    assert!(help.contains("LATCHKEY_SECRET_KEY can hold the secret"));
    assert_eq!(help.matches("[default: ").count(), 23);
    assert!(text(&finish(latchkey().arg("--version"), "").stdout).starts_with("latchkey 0."));
}
