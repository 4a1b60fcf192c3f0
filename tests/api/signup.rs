//! `--signup closed`, and the first administrator without a terminal.

use reqwest::Method;
use serde_json::json;

use super::harness::{PASSWORD, TestServer};

const BOSS: &str = "boss@example.com";

#[tokio::test]
async fn where_registration_is_closed_strangers_are_told_so_and_administrators_make_the_users() {
    let server = TestServer::with_admin(&["--signup", "closed"]);
    for body in [json!({ "email": "jo@example.com", "password": PASSWORD }), json!({})] {
        let answer = server.post("/auth/register").json(&body).await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.message(), "Registration is closed. Ask an administrator for an account.");
    }
    let admin = server.admin().await;
    let user = json!({ "email": "jo@example.com", "password": PASSWORD });
    assert_eq!(server.post("/users").bearer(&admin).json(&user).await.status, 201);
    server.log_in("jo@example.com").await;
    let document = server.get("/openapi.json").send().await.json();
    assert!(document["paths"]["/auth/register"]["post"]["responses"]["403"].is_object());
}

#[tokio::test]
async fn the_start_page_speaks_of_registering_only_where_that_is_possible() {
    let page = async |server: &TestServer| server.request(Method::GET, "//").send().await.text;
    let open = page(&TestServer::start()).await;
    assert!(open.contains("/auth/register") && !open.contains("/auth/login"), "{open}");
    let closed = page(&TestServer::with(&["--signup", "closed"])).await;
    assert!(closed.contains("/auth/login") && !closed.to_lowercase().contains("register \\"), "{closed}");
    assert!(!closed.contains("/auth/register") && !open.contains("<!--") && !closed.contains("<!--"));
}

#[tokio::test]
async fn the_first_administrator_comes_from_the_settings_and_is_never_touched_again() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{PASSWORD}\n")).unwrap();
    let settings = ["--admin-email", BOSS, "--admin-password-file", file.path().to_str().unwrap()];
    let mut server = TestServer::with(&settings);
    let token = server.log_in(BOSS).await;
    assert_eq!(server.get("/users").bearer(&token).send().await.status, 200);
    let body = json!({ "current_password": PASSWORD, "new_password": "the boss's own password" });
    assert_eq!(server.post("/auth/password").bearer(&token).json(&body).await.status, 200);
    server.stop();
    server.start_again();
    let old = server.post("/auth/login").form(&[("email", BOSS), ("password", PASSWORD)]).await;
    assert_eq!(old.status, 401, "the password was changed and stays changed");
}
