//! What a terminal shows: tables that fit it, and the next step after the start.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    api::harness::{add_user, latchkey},
    cli::{finish, run, text},
};

/// Runs the program with `script`, which provides the terminal for its questions.
pub(crate) fn on_a_terminal(args: &str, data: &Path, typed: &str) -> Output {
    on_a_terminal_of(80, args, data, typed)
}

/// Like [`on_a_terminal`], with a terminal of `columns` characters.
pub(crate) fn on_a_terminal_of(columns: usize, args: &str, data: &Path, typed: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_latchkey");
    let line = format!("stty rows 24 cols {columns}; exec {program} {args} --data-dir {}", data.display());
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("LATCHKEY_SCRYPT", "ln=1,r=8,p=1");
    finish(&mut command, typed)
}

const LONG: &str = "somebody.with.a.rather.long.name.indeed@department.of.tables.example.com";

fn two_users() -> TempDir {
    let dir = TempDir::new().unwrap();
    add_user(dir.path(), "jo@example.com", true);
    add_user(dir.path(), LONG, false);
    dir
}

/// What a command prints on a terminal of `columns` characters, as lines.
fn lines(columns: usize, args: &str, data: &Path) -> Vec<String> {
    let output = on_a_terminal_of(columns, args, data, "");
    assert!(output.status.success(), "{}", text(&output.stdout));
    text(&output.stdout).lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
}

#[test]
fn the_list_of_users_fits_the_terminal_and_is_whole_in_a_pipe() {
    let dir = two_users();
    let whole = run(&["user", "list"], dir.path(), "");
    let whole: Vec<&str> = text(&whole.stdout).lines().collect();
    assert!(whole[2].starts_with(LONG) && whole[0].ends_with("PUBLIC ID"), "{whole:?}");
    assert_eq!(whole[2].split_whitespace().last().unwrap().len(), 36);

    assert_eq!(lines(200, "user list", dir.path()), whole);
    for columns in [60, 80, 100] {
        let shown = lines(columns, "user list", dir.path());
        assert_eq!(shown.len(), 3, "{shown:?}");
        assert!(shown.iter().all(|line| line.chars().count() <= columns), "{columns}: {shown:?}");
        assert!(shown[0].starts_with("EMAIL") && shown[0].ends_with("REGISTERED"), "{shown:?}");
        assert!(shown[1].starts_with("jo@example.com") && shown[1].contains("  yes  "), "{shown:?}");
        assert!(
            shown[2].starts_with("somebody.") && shown[2].contains('…') && shown[2].contains(".com  no "),
            "{shown:?}"
        );
    }
    let blocks = lines(59, "user list", dir.path());
    assert_eq!(blocks.len(), 10, "{blocks:?}");
    assert_eq!((&*blocks[0], &*blocks[1], &*blocks[5]), ("jo@example.com", "  admin       yes", LONG));
    assert!(blocks[4].starts_with("  public id   0"), "{blocks:?}");
}

#[test]
fn the_settings_fit_the_terminal() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("a-directory-with-a-name-that-is-longer-than-the-rest-of-the-line-would-be");
    for columns in [80, 120] {
        let shown = lines(columns, "config", &data);
        assert!(shown.iter().all(|line| line.chars().count() <= columns), "{shown:?}");
        let line = shown.iter().find(|line| line.starts_with("data-dir ")).unwrap();
        assert!(line.contains('…') && line.contains("would-be  --data-dir"), "{line}");
    }
    assert!(lines(50, "config", &data).contains(&format!("  value    {}", data.display())));
}

#[test]
fn the_settings_as_json_are_those_in_force_and_have_types() {
    let mut command = latchkey();
    command.args(["config", "--json", "--cache-mib", "64", "--cors-origin", "https://a.example,https://b.example"]);
    command.env("LATCHKEY_ALLOW_COMMON_PASSWORDS", " true ").env_remove("LATCHKEY_SCRYPT");
    let output = finish(&mut command, "");
    let setting = |name: &str| {
        let mut lines = text(&output.stdout).lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let found = lines.find(|line| line["setting"] == name);
        found.unwrap_or_else(|| panic!("{name}"))["value"].clone()
    };
    assert_eq!(setting("cache-mib"), 64);
    assert_eq!(setting("trusted-proxy"), json!([]));
    assert_eq!(setting("allow-common-passwords"), true);
    assert_eq!(setting("cors-origin"), json!(["https://a.example", "https://b.example"]));
    assert_eq!(setting("token-lifetime"), "1h");
    assert_eq!(setting("tls-cert"), Value::Null);
    assert_eq!(setting("log"), "info");
    assert_eq!(setting("hash-threads"), std::thread::available_parallelism().unwrap().get());
    assert_eq!(setting("scrypt"), "ln=15,r=8,p=3");
}

#[test]
fn the_banner_says_how_to_make_an_administrator_until_there_is_one() {
    let dir = TempDir::new().unwrap();
    add_user(dir.path(), "jo@example.com", false);
    let banner = || {
        let mut command = latchkey();
        command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(dir.path());
        let mut server = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        let mut shown = String::new();
        while !shown.contains("Data ") {
            assert!(stdout.read_line(&mut shown).unwrap() > 0, "{shown}");
        }
        assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
        stdout.read_to_string(&mut shown).unwrap();
        assert!(server.wait().unwrap().success());
        shown
    };
    assert!(banner().contains("user add boss@example.com --admin"));
    assert!(run(&["user", "promote", "jo@example.com"], dir.path(), "").status.success());
    let shown = banner();
    assert!(shown.contains("Swagger UI") && !shown.contains("administrator"), "{shown}");
}

#[test]
fn a_file_that_has_no_lines_of_json_is_refused_in_one_line() {
    let dir = two_users();
    for (what, bytes) in [
        ("a table", "email,password_hash\njo@example.com,x\n".repeat(200).into_bytes()),
        ("JSON that is no lines", b"[\n  {\n    \"email\": \"jo@example.com\"\n  }\n]\n".to_vec()),
        ("a database", vec![0; 100_000]),
    ] {
        let file = dir.path().join("file");
        std::fs::write(&file, bytes).unwrap();
        let output = run(&["import", file.to_str().unwrap()], dir.path(), "");
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{what}: {said}");
        assert!(said.contains("no line of it is a JSON object") && said.contains("--from"), "{what}: {said}");
    }
    // One line that is an object, and each of the others is named.
    let file = dir.path().join("file");
    std::fs::write(&file, "{\"email\": 1}\nemail\n").unwrap();
    let output = run(&["import", file.to_str().unwrap()], dir.path(), "");
    assert!(text(&output.stderr).contains("line 1: ") && text(&output.stderr).contains("line 2: "));
}
