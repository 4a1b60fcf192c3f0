//! What the OpenAPI document says of services and of what they ask: each status is provoked, and each example of a body is accepted.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    document::NOBODY,
    harness::{Call, TestServer},
    services,
};

/// Requests that provoke every status of an operation of `/services` or `/token`, or `None` for another operation.
pub(super) async fn provoke(server: &TestServer, method: &Method, path: &str) -> Option<Vec<Call>> {
    let for_services = path.starts_with("/token");
    if !for_services && !path.starts_with("/services") {
        return None;
    }
    let admin = server.admin().await;
    let user = server.anybody("someone@example.com").await;
    let service = services::add(server, &admin).await;
    let call = |path: &str| server.request(method.clone(), path);
    let ready = |path: &str| call(path).bearer(if for_services { &service.secret } else { &admin });
    let json = |path: &str, body: Value| ready(path).body("application/json", body.to_string());
    let (of_service, of_nobody) = (path.replace("{id}", &service.id), path.replace("{id}", NOBODY));
    let mut calls = match (method.as_str(), path) {
        ("POST", "/token/introspect" | "/token/revoke") => vec![json(path, json!({ "token": user }))],
        ("GET", "/token/revocations") => {
            let cursor = |digit: &str| format!("{path}?after={}", digit.repeat(40));
            server.post("/auth/logout").bearer(&server.anybody("leaver@example.com").await).send().await;
            server.post("/auth/logout-all").bearer(&user).send().await;
            vec![ready(path), ready(&cursor("0")), ready(&cursor("x"))]
        }
        ("POST", "/services") => [(); 2].map(|()| json(path, json!({ "name": "billing" }))).into(),
        ("PATCH" | "POST", _) => {
            let bad = json!({ "disabled": "perhaps", "keep_old": "some time" });
            vec![json(&of_service, json!({})), json(&of_nobody, json!({})), json(&of_service, bad)]
        }
        _ => vec![ready(&of_service), ready(&of_nobody)],
    };
    calls.push(ready(&format!("{of_nobody}?{}", "x".repeat(9000))));
    calls.push(ready(&of_nobody).header("x-long", &"x".repeat(33 * 1024)));
    calls.push(call(&of_nobody));
    calls.push(ready(&of_nobody).header("authorization", "Bearer x"));
    if !for_services {
        calls.push(call(&of_nobody).bearer(&user));
    }
    if !["GET", "DELETE"].contains(&method.as_str()) {
        calls.push(json(&of_nobody, json!({ "name": 1, "token": 1 })));
        calls.push(ready(&of_nobody).body("text/plain", "x"));
        calls.push(ready(&of_nobody).body("application/json", " ".repeat(65 * 1024)));
    }
    Some(calls)
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
