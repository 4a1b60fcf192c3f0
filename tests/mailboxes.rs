//! One mailbox is one account, and one password is one password, on whatever keyboard they are typed.

use std::{fs, path::Path, sync::Arc};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    api::harness::{PASSWORD, TestServer, latchkey},
    backup::done,
    cli::{finish, run, text},
    import::{exported, import},
};

/// The Werkzeug hash of `pässwörd` typed on a Mac: each letter and its dots are two characters.
const HASH_OF_DECOMPOSED: &str =
    "pbkdf2:sha256:1000$salt$4d2402bff516b32fa3f229923242957706aab625561a1d7094fe0bc5d4bb35f9";

async fn registered(server: &TestServer, email: &str, password: &str) -> u16 {
    server.post("/auth/register").form(&[("email", email), ("password", password)]).await.status.as_u16()
}

async fn logged_in(server: &TestServer, email: &str, password: &str) -> u16 {
    server.post("/auth/login").form(&[("email", email), ("password", password)]).await.status.as_u16()
}

#[tokio::test]
async fn an_email_is_one_account_in_every_spelling_of_its_mailbox() {
    for spellings in [
        ["jose\u{301}@example.com", "josé@example.com", "JOSÉ@EXAMPLE.com"],
        ["a@bücher.example", "A@xn--bcher-kva.example", "a@BU\u{308}CHER.example"],
        ["jo@ｅxample.com", "jo@example.com", "Jo@EXAMPLE.COM"],
    ] {
        let server = TestServer::with_admin(&[]);
        let admin = server.admin().await;
        assert_eq!(registered(&server, spellings[0], PASSWORD).await, 201, "{}", spellings[0]);
        for spelling in spellings {
            assert_eq!(registered(&server, spelling, PASSWORD).await, 409, "{spelling}");
            assert_eq!(logged_in(&server, spelling, PASSWORD).await, 200, "{spelling}");
            let query = reqwest::Url::parse_with_params("http://x/users", [("search", spelling)]).unwrap();
            let found = server.get(&format!("/users?{}", query.query().unwrap())).bearer(&admin).send().await.json();
            assert_eq!(found["total_items"], 1, "{spelling}");
            let data = server.dir.path().join("data");
            done(&run(&["user", "show", spelling], &data, ""));
            let line = json!({"email": spelling, "password_hash": crate::hashes::BCRYPT}).to_string();
            let refused = import(&data, &[], &line);
            assert_eq!(refused.status.code(), Some(1));
            assert!(text(&refused.stderr).contains("is there with other data"), "{}", text(&refused.stderr));
        }
    }
}

#[tokio::test]
async fn wrong_passwords_of_one_mailbox_count_together_in_every_spelling() {
    let server = TestServer::with(&["--failure-limit", "2/1h"]);
    registered(&server, "a@bücher.example", PASSWORD).await;
    assert_eq!(logged_in(&server, "a@bücher.example", "wrong password").await, 401);
    assert_eq!(logged_in(&server, "a@xn--bcher-kva.example", "wrong password").await, 401);
    assert_eq!(logged_in(&server, "A@BÜCHER.example", "wrong password").await, 429);
}

#[tokio::test]
async fn a_password_is_the_same_in_every_form_in_which_it_is_typed() {
    let server = TestServer::start();
    let (composed, decomposed, wide) = ("pässwörd 1", "pa\u{308}sswo\u{308}rd 1", "pässwörd １");
    for (number, typed) in [composed, decomposed, wide].into_iter().enumerate() {
        let email = format!("user{number}@example.com");
        assert_eq!(registered(&server, &email, typed).await, 201);
        for again in [composed, decomposed, wide] {
            assert_eq!(logged_in(&server, &email, again).await, 200, "{typed} and {again}");
        }
        for other in ["passwörd 1", " pässwörd 1", "pässwörd 1 "] {
            assert_eq!(logged_in(&server, &email, other).await, 401, "nothing is trimmed or cut: {other:?}");
        }
    }
}

#[tokio::test]
async fn a_hash_of_other_bytes_matches_these_bytes_and_is_replaced() {
    let server = TestServer::with_admin(&["--failure-limit", "1/1h"]);
    let data = server.dir.path().join("data");
    let (composed, decomposed) = ("pässwörd", "pa\u{308}sswo\u{308}rd");
    done(&import(&data, &[], &json!({"email": "mac@example.com", "password_hash": HASH_OF_DECOMPOSED}).to_string()));
    assert_eq!(logged_in(&server, "mac@example.com", decomposed).await, 200, "both forms are one guess");
    let hash = exported(&data).into_iter().find(|user| user["email"] == "mac@example.com").unwrap();
    assert!(hash["password_hash"].as_str().unwrap().starts_with("$scrypt$"), "{hash}");
    assert_eq!(logged_in(&server, "mac@example.com", composed).await, 200);
}

#[tokio::test]
async fn a_password_that_is_the_email_is_refused_in_every_form() {
    let server = TestServer::start();
    for (email, password) in [
        ("someone.else@example.com", "Someone.Else@example.com"),
        ("ｓｏｍｅｏｎｅ@example.com", "ｓｏｍｅｏｎｅ@example.com"),
        ("someone@bücher.example", "someone@bücher.example"),
        ("someone@bücher.example", "someone@xn--bcher-kva.example"),
    ] {
        assert_eq!(registered(&server, email, password).await, 400, "{email}");
    }
}

#[tokio::test]
async fn a_list_by_flags_shows_both_accounts_of_one_mailbox_on_pages_of_their_own() {
    let dir = two_in_one_mailbox();
    let data = dir.path().join("data");
    for id in [OLDER, YOUNGER] {
        done(&run(&["user", "disable", id], &data, ""));
    }
    let before = |n: usize| {
        json!({"email": format!("ja{n}@example.com"), "password_hash": crate::hashes::BCRYPT, "disabled": true})
            .to_string()
    };
    done(&import(&data, &[], &(0..4).map(before).collect::<Vec<_>>().join("\n")));
    let server = TestServer::on(dir, &[]);
    let form = [("email", "admin@example.com"), ("password", "the password of admin")];
    let token = server.post("/auth/login").form(&form).await.token();
    let first = server.get("/users?search=j&disabled=true&per_page=5").bearer(&token).send().await.json();
    assert_eq!(first["items"][4]["public_id"], OLDER, "{first}");
    let next = first["links"]["next"].as_str().unwrap().replace("/api/v1", "");
    let second = server.get(&next).bearer(&token).send().await.json();
    assert_eq!(second["items"][0]["public_id"], YOUNGER, "{second}");
}

/// Copies the database of an earlier version, where two users have one mailbox, into a new data directory.
fn two_in_one_mailbox() -> Arc<TempDir> {
    let dir = Arc::new(TempDir::new().unwrap());
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schema-6-mailboxes.redb");
    fs::copy(file, data.join("latchkey.redb")).unwrap();
    dir
}

const OLDER: &str = "01a21e72-8025-717e-90d0-2398d4b958fe";
/// Was imported, and has an id that is greater than that of the younger account of its mailbox.
const IMPORTED: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
const YOUNGER: &str = "01a21e72-841d-7cd2-b155-b86a3009634d";

#[tokio::test]
async fn two_accounts_of_one_mailbox_both_stay_and_a_login_reaches_the_older() {
    let server = TestServer::on(two_in_one_mailbox(), &[]);
    let data = server.dir.path().join("data");
    let said = format!(
        "jo@xn--bcher-kva.example ({YOUNGER}) has the mailbox of the older account Jo@bücher.example ({OLDER}), which a login reaches"
    );
    server.log().wait_for(&said);
    let checked = run(&["check"], &data, "");
    done(&checked);
    assert!(text(&checked.stdout).contains(&said), "{}", text(&checked.stdout));
    let json = run(&["check", "--json"], &data, "");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["mailbox_duplicates"][1]["duplicate_public_id"], YOUNGER);

    let who = async |email: &str| {
        let token = server.post("/auth/login").form(&[("email", email), ("password", "correct horse battery")]).await;
        server.get("/auth/user").bearer(&token.token()).send().await.json()["public_id"].clone()
    };
    assert_eq!(who("jo@bücher.example").await, OLDER);
    assert_eq!(who("jo@xn--bcher-kva.example").await, OLDER);
    assert_eq!(who("al@xn--bcher-kva.example").await, IMPORTED, "the time of registration decides, not the id");
    assert_eq!(registered(&server, "JO@bücher.example", PASSWORD).await, 409);

    done(&run(&["user", "remove", OLDER], &data, ""));
    assert_eq!(who("jo@bücher.example").await, YOUNGER, "the younger takes the place");
    let checked = run(&["check"], &data, "");
    assert!(!text(&checked.stdout).contains(YOUNGER), "{}", text(&checked.stdout));
}

#[test]
fn the_younger_of_one_mailbox_can_be_removed_and_both_are_in_a_backup() {
    let dir = two_in_one_mailbox();
    let data = dir.path().join("data");
    let copy = dir.path().join("copy");
    done(&run(&["backup", copy.to_str().unwrap()], &data, ""));
    let checked = finish(latchkey().arg("check").arg(&copy), "");
    assert!(text(&checked.stdout).contains(YOUNGER), "{}", text(&checked.stdout));
    done(&run(&["user", "disable", YOUNGER], &data, ""));
    done(&run(&["user", "remove", YOUNGER], &data, ""));
    let checked = run(&["check"], &data, "");
    done(&checked);
    assert!(!text(&checked.stdout).contains(YOUNGER), "{}", text(&checked.stdout));
    done(&run(&["user", "show", "jo@BÜCHER.example"], &data, ""));
}
