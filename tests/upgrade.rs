//! Opens the database files of all releases: `tests/data/schema-N.redb`, created by `tests/data/make`.
//!
//! Each has a `schema-N.json` that describes its content. A file is added for each new schema, and none is ever created again, because data
//! that a release wrote must stay readable.

use std::{fs, path::Path, sync::Arc};

use latchkey::clock::ManualClock;
use serde_json::Value;
use tempfile::TempDir;

use crate::api::{harness::TestServer, revocations::Follower, services};

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Starts a server on a copy of the file, at the time when the file was created. Returns the server and the description of the content.
async fn open(schema: u32) -> (TestServer, Value) {
    let facts: Value = serde_json::from_slice(&fs::read(data(&format!("schema-{schema}.json"))).unwrap()).unwrap();
    let dir = Arc::new(TempDir::new().unwrap());
    let files = dir.path().join("data");
    fs::create_dir(&files).unwrap();
    fs::copy(data(&format!("schema-{schema}.redb")), files.join("latchkey.redb")).unwrap();
    fs::write(files.join("signing.key"), facts["signing_key"].as_str().unwrap()).unwrap();
    let clock = Arc::new(ManualClock::at(facts["made_at"].as_i64().unwrap() + 60));
    (TestServer::at_on(dir, clock, &[]).await, facts)
}

#[tokio::test]
async fn a_file_of_each_schema_keeps_its_users_its_widgets_and_its_blacklist() {
    for schema in [1, 2, 5] {
        keeps_everything(schema).await;
    }
}

async fn keeps_everything(schema: u32) {
    let (server, facts) = open(schema).await;
    for (who, admin) in [("user", false), ("admin", true)] {
        let (email, password) = (facts[who]["email"].as_str().unwrap(), facts[who]["password"].as_str().unwrap());
        let answer = server.post("/auth/login").form(&[("email", email), ("password", password)]).await;
        assert_eq!(answer.status, 200);
        let me = server.get("/auth/user").bearer(&answer.token()).send().await.json();
        assert_eq!((me["email"].as_str(), me["admin"].as_bool()), (Some(email), Some(admin)));
        assert_eq!(me["public_id"], facts[who]["public_id"]);
    }
    let text = |name: &str| facts[name].as_str().unwrap().to_owned();
    let dead = server.get("/auth/user").bearer(&text("logged_out_token")).send().await;
    assert_eq!(dead.message(), "Token blacklisted. Please log in again.");
    let live = server.get("/widgets").bearer(&text("live_token")).send().await.json();
    let names: Vec<_> = live["items"].as_array().unwrap().iter().map(|widget| widget["name"].clone()).collect();
    assert_eq!(Value::from(names), facts["widgets"]);
    let (mut first, mut expected) = (live["items"][0].clone(), facts["first_widget"].clone());
    for widget in [&mut first, &mut expected] {
        widget["time_remaining"].take(); // depends on the current second
    }
    assert_eq!(first, expected);

    // Each migration counts administrators: with a second one, the first can be demoted, and then the second can't.
    let (admin, user) = (&facts["admin"], &facts["user"]);
    let form = [("email", admin["email"].as_str().unwrap()), ("password", admin["password"].as_str().unwrap())];
    let token = server.post("/auth/login").form(&form).await.token();
    let mut follower = Follower::new(&services::add(&server, &token).await.secret);
    follower.follow(&server).await;
    assert!(follower.refuses(&text("logged_out_token")) && !follower.refuses(&text("live_token")));
    let page = server.get("/users?admin=true").bearer(&token).send().await.json();
    assert_eq!((&page["total_items"], &page["items"][0]["email"]), (&1.into(), &admin["email"]));
    assert_eq!(server.get("/users?admin=false").bearer(&token).send().await.json()["total_items"], 1);
    let change = async |who: &Value, admin: bool| {
        let call = server.request(reqwest::Method::PATCH, &format!("/users/{}", who["public_id"].as_str().unwrap()));
        call.bearer(&token).json(&serde_json::json!({ "admin": admin })).await.status
    };
    assert_eq!(change(admin, false).await, 409);
    assert_eq!(change(user, true).await, 200);
    assert_eq!(change(admin, false).await, 200);
}
