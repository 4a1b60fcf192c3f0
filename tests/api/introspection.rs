//! `/token/introspect` (RFC 7662) and `/token/revoke` (RFC 7009).

use std::sync::Arc;

use latchkey::clock::ManualClock;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::{Answer, PASSWORD, TestServer, claims},
    services::{self, basic},
};

const INACTIVE: &str = r#"{"active":false}"#;
const JO: &str = "jo@example.com";

/// A service that asks.
struct Asking<'a> {
    server: &'a TestServer,
    secret: String,
}

impl<'a> Asking<'a> {
    async fn new(server: &'a TestServer) -> Self {
        Self { server, secret: services::add(server, &server.admin().await).await.secret }
    }

    async fn introspect(&self, token: &str) -> Answer {
        let answer = self.server.post("/token/introspect").bearer(&self.secret).form(&[("token", token)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer
    }

    async fn revoke(&self, token: &str) {
        let answer = self.server.post("/token/revoke").bearer(&self.secret).form(&[("token", token)]).await;
        let expected = json!({ "status": "success", "message": "the token is revoked" });
        assert_eq!((answer.status.as_u16(), answer.json()), (200, expected));
    }

    async fn says_inactive(&self, token: &str) {
        assert_eq!(self.introspect(token).await.text, INACTIVE);
    }
}

async fn change(server: &TestServer, token: &str, change: Value) {
    let path = format!("/users/{}", claims(token)["sub"].as_str().unwrap());
    assert_eq!(server.request(Method::PATCH, &path).bearer(&server.admin().await).json(&change).await.status, 200);
}

#[tokio::test]
async fn a_live_token_is_described_by_what_is_stored_now() {
    let server = TestServer::with_admin(&[]);
    let asking = Asking::new(&server).await;
    let token = server.user("Jo@example.com").await;
    let of_token = claims(&token);
    let expected = |admin: bool| {
        json!({
            "active": true, "sub": of_token["sub"], "username": "Jo@example.com", "email": "Jo@example.com",
            "admin": admin, "scope": if admin { "admin" } else { "" }, "iat": of_token["iat"], "exp": of_token["exp"],
            "jti": of_token["jti"], "token_type": "Bearer",
        })
    };
    assert_eq!(asking.introspect(&token).await.json(), expected(false));
    change(&server, &token, json!({ "admin": true })).await;
    assert_eq!(asking.introspect(&token).await.json(), expected(true));
    let as_admin = server.log_in(JO).await;
    assert_eq!(claims(&as_admin)["admin"], true);
    change(&server, &token, json!({ "admin": false })).await;
    assert_eq!(asking.introspect(&as_admin).await.json()["admin"], false, "not what the token says");
    assert_eq!(asking.introspect(&as_admin).await.json()["scope"], "");
}

#[tokio::test]
async fn every_token_that_is_refused_here_is_inactive_and_nothing_says_why() {
    let clock = Arc::new(ManualClock::at(1_800_000_000));
    let server = TestServer::at(Arc::clone(&clock), &["--with-admin"]).await;
    let foreign = TestServer::at(Arc::clone(&clock), &[]).await.user(JO).await;
    let asking = Asking::new(&server).await;
    let token = server.user(JO).await;
    let (head, rest) = token.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    for bad in [
        "",
        " ",
        "x",
        "a.b.c",
        "\u{0}",
        "ü",
        foreign.as_str(),
        &format!("{token}x"),
        &format!(" {token}"),
        &format!("Bearer {token}"),
        &format!("{head}.{payload}."),
        &format!("{head}.{payload}x.{signature}"),
        &format!("eyJhbGciOiJub25lIn0.{payload}."),
        &asking.secret,
        &"x".repeat(60_000),
    ] {
        asking.says_inactive(bad).await;
        asking.revoke(bad).await;
    }
    assert_eq!(asking.introspect(&token).await.json()["active"], true);
    let logged_out = server.log_in(JO).await;
    assert_eq!(server.post("/auth/logout").bearer(&logged_out).send().await.status, 200);
    asking.says_inactive(&logged_out).await;
    let ended = server.user("ended@example.com").await;
    assert_eq!(server.post("/auth/logout-all").bearer(&ended).send().await.status, 200);
    asking.says_inactive(&ended).await;
    let disabled = server.user("disabled@example.com").await;
    change(&server, &disabled, json!({ "disabled": true })).await;
    asking.says_inactive(&disabled).await;
    change(&server, &disabled, json!({ "disabled": false })).await;
    asking.says_inactive(&disabled).await;
    let removed = server.user("removed@example.com").await;
    let delete = server.request(Method::DELETE, "/auth/user").bearer(&removed);
    assert_eq!(delete.json(&json!({ "password": PASSWORD })).await.status, 204);
    asking.says_inactive(&removed).await;
    clock.advance(3599);
    assert_eq!(asking.introspect(&token).await.json()["active"], true);
    clock.advance(1);
    asking.says_inactive(&token).await;
    for dead in [&logged_out, &ended, &disabled, &removed, &token] {
        asking.revoke(dead).await;
    }
}

#[tokio::test]
async fn the_body_is_a_form_or_json_and_a_hint_has_no_effect() {
    let server = TestServer::with_admin(&[]);
    let asking = Asking::new(&server).await;
    let token = server.user(JO).await;
    let call = |path: &str| server.post(path).bearer(&asking.secret);
    for path in ["/token/introspect", "/token/revoke"] {
        for body in [json!({}), json!({ "token": null }), json!({ "token": 1 }), json!({ "token": ["x"] })] {
            let answer = call(path).json(&body).await;
            assert_eq!((answer.status.as_u16(), answer.error("token").is_empty()), (400, false), "{body}");
        }
        let hinted = call(path).json(&json!({ "token": "x", "token_type_hint": 1 })).await;
        assert_eq!((hinted.status.as_u16(), hinted.error("token_type_hint").as_str()), (400, "must be text"));
        assert_eq!(call(path).form(&[("token", "x"), ("token", "x")]).await.status, 400);
        assert_eq!(call(path).body("text/plain", format!("token={token}")).send().await.status, 415);
        assert_eq!(call(path).form(&[("token", &"x".repeat(70_000))]).await.status, 413);
        assert_eq!(server.get(path).bearer(&asking.secret).send().await.status, 405);
        assert_eq!(server.post(&format!("{path}?token={token}")).bearer(&asking.secret).send().await.status, 400);
    }
    for hint in ["access_token", "refresh_token", "x", ""] {
        let form = call("/token/introspect").form(&[("token", token.as_str()), ("token_type_hint", hint)]).await;
        assert_eq!(form.json()["active"], true, "{hint}");
    }
    let json = call("/token/introspect").json(&json!({ "token": token, "token_type_hint": null, "x": 1 })).await;
    assert_eq!(json.json()["active"], true);
    let hinted = [("token", token.as_str()), ("token_type_hint", "refresh_token")];
    assert_eq!(call("/token/revoke").form(&hinted).await.status, 200);
    asking.says_inactive(&token).await;
}

#[tokio::test]
async fn a_revoked_token_is_dead_at_the_next_request_and_stays_dead_after_a_kill() {
    let mut server = TestServer::with_admin(&[]);
    let service = services::add(&server, &server.admin().await).await;
    let (first, second, other) = (server.user(JO).await, server.log_in(JO).await, server.log_in(JO).await);
    for token in [&first, &second] {
        assert_eq!(server.status_of(token).await, 200);
        let call = basic(server.post("/token/revoke"), &service.id, &service.secret);
        assert_eq!(call.form(&[("token", token)]).await.status, 200);
        let answer = server.get("/auth/user").bearer(token).send().await;
        assert_eq!(answer.message(), "Token blacklisted. Please log in again.");
        if token == &first {
            server.stop();
        } else {
            server.signal("KILL");
            server.wait();
        }
        server.start_again();
        assert_eq!(server.status_of(token).await, 401);
    }
    assert_eq!(server.status_of(&other).await, 200, "another token of the user lives on");
    let asking = Asking { server: &server, secret: service.secret };
    let (one, two) = tokio::join!(asking.revoke(&other), asking.revoke(&other));
    assert_eq!((one, two), ((), ()), "of two at once both are answered alike");
    asking.says_inactive(&other).await;
}
