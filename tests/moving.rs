//! Users move in from other systems, by the commands of docs/moving-users.md and with files that those systems wrote.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    api::harness::{PASSWORD, TestServer},
    backup::done,
    cli::{finish, refused, run, text},
    hashes::BCRYPT,
    import::{exported, import},
};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sources").join(name)
}

/// Returns the commands of a section of docs/moving-users.md.
fn commands(section: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/moving-users.md")).unwrap();
    let (_, rest) = page.split_once(&format!("### {section}\n")).expect("the page has the section");
    let (_, block) = rest.split_once("```sh\n").expect("the section has commands");
    block.split("```").next().unwrap().replace("\\\n", "")
}

/// Runs shell commands in a directory with these files, against the data of a server. `file` is the path of the real one.
fn shell(commands: &str, files: &[(&str, PathBuf)], stdin: &str, server: &TestServer) -> Output {
    let dir = TempDir::new().unwrap();
    for (name, from) in files {
        let to = dir.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
    let bin = Path::new(env!("CARGO_BIN_EXE_latchkey")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell.args(["-ec", commands]).current_dir(dir.path()).env("PATH", path);
    finish(shell.env("LATCHKEY_DATA_DIR", server.dir.path().join("data")), stdin)
}

/// Runs those commands of a section that are latchkey's: the others are the other system's, and `files` are what they made.
fn example(section: &str, files: &[(&str, PathBuf)], stdin: &str, server: &TestServer) -> Output {
    let all = commands(section);
    let ours = all.lines().filter_map(|line| line.find("latchkey ").map(|at| &line[at..]));
    let output = shell(&ours.collect::<Vec<_>>().join("\n"), files, stdin, server);
    done(&output);
    output
}

/// Returns who is there, by email.
fn users(server: &TestServer) -> BTreeMap<String, Value> {
    let users = exported(&server.dir.path().join("data"));
    users.into_iter().map(|user| (user["email"].as_str().unwrap().to_owned(), user)).collect()
}

async fn logs_in(server: &TestServer, email: &str) -> bool {
    server.post("/auth/login").form(&[("email", email), ("password", PASSWORD)]).await.status == 200
}

#[tokio::test]
async fn the_users_of_django_move_in_with_their_passwords() {
    for file in ["django_dumpdata.json", "django_dumpdata_all.json"] {
        let server = TestServer::start();
        let output = example("Django", &[("users.json", data(file))], "", &server);
        let said = text(&output.stdout);
        for part in
            ["left out 1 account with no password: ", "left out 1 account with no email: ", "not used: ", "last_name"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(said.contains("password hashes:\n  Django pbkdf2_sha256  3\n"), "{said}");
        assert!(said.contains("added 3 users, 0 were there already"), "{said}");
        let users = users(&server);
        assert_eq!(users.values().filter(|user| user["admin"] == true).count(), 1, "the superuser");
        for (email, user) in &users {
            assert_eq!(logs_in(&server, email).await, user["disabled"] == false, "{email}");
        }
        assert_eq!(users.values().filter(|user| user["disabled"] == true).count(), 1, "the inactive one");
    }
}

#[tokio::test]
async fn the_users_of_firebase_move_in_with_their_passwords() {
    let server = TestServer::start();
    let files = [("users.json", data("firebase_users.json")), ("hash-config.txt", data("firebase_hash_config.txt"))];
    let output = example("Firebase", &files, "", &server);
    let said = text(&output.stdout);
    assert!(said.contains("with no password: ") && said.contains("with no email: "), "{said}");
    let users = users(&server);
    assert!(!users.is_empty());
    assert_eq!(users["bob@example.com"]["disabled"], true);
    for (email, user) in users {
        assert_eq!(logs_in(&server, &email).await, user["disabled"] == false, "{email}");
        assert_ne!(user["registered_on"], Value::Null);
    }
}

#[tokio::test]
async fn the_users_of_keycloak_move_in_with_their_ids_and_passwords() {
    for file in ["keycloak_realm.json", "keycloak_users_0.json"] {
        let server = TestServer::start();
        let output = example("Keycloak", &[("realm.json", data(file))], "", &server);
        let said = text(&output.stdout);
        assert!(said.contains("service-account-"), "{said}");
        assert!(said.contains("credentials of type otp (1)"), "{said}");
        let source: Value = serde_json::from_slice(&fs::read(data(file)).unwrap()).unwrap();
        for (email, user) in users(&server) {
            assert_eq!(logs_in(&server, &email).await, user["disabled"] == false, "{email}");
            let mut sources = source["users"].as_array().unwrap().iter();
            let source = sources.find(|source| source["email"] == email.as_str()).unwrap();
            assert_eq!(user["public_id"], source["id"]);
            assert_eq!(user["disabled"], source["enabled"] == false);
            assert_eq!(user["admin"], false, "no role makes an administrator");
        }
    }
}

#[tokio::test]
async fn the_users_of_auth0_move_in_with_their_passwords() {
    let server = TestServer::start();
    let output = example("Auth0", &[("users.ndjson", data("auth0_users.ndjson"))], "", &server);
    let said = text(&output.stdout);
    assert!(said.contains("added 2 users") && said.contains("left out 1 account with no password"), "{said}");
    for email in users(&server).keys() {
        assert!(logs_in(&server, email).await, "{email}");
    }
}

#[tokio::test]
async fn the_users_of_supabase_move_in_with_their_ids_and_passwords() {
    let server = TestServer::start();
    let output = example("Supabase", &[("users.csv", data("supabase_users.csv"))], "", &server);
    let said = text(&output.stdout);
    assert!(said.contains("added 2 users") && said.contains("left out 1 account with no password"), "{said}");
    let table = fs::read_to_string(data("supabase_users.csv")).unwrap();
    assert_eq!(users(&server)["bob@example.com"]["disabled"], true, "banned until 2034");
    for (email, user) in users(&server) {
        assert_eq!(logs_in(&server, &email).await, user["disabled"] == false, "{email}");
        assert!(table.contains(user["public_id"].as_str().unwrap()), "{user}");
    }
}

#[tokio::test]
async fn the_users_of_wordpress_move_in_with_their_passwords() {
    let server = TestServer::start();
    let rows = "email\tpassword_hash\tregistered_on\n\
         jo@example.com\t$P$BVOBO4b/HI9PE3aFN2AVqvOK4AKkoM/\t2024-02-29 12:00:00\n";
    let output = example("WordPress", &[], &rows.replace("$P$BVOBO4b/HI9PE3aFN2AVqvOK4AKkoM/", WORDPRESS), &server);
    assert!(text(&output.stdout).contains("added 1 user"), "{}", text(&output.stdout));
    let shown = run(&["user", "show", "jo@example.com"], &server.dir.path().join("data"), "");
    assert!(
        text(&shown.stdout).contains("password    phpass, until the next login replaces it"),
        "{}",
        text(&shown.stdout)
    );
    assert!(text(&shown.stdout).contains("2024-02-29T12:00:00Z"));
    assert!(logs_in(&server, "jo@example.com").await);
    let shown = run(&["user", "show", "jo@example.com"], &server.dir.path().join("data"), "");
    assert!(!text(&shown.stdout).contains("phpass"), "{}", text(&shown.stdout));
}

const WORDPRESS: &str = "$P$B1NHQkE3HGgpSmjVaJ8QccnxXYcAk./";

#[tokio::test]
async fn the_users_of_pocketbase_move_in_with_the_command_of_the_page() {
    let server = TestServer::start();
    let output = shell(&commands("PocketBase"), &[("pb_data/data.db", data("pocketbase.db"))], "", &server);
    done(&output);
    assert_eq!(text(&output.stdout), "added 2 users, 0 were there already\n");
    for email in users(&server).keys() {
        assert!(logs_in(&server, email).await, "{email}");
    }
}

#[test]
fn a_table_is_read_with_a_byte_order_mark_crlf_tabs_semicolons_and_utf_16() {
    let map = ["--from", "csv", "--map", "email=mail, password_hash=pw,disabled=off"];
    let table = format!(
        "mail,pw,name,off\r\njo@example.com,{BCRYPT},\"Jo, the\r\nfirst\",no\r\nal@example.com,{BCRYPT},,yes\r\n\r\n"
    );
    let semicolons = table.replace("Jo, the", "Jo").replace(',', ";");
    let tabs = table.replace("Jo, the", "Jo").replace(',', "\t");
    let utf_16 = |text: &str, bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(bytes).collect()
    };
    for bytes in [
        table.clone().into_bytes(),
        format!("\u{feff}{table}").into_bytes(),
        semicolons.into_bytes(),
        utf_16(&tabs, u16::to_le_bytes),
        utf_16(&table, u16::to_be_bytes),
    ] {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("table");
        fs::write(&file, bytes).unwrap();
        let data = dir.path().join("data");
        let output = run(&[&["import", "--init", file.to_str().unwrap()], &map[..]].concat(), &data, "");
        done(&output);
        assert_eq!(text(&output.stdout), "added 2 users, 0 were there already\nnot used: name (1)\n");
        let disabled: Vec<_> = exported(&data).iter().map(|user| user["disabled"].clone()).collect();
        assert_eq!(disabled, [json!(false), json!(true)]);
    }
}

#[test]
fn lines_of_json_are_read_with_a_byte_order_mark_and_in_utf_16() {
    let line = json!({"email": "josé@example.com", "password_hash": BCRYPT}).to_string() + "\r\n";
    let utf_16: Vec<u8> = std::iter::once(0xfeff).chain(line.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for bytes in [format!("\u{feff}{line}").into_bytes(), utf_16] {
        let dir = TempDir::new().unwrap();
        let (file, data) = (dir.path().join("lines"), dir.path().join("data"));
        fs::write(&file, bytes).unwrap();
        done(&run(&["import", "--init", file.to_str().unwrap()], &data, ""));
        assert_eq!(exported(&data)[0]["email"], "josé@example.com");
    }
}

#[test]
fn what_is_not_the_file_of_the_system_is_refused_by_name() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    for (args, input, code, why) in [
        (&["--from", "django"][..], "{}", 1, "it has no `users`"),
        (&["--from", "django"], "[{\"model\": \"x\"}]", 1, "not the output of dumpdata"),
        (&["--from", "django"], "[1]", 1, "not the JSON that was expected"),
        (&["--from", "keycloak"], "", 1, "the file is empty"),
        (&["--from", "auth0"], "{}\nnonsense\n", 1, "line 2 is not a JSON object"),
        (
            &["--from", "csv"],
            "a,b\n1,2\n",
            1,
            "there is no column email for email; name it with --map; the columns are a, b",
        ),
        (&["--from", "csv", "--map", "mail=a"], "a\n", 2, "the fields are email, password_hash, admin"),
        (
            &["--from", "csv", "--map", "email=mail"],
            "mail,password_hash,admin\nx,y,perhaps\n",
            1,
            "row 2: the column for admin has perhaps",
        ),
        (
            &["--from", "csv"],
            "email,password_hash\nx@example.com,secret\n",
            1,
            "row 2: the password_hash cannot be used",
        ),
        (&["--map", "email=a"], "", 2, "--map goes with --from csv"),
        (&["--firebase-hash-config", "x"], "", 2, "--firebase-hash-config goes with --from firebase"),
        (&["--from", "firebase"], "{}", 2, "Password hash parameters"),
        (&["--from", "myspace"], "", 2, "possible values: latchkey, django, firebase, keycloak, auth0, supabase, csv"),
    ] {
        let output = import(&data, args, input);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(why), "{why}: {stderr}");
    }
}

#[test]
fn what_was_left_out_and_what_kinds_of_hashes_there_are_is_in_the_json_too() {
    let dir = TempDir::new().unwrap();
    let table = format!("email,password_hash,team\njo@example.com,{BCRYPT},red\n,{BCRYPT},\nal@example.com,,blue\n");
    let output = import(&dir.path().join("data"), &["--from", "csv", "--dry-run", "--json"], &table);
    done(&output);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["hash_formats"], json!({"bcrypt": 1}));
    assert_eq!(said["unused_fields"], json!({"team": 2}));
    let left_out = json!({
        "no email": {"accounts": 1, "named": ["number 3"]},
        "no password": {"accounts": 1, "named": ["al@example.com"]},
    });
    assert_eq!(said["left_out"], left_out);
}

#[test]
fn a_column_without_a_name_makes_nobody_an_administrator() {
    let table = format!(",email,encrypted_password\n1,jo@example.com,{BCRYPT}\n2,al@example.com,{BCRYPT}\n");
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("data");
    done(&import(&data, &["--from", "supabase"], &table));
    assert!(exported(&data).iter().all(|user| user["admin"] == false));
}

#[test]
fn an_empty_salt_separator_of_firebase_is_empty() {
    let dir = TempDir::new().unwrap();
    let (data, config) = (dir.path().join("data"), dir.path().join("config"));
    let parameters = r#"{"base64_signer_key": "AAAAAAAAAAAAAAAAAAAAAA==", "base64_salt_separator": "", "rounds": 8, "mem_cost": 14}"#;
    fs::write(&config, parameters).unwrap();
    let users =
        r#"{"users": [{"email": "jo@example.com", "passwordHash": "AAAAAAAAAAAAAAAAAAAAAA==", "salt": "c2FsdA=="}]}"#;
    done(&import(&data, &["--from", "firebase", "--firebase-hash-config", config.to_str().unwrap()], users));
    let hash = exported(&data)[0]["password_hash"].as_str().unwrap().to_owned();
    assert!(hash.starts_with("$fbscrypt$v=1,n=14,r=8,p=1,ss=,sk=AAAAAAAAAAAAAAAAAAAAAA==$c2FsdA==$"), "{hash}");
    for missing in ["base64_signer_key", "rounds", "mem_cost", "base64_salt_separator"] {
        fs::write(&config, parameters.replace(missing, "other")).unwrap();
        let output = import(&data, &["--from", "firebase", "--firebase-hash-config", config.to_str().unwrap()], users);
        refused(&output, 1, &format!("the Firebase hash config has no {missing}"));
    }
}

#[test]
fn times_of_other_systems_are_read_and_never_with_another_offset_than_theirs() {
    let registered = |time: &str| {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        let table = format!("email,password_hash,registered_on\njo@example.com,{BCRYPT},{time}\n");
        let output = import(&data, &["--from", "csv"], &table);
        output.status.success().then(|| exported(&data)[0]["registered_on"].as_str().unwrap().to_owned())
    };
    for (time, expected) in [
        ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"),
        ("2024-01-01 10:00:00.123456+00", "2024-01-01T10:00:00Z"),
        ("2024-01-01 10:00:00.5+05:30", "2024-01-01T04:30:00Z"),
        ("2024-01-01 10:00:00", "2024-01-01T10:00:00Z"),
        ("2024-01-01 10:00:00.5", "2024-01-01T10:00:00Z"),
        ("1704103200", "2024-01-01T10:00:00Z"),
        ("1704103200123", "2024-01-01T10:00:00Z"),
    ] {
        assert_eq!(registered(time).as_deref(), Some(expected), "{time}");
    }
    for time in ["2024-01-01T10:00:00.5+0530", "2024-01-01T10:00:00+0530", "yesterday"] {
        assert_eq!(registered(time), None, "{time}");
    }
}

#[test]
fn a_model_with_a_password_that_is_no_user_is_left_alone_and_a_line_has_a_bound() {
    let dir = TempDir::new().unwrap();
    let objects = json!([
        {"model": "shop.mailserver", "pk": 1, "fields": {"email": "smtp@example.com", "password": "secret"}},
        {"model": "auth.user", "pk": 1, "fields": {"email": "jo@example.com", "password": BCRYPT, "last_login": null}},
    ]);
    let output = import(&dir.path().join("data"), &["--from", "django"], &objects.to_string());
    done(&output);
    assert!(
        text(&output.stdout).contains("added 1 user")
            && text(&output.stdout).contains("objects of shop.mailserver (1)")
    );
    let long = format!("[{}", " ".repeat(2 * 1024 * 1024));
    let output = import(&dir.path().join("data"), &["--from", "auth0"], &long);
    refused(&output, 1, "line 1 has more than 1048576 bytes");
}
