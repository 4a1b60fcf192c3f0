//! The OpenAPI document and what is served are the same: every status of the document is provoked, and a status that is
//! answered without being in the document fails the test.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{Call, PASSWORD, TestServer};

/// Statuses that need a defect, a failing disk or overload; each operation has them in the document by one rule.
const NOT_ON_REQUEST: [&str; 2] = ["500", "503"];

async fn document(server: &TestServer) -> Value {
    server.get("/openapi.json").send().await.json()
}

/// Operation, such as `GET /auth/user`, to the statuses that the document has for it.
fn documented(document: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut operations = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let statuses = operation["responses"].as_object().unwrap().keys().cloned().collect();
            operations.insert(format!("{} {path}", method.to_uppercase()), statuses);
        }
    }
    operations
}

#[tokio::test]
async fn the_three_paths_give_the_same_document() {
    let server = TestServer::start();
    let json = document(&server).await;
    assert_eq!(server.get("/swagger.json").send().await.json(), json);
    let yaml = server.get("/openapi.yaml").send().await;
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert_eq!(serde_yaml::from_str::<Value>(&yaml.text).unwrap(), json);
    assert_eq!(json["openapi"], "3.0.0");
    assert_eq!(json["servers"], json!([{ "url": "/api/v1" }]));
}

#[tokio::test]
async fn handlers_are_named_by_their_operation_id_and_protected_ones_alone_have_a_lock() {
    let document = document(&TestServer::start()).await;
    let mut seen = BTreeMap::new();
    for (_, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            seen.insert(id, operation.get("security").cloned().unwrap_or_default());
        }
    }
    let lock = json!([{ "BearerAuth": [] }]);
    let expected = [
        ("register", Value::Null),
        ("log_in", Value::Null),
        ("get_user", lock.clone()),
        ("log_out", lock.clone()),
        ("list_widgets", lock.clone()),
        ("create_widget", lock.clone()),
        ("get_widget", lock.clone()),
        ("put_widget", lock.clone()),
        ("delete_widget", lock),
    ];
    assert_eq!(seen, expected.map(|(id, security)| (id.to_owned(), security)).into());
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert_eq!(schemes.keys().collect::<Vec<_>>(), ["BearerAuth"]);
    assert_eq!((&schemes["BearerAuth"]["type"], &schemes["BearerAuth"]["scheme"]), (&json!("http"), &json!("bearer")));
}

#[tokio::test]
async fn every_route_and_status_that_is_served_is_in_the_document_and_the_other_way_round() {
    let server = TestServer::with_admin(&[]);
    let documented = documented(&document(&server).await);
    let mut answered: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for operation in documented.keys() {
        let (method, path) = operation.split_once(' ').unwrap();
        for call in provoke(&server, &method.parse().unwrap(), path).await {
            let answer = call.send().await;
            answered.entry(operation.clone()).or_default().insert(answer.status.as_u16().to_string());
        }
    }
    for (operation, statuses) in &documented {
        let mut expected = statuses.clone();
        expected.retain(|status| !NOT_ON_REQUEST.contains(&status.as_str()));
        assert_eq!(answered[operation], expected, "{operation}: what was answered, what the document says");
        assert!(NOT_ON_REQUEST.iter().all(|status| statuses.contains(*status)), "{operation}");
    }
}

/// A path that is not in the document must not be served: those of the document with each method that it does not list.
#[tokio::test]
async fn a_method_that_is_not_in_the_document_is_not_served() {
    let server = TestServer::with_admin(&[]);
    let documented = documented(&document(&server).await);
    let admin = server.admin().await;
    let paths: BTreeSet<_> = documented.keys().map(|operation| operation.split_once(' ').unwrap().1).collect();
    for path in paths {
        let mut allowed = Vec::new();
        for method in ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"] {
            let listed = if method == "HEAD" { "GET" } else { method };
            if documented.contains_key(&format!("{listed} {path}")) {
                allowed.push(method);
            }
        }
        for method in ["DELETE", "GET", "PATCH", "POST", "PUT", "OPTIONS", "TRACE", "PROPFIND"] {
            if !allowed.contains(&method) {
                let path = path.replace("{name}", "x");
                let answer = server.request(method.parse().unwrap(), &path).bearer(&admin).send().await;
                assert_eq!(answer.status, 405, "{method} {path}");
                assert_eq!(answer.header("allow"), allowed.join(", "), "{method} {path}");
            }
        }
    }
}

/// Requests that make the operation answer everything it can.
async fn provoke(server: &TestServer, method: &Method, path: &str) -> Vec<Call> {
    let admin = server.admin().await;
    let user = server.log_in(&someone(server).await).await;
    let call = |path: &str| server.request(method.clone(), path);
    let protected = !path.starts_with("/auth/register") && !path.starts_with("/auth/login");
    let for_admins = path.starts_with("/widgets") && *method != Method::GET;
    let token = if for_admins { &admin } else { &user };
    let ready = |path: &str| if protected { call(path).bearer(token) } else { call(path) };
    let json = |body: Value| ("application/json", body.to_string());
    let widget = |name: &str| json!({ "name": name, "info_url": "https://example.com", "deadline": "2999-01-01" });

    let path = path.replace("{name}", "thing");
    let mut calls =
        vec![ready(&format!("{path}?{}", "x".repeat(9000))), ready(&path).header("x-long", &"x".repeat(33 * 1024))];
    if protected {
        calls.push(call(&path));
        calls.push(call(&path).bearer(token).bearer(token));
    }
    if for_admins {
        calls.push(call(&path).bearer(&user));
    }
    let bodies: Vec<(&str, String)> = match (method.as_str(), path.as_str()) {
        ("POST", "/auth/register") => {
            let body = json(json!({ "email": "provoked@example.com", "password": PASSWORD }));
            vec![body.clone(), body]
        }
        ("POST", "/auth/login") => {
            let email = someone(server).await;
            let body = |password| json(json!({ "email": email, "password": password }));
            vec![body(PASSWORD), body("wrong password")]
        }
        ("POST", "/widgets") => vec![json(widget("provoked")), json(widget("provoked"))],
        ("PUT", _) => vec![json(widget("")), json(widget(""))],
        _ => Vec::new(),
    };
    if bodies.is_empty() {
        if *method == Method::DELETE {
            add_widget(server, &admin, "thing").await;
            calls.push(ready(&path));
        }
        if path == "/widgets/thing" && *method == Method::GET {
            add_widget(server, &admin, "present").await;
            calls.push(ready("/widgets/present"));
            calls.push(ready("/widgets/NOT-A-NAME"));
        }
        calls.push(ready(&path));
        if path == "/widgets" {
            calls.push(ready("/widgets?page=0"));
        }
    } else {
        calls.extend(bodies.into_iter().map(|(content_type, body)| ready(&path).body(content_type, body)));
        calls.push(ready(&path).body("application/json", "{}"));
        calls.push(ready(&path).body("text/plain", "x"));
        calls.push(ready(&path).body("application/json", " ".repeat(65 * 1024)));
    }
    calls
}

async fn someone(server: &TestServer) -> String {
    let email = "someone@example.com";
    let _ = server.post("/auth/register").form(&[("email", email), ("password", PASSWORD)]).await;
    email.to_owned()
}

async fn add_widget(server: &TestServer, admin: &str, name: &str) {
    let body = json!({ "name": name, "info_url": "https://example.com", "deadline": "2999-01-01" });
    let answer = server.post("/widgets").bearer(admin).json(&body).await;
    assert!(answer.status == 201 || answer.status == 409);
}
