//! Operations on one's own account: a new password, logging out everywhere, deletion.

use reqwest::Method;
use serde_json::json;

use super::harness::{PASSWORD, TestServer};

const NEW: &str = "another good password";

#[tokio::test]
async fn a_new_password_kills_every_other_session_and_answers_with_a_new_token() {
    let server = TestServer::start();
    let (token, other) = (server.user("jo@example.com").await, server.log_in("jo@example.com").await);
    let body = json!({ "current_password": PASSWORD, "new_password": NEW });
    let answer = server.post("/auth/password").bearer(&token).json(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.message(), "password successfully changed");
    assert_eq!(answer.header("pragma"), "no-cache");
    assert_eq!(server.status_of(&answer.token()).await, 200);
    assert_eq!(server.status_of(&token).await, 401);
    assert_eq!(server.status_of(&other).await, 401);
    for (password, status) in [(PASSWORD, 401), (NEW, 200)] {
        let login = server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", password)]).await;
        assert_eq!(login.status, status);
    }
}

#[tokio::test]
async fn a_new_password_needs_the_current_one_and_must_be_a_good_one() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let wrong = json!({ "current_password": "not the one", "new_password": NEW });
    let answer = server.post("/auth/password").bearer(&token).json(&wrong).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.error("current_password"), "is not the password of this account");
    for (new, why) in
        [("short", "must have at least 8"), ("password1", "commonly used"), ("JO@example.com", "the email")]
    {
        let body = json!({ "current_password": PASSWORD, "new_password": new });
        let answer = server.post("/auth/password").bearer(&token).json(&body).await;
        assert!(answer.error("new_password").contains(why), "{}", answer.text);
    }
    let answer = server.post("/auth/password").bearer(&token).send().await;
    assert_eq!(answer.json()["errors"].as_object().unwrap().len(), 2);
    assert_eq!(server.status_of(&token).await, 200);
    server.log_in("jo@example.com").await;
}

#[tokio::test]
async fn logging_out_everywhere_kills_every_token_of_the_user_and_of_nobody_else() {
    let server = TestServer::start();
    let (first, second) = (server.user("jo@example.com").await, server.log_in("jo@example.com").await);
    let stranger = server.user("al@example.com").await;
    let answer = server.post("/auth/logout-all").bearer(&first).send().await;
    assert_eq!(answer.message(), "successfully logged out everywhere");
    for token in [&first, &second] {
        let refused = server.get("/auth/user").bearer(token).send().await;
        assert_eq!(refused.message(), "Invalid token. Please log in again.");
    }
    assert_eq!(server.status_of(&stranger).await, 200);
    assert_eq!(server.status_of(&server.log_in("jo@example.com").await).await, 200);
}

#[tokio::test]
async fn deleting_the_account_asks_for_the_password_and_is_final() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let delete = |password: &'static str| {
        server
            .request(Method::DELETE, "/auth/user")
            .bearer(&token)
            .body("application/json", json!({ "password": password }).to_string())
            .send()
    };
    let wrong = delete("not the one").await;
    assert_eq!((wrong.status.as_u16(), wrong.error("password").as_str()), (400, "is not the password of this account"));
    assert_eq!(server.status_of(&token).await, 200);
    assert_eq!(delete(PASSWORD).await.status, 204);
    assert_eq!(server.status_of(&token).await, 401);
    let login = server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", PASSWORD)]).await;
    assert_eq!(login.status, 401);
    server.user("jo@example.com").await;
}
