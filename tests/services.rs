//! `latchkey service`: what it prints, beside a running server and without one, and what a failure leaves behind.

use std::{fs::File, process::Stdio};

use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    api::harness::{ADMIN, TestServer, add_user, latchkey},
    backup::done,
    cli::{self, run},
};

fn text(bytes: &[u8]) -> String {
    cli::text(bytes).to_owned()
}

fn secret_of(printed: &str) -> String {
    let secret = Regex::new("(?m)^secret: (lks_[A-Za-z0-9_-]{43})$").unwrap();
    secret.captures(printed).unwrap_or_else(|| panic!("no secret in {printed:?}"))[1].to_owned()
}

async fn status(server: &TestServer, secret: &str) -> u16 {
    server.post("/token/introspect").bearer(secret).form(&[("token", "x")]).await.status.as_u16()
}

#[test]
fn services_are_managed_alike_beside_a_running_server_and_without_one() {
    let server = TestServer::with_admin(&[]);
    let dir = TempDir::new().unwrap();
    add_user(&dir.path().join("data"), ADMIN, true);
    for data in [server.dir.path().join("data"), dir.path().join("data")] {
        let command = |args: &[&str]| {
            let output = run(&[&["service"], args].concat(), &data, "");
            done(&output);
            text(&output.stdout)
        };
        let refused = |args: &[&str]| {
            let output = run(&[&["service"], args].concat(), &data, "");
            assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
            (output.status.code().unwrap(), text(&output.stderr))
        };
        let added = command(&["add", "Billing"]);
        let shape = r"^added service Billing \([0-9a-f-]{36}\)\nsecret: lks_[A-Za-z0-9_-]{43}\n$";
        assert!(Regex::new(shape).unwrap().is_match(&added), "{added}");
        assert_eq!(refused(&["add", "billing"]), (1, "error: there is already a service named billing\n".to_owned()));
        let (code, said) = refused(&["add", "two words"]);
        assert_eq!((code, said.starts_with("error: the name must be 1 to 64 characters")), (2, true), "{said}");
        let json: Value = serde_json::from_str(&command(&["add", "shop", "--json"])).unwrap();
        assert!(json["secret"].as_str().unwrap().starts_with("lks_"));
        for (verb, says) in [
            ("disable", "disabled Billing ("),
            ("disable", "was disabled already: Billing ("),
            ("enable", "enabled Billing ("),
            ("enable", "was enabled already: Billing ("),
        ] {
            let said = command(&[verb, "bILLING"]);
            assert!(said.starts_with(says), "{said}");
        }
        let id = json["id"].as_str().unwrap();
        let shown = command(&["show", id]);
        assert!(shown.starts_with(&format!("name        shop\nid          {id}\ndisabled    no\n")), "{shown}");
        let rotated = command(&["rotate", "shop"]);
        assert!(rotated.starts_with(&format!("service shop ({id})\nsecret: lks_")), "{rotated}");
        assert_ne!(secret_of(&rotated), json["secret"].as_str().unwrap());
        let rotated: Value = serde_json::from_str(&command(&["rotate", id, "--json", "--keep-old", "24h"])).unwrap();
        assert_eq!((rotated["done"].as_str(), rotated["id"].as_str()), (Some("rotated"), Some(id)));
        let until = rotated["old_secret_valid_until_iso8601"].as_str().unwrap();
        assert!(command(&["show", "shop"]).contains(&format!("\nold secret  valid until {until}\n")));
        assert_eq!(refused(&["rotate", "shop", "--keep-old", "366d"]).0, 2);
        let table = command(&["list"]);
        let names: Vec<_> = table.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
        assert_eq!(names, ["NAME", "Billing", "shop"], "{table}");
        let lines = command(&["list", "--json"]);
        let listed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&listed[0]["name"], &listed[1]["id"]), (&"Billing".into(), &json["id"]));
        assert!(!table.contains("lks_") && !lines.contains("lks_"));
        assert!(command(&["remove", "SHOP"]).starts_with("removed shop ("));
        assert_eq!(refused(&["show", "shop"]), (1, "error: there is no service shop\n".to_owned()));
    }
}

#[tokio::test]
async fn what_a_command_does_acts_on_the_next_request_to_the_running_server() {
    let mut server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let command = |args: &[&str]| {
        let output = run(&[&["service"], args].concat(), &data, "");
        done(&output);
        text(&output.stdout)
    };
    let first = secret_of(&command(&["add", "billing"]));
    assert_eq!(status(&server, &first).await, 200);
    let second = secret_of(&command(&["rotate", "billing", "--keep-old", "24h"]));
    assert_eq!((status(&server, &first).await, status(&server, &second).await), (200, 200));
    let third = secret_of(&command(&["rotate", "billing"]));
    assert_eq!((status(&server, &second).await, status(&server, &third).await), (401, 200));
    command(&["disable", "billing"]);
    assert_eq!(status(&server, &third).await, 401);
    command(&["enable", "billing"]);
    assert_eq!(status(&server, &third).await, 200);
    command(&["remove", "billing"]);
    assert_eq!(status(&server, &third).await, 401);
    server.stop();
    let added = secret_of(&command(&["add", "billing"]));
    done(&run(&["check"], &data, ""));
    server.start_again();
    assert_eq!(status(&server, &added).await, 200, "added while no server ran");
}

#[test]
fn a_service_is_added_without_a_database_only_where_one_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    assert_eq!(run(&["service", "add", "billing"], &data, "").status.code(), Some(1));
    assert!(!data.exists());
    done(&run(&["service", "add", "billing", "--init"], &data, ""));
    assert_eq!(text(&run(&["service", "list"], &data, "").stdout).lines().count(), 2);
}

#[tokio::test]
async fn a_secret_that_cannot_be_printed_is_not_in_force() {
    let server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let added = run(&["service", "add", "billing"], &data, "");
    done(&added);
    let secret = secret_of(&text(&added.stdout));
    let list = || text(&run(&["service", "list", "--json"], &data, "").stdout);
    let before = list();
    let full = || File::options().write(true).open("/dev/full").unwrap().into();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    for (args, why) in [
        (&["service", "add", "shop"][..], "error: cannot print the secret, so the service was not added"),
        (&["service", "add", "shop", "--json"], "error: cannot print the secret, so the service was not added"),
        (&["service", "rotate", "billing"], "error: cannot print, so the secret was not replaced"),
        (&["service", "rotate", "billing", "--json"], "error: cannot print, so the secret was not replaced"),
    ] {
        for stdout in [full(), closed()] {
            let mut command = latchkey();
            let output = command.args(args).arg("--data-dir").arg(&data).stdout(stdout).stderr(Stdio::piped());
            let output = output.spawn().unwrap().wait_with_output().unwrap();
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.starts_with(why), "{said}");
            assert_eq!(list(), before, "{args:?}");
            assert_eq!(status(&server, &secret).await, 200);
        }
    }
}

#[tokio::test]
async fn a_backup_and_a_restore_keep_services() {
    let mut server = TestServer::with_admin(&[]);
    let data = server.dir.path().join("data");
    let added = run(&["service", "add", "billing"], &data, "");
    let secret = secret_of(&text(&added.stdout));
    let copy = server.dir.path().join("copy.redb");
    done(&run(&["backup", copy.to_str().unwrap()], &data, ""));
    done(&run(&["service", "remove", "billing"], &data, ""));
    server.stop();
    done(&run(&["restore", copy.to_str().unwrap()], &data, ""));
    server.start_again();
    assert_eq!(status(&server, &secret).await, 200);
}
