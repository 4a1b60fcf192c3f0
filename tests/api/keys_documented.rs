//! Requests that provoke every status that the document has of the operations of signing keys.

use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Call, TestServer};

/// Requests that provoke every status of the operation, or `None` if it is not about signing keys.
pub(super) async fn provoke(server: &TestServer, method: &Method, path: &str) -> Option<Vec<Call>> {
    if !path.starts_with("/keys") {
        return None;
    }
    let admin = server.admin().await;
    let user = server.anybody("someone@example.com").await;
    let call = |path: &str| server.request(method.clone(), path);
    let ready = |path: &str| call(path).bearer(&admin);
    let json = |body: Value| ready(path).body("application/json", body.to_string());
    let of_nobody = path.replace("{kid}", "nobody-s");
    let keys = server.get("/keys").bearer(&admin).send().await.json();
    let next = keys["items"].as_array().unwrap().iter().find(|key| key["state"] == "next");
    let mut calls = if path == "/keys/rotate" {
        if let Some(kid) = next.and_then(|key| key["kid"].as_str()) {
            server.post(&format!("/keys/{kid}/retire")).bearer(&admin).send().await;
        }
        vec![
            json(json!({})),
            json(json!({})),
            json(json!({ "algorithm": "none" })),
            ready(path).body("text/plain", "x"),
            ready(path).body("application/json", " ".repeat(65 * 1024)),
        ]
    } else {
        server.post("/keys/rotate").bearer(&admin).json(&json!({})).await; // or there is such a key already
        let keys = server.get("/keys").bearer(&admin).send().await.json();
        let of = |state: &str| {
            let key = keys["items"].as_array().unwrap().iter().find(|key| key["state"] == state).unwrap();
            ready(&path.replace("{kid}", key["kid"].as_str().unwrap()))
        };
        vec![of("current"), of("next"), ready(&of_nobody)]
    };
    calls.push(ready(&format!("{of_nobody}?{}", "x".repeat(9000))));
    calls.push(ready(&of_nobody).header("x-long", &"x".repeat(33 * 1024)));
    calls.push(call(&of_nobody));
    calls.push(ready(&of_nobody).header("authorization", "Bearer x"));
    calls.push(call(&of_nobody).bearer(&user));
    Some(calls)
}
