//! `/users` for administrators.

use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{ADMIN, Answer, PASSWORD, TestServer, claims};

fn id(token: &str) -> String {
    claims(token)["sub"].as_str().unwrap().to_owned()
}

async fn change(server: &TestServer, admin: &str, id: &str, body: Value) -> Answer {
    server.request(Method::PATCH, &format!("/users/{id}")).bearer(admin).json(&body).await
}

#[tokio::test]
async fn users_are_listed_in_pages_searched_by_the_beginning_of_the_email_and_filtered() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    for n in 0..6 {
        server.user(&format!("Jo{n}@example.com")).await;
    }
    let kept_out = server.user("al@example.com").await;
    assert_eq!(change(&server, &admin, &id(&kept_out), json!({ "disabled": true })).await.status, 200);
    let list = async |query: &str| {
        let answer = server.get(&format!("/users?{query}")).bearer(&admin).send().await;
        assert_eq!(answer.status, 200);
        let total = answer.header("total-count").parse::<u64>().unwrap();
        let page = answer.json();
        assert_eq!(page["total_items"], total);
        let emails = page["items"].as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap().to_owned());
        (total, emails.collect::<Vec<_>>(), page)
    };
    let (total, emails, page) = list("per_page=5").await;
    assert_eq!((total, emails.len()), (8, 5));
    assert_eq!(emails[..2], [ADMIN, "Jo0@example.com"]);
    let next = page["links"]["next"].as_str().unwrap();
    assert!(next.starts_with("/api/v1/users?page=2&per_page=5&after="), "{next}");
    assert_eq!(list(next.split_once('?').unwrap().1).await.1, list("page=2&per_page=5").await.1);
    let (total, emails, page) = list("per_page=5&page=2&search=JO").await;
    assert_eq!((total, emails), (6, vec!["Jo5@example.com".to_owned()]));
    assert_eq!(page["links"]["prev"], "/api/v1/users?page=1&per_page=5&search=JO");
    assert_eq!(list("search=o").await.0, 0, "the beginning, not any part");
    assert_eq!(list("disabled=true").await.1, ["al@example.com"]);
    assert_eq!(list("disabled=false").await.0, 7);
    assert_eq!(list("admin=true").await.1, [ADMIN]);
    assert_eq!(list("admin=false&search=jo1").await.1, ["Jo1@example.com"]);
    let wrong = server.get("/users?admin=perhaps&page=x").bearer(&admin).send().await;
    assert_eq!(wrong.error("admin"), "must be true or false");
    assert_eq!(wrong.error("page"), "must be a whole number from 1");
}

#[tokio::test]
async fn a_user_that_an_administrator_makes_can_log_in_and_may_be_an_administrator() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let body = json!({ "email": "Boss@example.com", "password": PASSWORD, "admin": true });
    let made = server.post("/users").bearer(&admin).json(&body).await;
    assert_eq!(made.status, 201);
    let token = server.log_in("boss@example.com").await;
    assert_eq!(made.header("location"), format!("/api/v1/users/{}", id(&token)));
    let seen = server.get(&format!("/users/{}", id(&token))).bearer(&token).send().await;
    assert_eq!(seen.json(), made.json());
    let user = made.json();
    assert_eq!(
        (&user["email"], &user["admin"], &user["disabled"]),
        (&json!("Boss@example.com"), &json!(true), &json!(false))
    );
    assert!(!made.text.contains("scrypt"), "no hash leaves the server");
    assert_eq!(
        server.post("/users").bearer(&admin).json(&body).await.message(),
        "Boss@example.com is already registered"
    );
    let weak = server.post("/users").bearer(&admin).form(&[("email", "x"), ("password", "y"), ("admin", "z")]).await;
    assert_eq!(weak.json()["errors"].as_object().unwrap().len(), 3);
}

#[tokio::test]
async fn disabling_a_user_acts_on_the_next_request_and_enabling_brings_no_token_back() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let token = server.user("jo@example.com").await;
    assert_eq!(change(&server, &admin, &id(&token), json!({ "disabled": true })).await.json()["disabled"], true);
    let refused = server.get("/auth/user").bearer(&token).send().await;
    assert_eq!((refused.status.as_u16(), refused.message().as_str()), (401, "Invalid token. Please log in again."));
    let login = server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", PASSWORD)]).await;
    assert_eq!((login.status.as_u16(), login.message().as_str()), (401, "email or password does not match"));
    assert_eq!(change(&server, &admin, &id(&token), json!({ "disabled": false })).await.status, 200);
    assert_eq!(server.status_of(&token).await, 401);
    assert_eq!(server.status_of(&server.log_in("jo@example.com").await).await, 200);
}

#[tokio::test]
async fn promoting_and_demoting_act_on_the_next_request_of_a_token_already_issued() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let token = server.user("jo@example.com").await;
    let writes = async || server.get("/users").bearer(&token).send().await.status;
    assert_eq!(writes().await, 403);
    assert_eq!(change(&server, &admin, &id(&token), json!({ "admin": true })).await.status, 200);
    assert_eq!(writes().await, 200);
    assert_eq!(change(&server, &admin, &id(&token), json!({ "admin": false })).await.status, 200);
    assert_eq!(writes().await, 403);
    assert_eq!(server.status_of(&token).await, 200);
}

#[tokio::test]
async fn a_new_password_and_ended_sessions_kill_every_token_and_a_deleted_user_is_gone() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let (first, second) = (server.user("jo@example.com").await, server.log_in("jo@example.com").await);
    let path = format!("/users/{}", id(&first));
    let ended = server.post(&format!("{path}/end-sessions")).bearer(&admin).send().await;
    assert_eq!(ended.message(), "all sessions of jo@example.com have ended");
    assert_eq!(server.status_of(&first).await, 401);
    assert_eq!(server.status_of(&second).await, 401);

    let third = server.log_in("jo@example.com").await;
    let answer = change(&server, &admin, &id(&first), json!({ "password": "a very different one" })).await;
    assert_eq!(answer.status, 200);
    assert_eq!(server.status_of(&third).await, 401);
    let old = server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", PASSWORD)]).await;
    assert_eq!(old.status, 401);
    let new = [("email", "jo@example.com"), ("password", "a very different one")];
    let fourth = server.post("/auth/login").form(&new).await.token();

    assert_eq!(server.request(Method::DELETE, &path).bearer(&admin).send().await.status, 204);
    assert_eq!(server.status_of(&fourth).await, 401);
    assert_eq!(server.get(&path).bearer(&admin).send().await.status, 404);
    assert_eq!(server.post("/auth/login").form(&new).await.status, 401);
    let again = server.user("jo@example.com").await;
    assert_ne!(id(&again), id(&first), "who registers the email again is another user");
    assert_eq!(server.status_of(&fourth).await, 401);
}

#[tokio::test]
async fn what_was_changed_survives_kill_9() {
    let mut server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let (out, ended, gone) = (
        server.user("out@example.com").await,
        server.user("ended@example.com").await,
        server.user("gone@example.com").await,
    );
    assert_eq!(change(&server, &admin, &id(&out), json!({ "disabled": true })).await.status, 200);
    let end = format!("/users/{}/end-sessions", id(&ended));
    assert_eq!(server.post(&end).bearer(&admin).send().await.status, 200);
    let delete = server.request(Method::DELETE, &format!("/users/{}", id(&gone)));
    assert_eq!(delete.bearer(&admin).send().await.status, 204);
    server.signal("KILL");
    server.wait();
    server.start_again();
    for token in [&out, &ended, &gone] {
        assert_eq!(server.status_of(token).await, 401);
    }
    assert_eq!(server.status_of(&admin).await, 200);
}

#[tokio::test]
async fn the_last_enabled_administrator_stays_one() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let path = format!("/users/{}", id(&admin));
    let refused = |answer: &Answer| {
        assert_eq!(answer.status, 409);
        assert_eq!(answer.message(), "This is the last enabled administrator; make another one first.");
    };
    refused(&change(&server, &admin, &id(&admin), json!({ "admin": false })).await);
    refused(&change(&server, &admin, &id(&admin), json!({ "disabled": true })).await);
    refused(&server.request(Method::DELETE, &path).bearer(&admin).send().await);
    refused(&server.request(Method::DELETE, "/auth/user").bearer(&admin).json(&json!({ "password": PASSWORD })).await);

    let other = server.user("other@example.com").await;
    assert_eq!(change(&server, &admin, &id(&other), json!({ "admin": true, "disabled": true })).await.status, 200);
    refused(&change(&server, &admin, &id(&admin), json!({ "admin": false })).await);
    assert_eq!(change(&server, &admin, &id(&other), json!({ "disabled": false })).await.status, 200);
    // Both administrators demote each other at the same time. Exactly one of them succeeds.
    let other = server.log_in("other@example.com").await;
    let (first, second) = (id(&admin), id(&other));
    let (a, b) = tokio::join!(
        change(&server, &admin, &second, json!({ "admin": false })),
        change(&server, &other, &first, json!({ "admin": false }))
    );
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert!(statuses == [200, 409] || statuses == [200, 403], "{statuses:?}");
}

#[tokio::test]
async fn a_deleted_users_widgets_stay_without_an_owner() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let other = server.user("other@example.com").await;
    change(&server, &admin, &id(&other), json!({ "admin": true })).await;
    let widget = json!({ "name": "orphan", "info_url": "https://example.com", "deadline": "2999-01-01" });
    assert_eq!(server.post("/widgets").bearer(&other).json(&widget).await.status, 201);
    let delete = server.request(Method::DELETE, &format!("/users/{}", id(&other)));
    assert_eq!(delete.bearer(&admin).send().await.status, 204);
    let widget = server.get("/widgets/orphan").bearer(&admin).send().await;
    assert_eq!((widget.status.as_u16(), &widget.json()["owner"]), (200, &Value::Null));
}
