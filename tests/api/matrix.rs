//! Authorization: every operation of the document is called by every kind of caller.
//!
//! The operations come from the document, so a new one without an entry here fails the test.

use std::{collections::BTreeMap, sync::Arc};

use latchkey::clock::ManualClock;
use reqwest::Method;
use serde_json::json;

use super::{
    harness::{TestServer, claims},
    services,
};

/// The callers that an operation allows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum For {
    Everyone,
    Users,
    Admins,
    Services,
}

const ENTRIES: [(&str, For); 32] = [
    ("register", For::Everyone),
    ("log_in", For::Everyone),
    ("get_user", For::Users),
    ("delete_account", For::Users),
    ("log_out", For::Users),
    ("log_out_everywhere", For::Users),
    ("change_password", For::Users),
    ("list_users", For::Admins),
    ("create_user", For::Admins),
    ("get_user_by_id", For::Admins),
    ("change_user", For::Admins),
    ("end_sessions", For::Admins),
    ("delete_user", For::Admins),
    ("list_keys", For::Admins),
    ("get_key", For::Admins),
    ("rotate_key", For::Admins),
    ("retire_key", For::Admins),
    ("remove_key", For::Admins),
    ("list_services", For::Admins),
    ("create_service", For::Admins),
    ("get_service", For::Admins),
    ("change_service", For::Admins),
    ("rotate_service_secret", For::Admins),
    ("delete_service", For::Admins),
    ("introspect_token", For::Services),
    ("revoke_token", For::Services),
    ("list_revocations", For::Services),
    ("list_widgets", For::Users),
    ("get_widget", For::Users),
    ("create_widget", For::Admins),
    ("put_widget", For::Admins),
    ("delete_widget", For::Admins),
];

/// The status with which an operation refuses a caller, or `None` if it goes on to handle the request.
fn refusal(who: &str, operation: For) -> Option<u16> {
    match (who, operation) {
        (_, For::Everyone)
        | ("user" | "demoted" | "admin", For::Users)
        | ("admin", For::Admins)
        | ("service", For::Services) => None,
        ("user" | "demoted", For::Admins) => Some(403),
        _ => Some(401),
    }
}

/// New tokens, each named after what was done to it.
async fn token(server: &TestServer, clock: &ManualClock, admin: &str, who: &str) -> Option<String> {
    let email = format!("the-{who}-one@example.com");
    let change = async |token: &str, change: serde_json::Value| {
        let path = format!("/users/{}", claims(token)["sub"].as_str().unwrap());
        assert_eq!(server.request(Method::PATCH, &path).bearer(admin).json(&change).await.status, 200);
    };
    let token = match who {
        "anonymous" => return None,
        "service" => return Some(services::add(server, admin).await.secret),
        "forged" => return Some("eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.e30.".to_owned()),
        _ => server.anybody(&email).await,
    };
    match who {
        "user" => {}
        "admin" => change(&token, json!({ "admin": true })).await,
        "demoted" => {
            change(&token, json!({ "admin": true })).await;
            change(&token, json!({ "admin": false })).await;
        }
        "deleted" => {
            let path = format!("/users/{}", claims(&token)["sub"].as_str().unwrap());
            assert_eq!(server.request(Method::DELETE, &path).bearer(admin).send().await.status, 204);
        }
        "logged-out" => assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200),
        "ended" => assert_eq!(server.post("/auth/logout-all").bearer(&token).send().await.status, 200),
        "expired" => clock.advance(3600),
        other => panic!("who is {other}?"),
    }
    Some(token)
}

#[tokio::test]
async fn every_operation_lets_in_exactly_those_it_is_for() {
    let entries: BTreeMap<_, _> = ENTRIES.into();
    for who in [
        "anonymous",
        "service",
        "forged",
        "user",
        "admin",
        "demoted",
        "disabled",
        "deleted",
        "logged-out",
        "ended",
        "expired",
    ] {
        let clock = Arc::new(ManualClock::at(1_800_000_000));
        let server = TestServer::at(Arc::clone(&clock), &["--with-admin"]).await;
        let admin = server.admin().await;
        let document = server.get("/openapi.json").send().await.json();
        let mut operations = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                let entry = *entries.get(id).unwrap_or_else(|| panic!("who is {id} for? Say so in ENTRIES"));
                operations += 1;
                let token = match who {
                    "disabled" => disabled(&server, &admin, id).await,
                    "expired" => {
                        let token = token(&server, &clock, &admin, who).await;
                        let answer = ask(&server, method, path, token.as_deref()).await;
                        clock.advance(-3600);
                        assert_eq!(answer, refusal(who, entry), "{who}: {id}");
                        continue;
                    }
                    _ => token(&server, &clock, &admin, who).await,
                };
                assert_eq!(ask(&server, method, path, token.as_deref()).await, refusal(who, entry), "{who}: {id}");
            }
        }
        assert_eq!(operations, ENTRIES.len(), "an entry is for an operation that is gone");
    }
}

/// Creates a new user each time, because a disabled one cannot log in again.
async fn disabled(server: &TestServer, admin: &str, operation: &str) -> Option<String> {
    let token = server.user(&format!("disabled-{}@example.com", operation.replace('_', "-"))).await;
    let path = format!("/users/{}", claims(&token)["sub"].as_str().unwrap());
    let change = json!({ "admin": true, "disabled": true });
    assert_eq!(server.request(Method::PATCH, &path).bearer(admin).json(&change).await.status, 200);
    Some(token)
}

/// Calls the operation without a body, so that only authorization is tested.
async fn ask(server: &TestServer, method: &str, path: &str, token: Option<&str>) -> Option<u16> {
    let path = path.replace("{name}", "x").replace("{public_id}", "x").replace("{id}", "x").replace("{kid}", "x");
    let call = server.request(method.to_uppercase().parse().unwrap(), &path);
    let call = match token {
        Some(token) => call.bearer(token),
        None => call,
    };
    let status = call.send().await.status.as_u16();
    (status == 401 || status == 403).then_some(status)
}
