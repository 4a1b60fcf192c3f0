//! The rules for bearer tokens (RFC 6750). Each response is compared byte for byte.

use std::sync::Arc;

use latchkey::clock::ManualClock;

use super::harness::{Answer, TestServer};

const INVALID: &str = "Invalid token. Please log in again.";
const EXPIRED: &str = "Access token expired. Please log in again.";

fn refused(answer: &Answer, status: u16, message: &str, challenge: &str) {
    assert_eq!((answer.status.as_u16(), answer.message().as_str()), (status, message));
    assert_eq!(answer.header("www-authenticate"), challenge);
}

#[tokio::test]
async fn a_request_without_a_token_or_with_another_scheme_gets_the_bare_challenge() {
    let server = TestServer::start();
    let bare = r#"Bearer realm="registered_users@mydomain.com""#;
    refused(&server.get("/auth/user").send().await, 401, "Unauthorized", bare);
    for other in ["Basic am86am8=", "Bearer", "Bearer ", "Bearerx abc", "Digest x", "Token abc"] {
        let answer = server.get("/auth/user").header("authorization", other).send().await;
        refused(&answer, 401, "Unauthorized", bare);
    }
    let for_admins = r#"Bearer realm="admin_users@mydomain.com""#;
    refused(&server.post("/widgets").send().await, 401, "Unauthorized", for_admins);
}

#[tokio::test]
async fn the_domain_of_the_realm_is_a_setting() {
    let server = TestServer::with(&["--domain", "login.example.org"]);
    let answer = server.get("/auth/user").send().await;
    refused(&answer, 401, "Unauthorized", r#"Bearer realm="registered_users@login.example.org""#);
}

#[tokio::test]
async fn the_name_of_the_scheme_has_any_letter_case() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let answer = server.get("/auth/user").header("authorization", &format!("{scheme} {token}")).send().await;
        assert_eq!(answer.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn a_token_that_is_malformed_is_invalid() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let challenge = format!(
        r#"Bearer realm="registered_users@mydomain.com", error="invalid_token", error_description="{INVALID}""#
    );
    let long = "a".repeat(8 * 1024 + 1);
    let twice = format!("{token} {token}");
    for bad in ["x", "a.b.c", "..", &token[1..], &token[..token.len() - 1], &twice, &long, "\u{7f}", "é"] {
        // A header value may contain bytes beyond ASCII, which are not valid text.
        let Ok(value) = reqwest::header::HeaderValue::from_bytes(format!("Bearer {bad}").as_bytes()) else { continue };
        let answer = server.get("/auth/user").header_value("authorization", value).send().await;
        refused(&answer, 401, INVALID, &challenge);
    }
}

#[tokio::test]
async fn a_token_is_alive_until_the_second_before_exp_and_expired_at_exp_without_leeway() {
    let clock = Arc::new(ManualClock::at(1_800_000_000));
    let server = TestServer::at(Arc::clone(&clock), &["--token-lifetime", "90s"]).await;
    let token = server.user("jo@example.com").await;
    assert_eq!(claims(&token)["iat"], 1_800_000_000);
    assert_eq!(claims(&token)["exp"], 1_800_000_090);
    clock.advance(89);
    let answer = server.get("/auth/user").bearer(&token).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["token_expires_in"], "00:00:01");
    let challenge = format!(
        r#"Bearer realm="registered_users@mydomain.com", error="invalid_token", error_description="{EXPIRED}""#
    );
    for step in [1, 1, 59, 86_400] {
        clock.advance(step);
        refused(&server.get("/auth/user").bearer(&token).send().await, 401, EXPIRED, &challenge);
        refused(&server.post("/auth/logout").bearer(&token).send().await, 401, EXPIRED, &challenge);
    }
    // The user must log in again.
    assert_eq!(server.status_of(&server.log_in("jo@example.com").await).await, 200);
}

#[tokio::test]
async fn a_real_hour_is_the_lifetime_where_no_setting_says_otherwise() {
    let server = TestServer::start();
    let claims = claims(&server.user("jo@example.com").await);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let issued = claims["iat"].as_u64().unwrap();
    assert!((now - 5..=now).contains(&issued));
    assert_eq!(claims["exp"].as_u64().unwrap() - issued, 3600);
}

#[tokio::test]
async fn a_user_who_is_no_administrator_is_told_so() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let text = "You are not an administrator";
    let challenge =
        format!(r#"Bearer realm="admin_users@mydomain.com", error="insufficient_scope", error_description="{text}""#);
    for (method, path) in [("POST", "/widgets"), ("PUT", "/widgets/x"), ("DELETE", "/widgets/x")] {
        let answer = server.request(method.parse().unwrap(), path).bearer(&token).send().await;
        refused(&answer, 403, text, &challenge);
    }
}

#[tokio::test]
async fn more_than_one_token_in_a_request_is_an_invalid_request() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let text = "More than one access token was sent";
    let challenge =
        format!(r#"Bearer realm="registered_users@mydomain.com", error="invalid_request", error_description="{text}""#);
    let twice = server.get("/auth/user").bearer(&token).bearer(&token).send().await;
    refused(&twice, 400, text, &challenge);
    for query in [format!("access_token={token}"), format!("x=1&access%5Ftoken={token}"), "access_token".into()] {
        let answer = server.get(&format!("/auth/user?{query}")).bearer(&token).send().await;
        refused(&answer, 400, text, &challenge);
    }
}

#[tokio::test]
async fn a_token_in_the_query_alone_lets_nobody_in_and_is_not_logged() {
    let server = TestServer::with(&["--log", "trace"]);
    let token = server.user("jo@example.com").await;
    let answer = server.get(&format!("/auth/user?access_token={token}")).send().await;
    refused(&answer, 401, "Unauthorized", r#"Bearer realm="registered_users@mydomain.com""#);
    server.log().wait_for("status=401");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!server.log().text().contains(signature));
}

/// Returns the payload of a JWT without verifying its signature.
pub(crate) fn claims(token: &str) -> serde_json::Value {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
