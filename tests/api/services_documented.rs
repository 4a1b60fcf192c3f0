//! What the OpenAPI document says of services and of what they ask: each status is provoked, and each example of a body is accepted.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    document::NOBODY,
    harness::{Call, TestServer},
    services::Service,
};

pub(super) use super::services::add;

/// Requests that provoke the statuses of an operation of `/services` or `/token`. `ready` makes one with good credentials.
pub(super) fn provoke(
    method: &Method,
    path: &str,
    service: &Service,
    token: &str,
    ready: impl Fn(&str) -> Call,
) -> Vec<Call> {
    let json = |path: &str, body: Value| ready(path).body("application/json", body.to_string());
    let (of_service, of_nobody) = (path.replace("{id}", &service.id), path.replace("{id}", NOBODY));
    match (method.as_str(), path) {
        (_, "/token/introspect" | "/token/revoke") => vec![json(path, json!({ "token": token }))],
        ("POST", "/services") => [(); 2].map(|()| json(path, json!({ "name": "billing" }))).into(),
        ("PATCH" | "POST", _) => {
            let bad = json!({ "disabled": "perhaps", "keep_old": "some time" });
            vec![json(&of_service, json!({})), json(&of_nobody, json!({})), json(&of_service, bad)]
        }
        _ => vec![ready(&of_service), ready(&of_nobody)],
    }
}

/// Sends the example of each request body.
pub(super) async fn accepts_examples(server: &TestServer, admin: &str, example: impl Fn(&str) -> Value) {
    let service = server.post("/services").bearer(admin).json(&example("NewService")).await.json();
    let (id, secret) = (service["id"].as_str().unwrap(), service["secret"].as_str().unwrap());
    for path in ["/token/introspect", "/token/revoke"] {
        assert_eq!(server.post(path).bearer(secret).json(&example("GivenToken")).await.status, 200);
    }
    let rotated = server.post(&format!("/services/{id}/rotate")).bearer(admin).json(&example("SecretRotation")).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let change = server.request(Method::PATCH, &format!("/services/{id}")).bearer(admin);
    assert_eq!(change.json(&example("ServiceChange")).await.status, 200);
}
