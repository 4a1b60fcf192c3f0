//! `GET /auth/user`

use std::sync::Arc;

use latchkey::clock::ManualClock;

use super::harness::{ADMIN, TestServer, claims};

/// 2020-02-28 23:38:53 UTC
const MOMENT: i64 = 1_582_933_133;

#[tokio::test]
async fn it_tells_who_the_user_is_and_the_time_the_token_has_left() {
    let clock = Arc::new(ManualClock::at(MOMENT));
    let server = TestServer::at(Arc::clone(&clock), &[]).await;
    let token = server.user("Jo@Example.com").await;
    clock.advance(3600 - (14 * 60 + 42));
    let answer = server.get("/auth/user").bearer(&token).send().await;
    assert_eq!(answer.status, 200);
    let expected = serde_json::json!({
        "email": "Jo@Example.com",
        "public_id": claims(&token)["sub"],
        "admin": false,
        "registered_on": "02/28/20 11:38:53 PM UTC",
        "registered_on_iso8601": "2020-02-28T23:38:53Z",
        "token_expires_in": "00:14:42",
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn a_long_life_is_told_in_days() {
    let clock = Arc::new(ManualClock::at(MOMENT));
    let server = TestServer::at(Arc::clone(&clock), &["--token-lifetime", "2d 14m 42s"]).await;
    let token = server.user("jo@example.com").await;
    for (passed, left) in [(0, "2 days, 00:14:42"), (86_400, "1 day, 00:14:42"), (86_400, "00:14:42")] {
        clock.advance(passed);
        assert_eq!(server.get("/auth/user").bearer(&token).send().await.json()["token_expires_in"], left);
    }
}

#[tokio::test]
async fn an_administrator_is_told_to_be_one() {
    let server = TestServer::with_admin(&[]);
    let me = server.get("/auth/user").bearer(&server.admin().await).send().await.json();
    assert_eq!((&me["email"], &me["admin"]), (&ADMIN.into(), &true.into()));
}
