//! What the command line says to people: its help, and what was done already.

use std::process::Command;

use tempfile::TempDir;

use crate::{
    api::harness::{TestServer, add_user, latchkey},
    cli::{finish, run, text},
};

#[test]
fn the_help_of_a_command_is_about_that_command_and_fits_on_a_screen() {
    let help = |args: &[&str]| {
        // Without variables, as most people call it.
        let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
        let output = finish(command.env_clear().env("COLUMNS", "80").args(args), "");
        let shown = [output.stdout, output.stderr].concat();
        String::from_utf8(shown).unwrap()
    };
    for args in
        [&["--help"][..], &["user"], &["user", "-h"], &["user", "add", "-h"], &["backup", "-h"], &["health", "-h"]]
    {
        let help = help(args);
        assert!(help.lines().count() <= 23, "{args:?} has {} lines:\n{help}", help.lines().count());
        assert!(help.contains("--data-dir") && !help.contains("--token-lifetime"), "{help}");
    }
    let settings = help(&["serve", "--help"]);
    let headings = ["Network:", "Data:", "Tokens:", "Users and passwords:", "Guessing:", "Log:"];
    assert!(headings.iter().all(|heading| settings.lines().any(|line| line == *heading)), "{settings}");
    // Each command takes each setting nevertheless.
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    add_user(&data, "jo@example.com", false);
    for args in
        [&["user", "list", "--log", "off"][..], &["--log", "off", "user", "list"], &["user", "--log", "off", "list"]]
    {
        assert!(text(&run(args, &data, "").stdout).contains("jo@example.com"), "{args:?}");
    }
    let pages = TempDir::new().unwrap();
    let output = finish(latchkey().arg("man").arg(pages.path()), "");
    assert!(output.status.success());
    for page in ["latchkey.1", "latchkey-serve.1", "latchkey-user.1", "latchkey-user-add.1"] {
        assert!(pages.path().join(page).exists(), "{page}");
    }
    // They have the settings at `serve` alone, too.
    let page = |name: &str| std::fs::read_to_string(pages.path().join(name)).unwrap();
    assert!(page("latchkey-serve.1").contains("tls") && page("latchkey-user-add.1").contains("data"));
    assert!(!page("latchkey-user-add.1").contains("tls") && !page("latchkey.1").contains("tls"));
    let script = finish(latchkey().args(["completions", "bash"]), "");
    let of_settings = text(&script.stdout).lines().filter(|line| line.contains("opts=") && line.contains("--tls-cert"));
    assert_eq!(of_settings.count(), 1);
}

#[tokio::test]
async fn a_token_is_revoked_however_it_is_pasted_and_what_was_done_already_is_said() {
    let server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let token = server.user("jo@example.com").await;
    let revoke = |line: &str| run(&["token", "revoke"], &data, line);
    assert_eq!(text(&revoke(&format!("  bearer {token} \r\n")).stdout), "revoked\n");
    assert_eq!(server.status_of(&token).await, 401);
    assert_eq!(text(&revoke(&token).stdout), "already revoked\n");
    let json = run(&["token", "revoke", "--json"], &data, &token);
    assert_eq!((json.status.code(), text(&json.stdout)), (Some(0), "{\"message\":\"already revoked\"}\n"));
    for nothing in ["", "\n", "Bearer \n"] {
        assert!(text(&revoke(nothing).stderr).contains("no token was given"));
    }
    let argument = run(&["token", "revoke", &token], &data, "");
    assert_eq!(argument.status.code(), Some(2));
    assert!(text(&argument.stderr).contains("read from stdin") && !text(&argument.stderr).contains(&token));

    let said = |args: &[&str]| {
        let output = run(args, &data, "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).split(" (").next().unwrap().to_owned()
    };
    assert_eq!(said(&["user", "promote", "jo@example.com"]), "promoted jo@example.com");
    assert_eq!(said(&["user", "promote", "jo@example.com"]), "was promoted already: jo@example.com");
    assert_eq!(said(&["user", "enable", "jo@example.com"]), "was enabled already: jo@example.com");
    let again = |admin: &[&str], who: &str| {
        let output = run(&[&["user", "add", who, "--generate"], admin].concat(), &data, "");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr).to_owned()
    };
    let al = server.user("al@example.com").await;
    assert_eq!(server.status_of(&al).await, 200);
    let advice = format!("latchkey user promote al@example.com --data-dir {}", data.display());
    assert!(again(&["--admin"], "al@example.com").contains(&advice));
    assert!(again(&["--admin"], "jo@example.com").contains("already registered, as an administrator"));
}
