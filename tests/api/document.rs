//! The OpenAPI document matches the server. The test provokes every status of the document. It fails at a response whose status is not in
//! the document.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    harness::{Call, PASSWORD, TestServer, claims},
    keys_documented, services_documented as services,
};

/// The id of no user and no service.
pub(super) const NOBODY: &str = "018f3f6e-0000-7000-8000-000000000000";
/// Statuses that only a defect, a failing disk or overload can cause. One rule adds them to each operation of the document.
const NOT_ON_REQUEST: [&str; 2] = ["500", "503"];

async fn document(server: &TestServer) -> Value {
    server.get("/openapi.json").send().await.json()
}

/// Returns a map from each operation, such as `GET /auth/user`, to its statuses in the document.
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
    let (lock, for_services) = (json!([{ "BearerAuth": [] }]), json!([{ "ServiceAuth": [] }]));
    let expected = [
        ("register", json!([])),
        ("log_in", json!([])),
        ("get_user", lock.clone()),
        ("log_out", lock.clone()),
        ("log_out_everywhere", lock.clone()),
        ("change_password", lock.clone()),
        ("delete_account", lock.clone()),
        ("list_services", lock.clone()),
        ("create_service", lock.clone()),
        ("get_service", lock.clone()),
        ("change_service", lock.clone()),
        ("rotate_service_secret", lock.clone()),
        ("delete_service", lock.clone()),
        ("introspect_token", for_services.clone()),
        ("revoke_token", for_services.clone()),
        ("list_revocations", for_services),
        ("list_users", lock.clone()),
        ("create_user", lock.clone()),
        ("get_user_by_id", lock.clone()),
        ("change_user", lock.clone()),
        ("end_sessions", lock.clone()),
        ("delete_user", lock.clone()),
        ("list_keys", lock.clone()),
        ("get_key", lock.clone()),
        ("rotate_key", lock.clone()),
        ("retire_key", lock.clone()),
        ("remove_key", lock.clone()),
        ("list_widgets", lock.clone()),
        ("create_widget", lock.clone()),
        ("get_widget", lock.clone()),
        ("put_widget", lock.clone()),
        ("delete_widget", lock),
    ];
    assert_eq!(seen, expected.map(|(id, security)| (id.to_owned(), security)).into());
    let schemes = document["components"]["securitySchemes"].as_object().unwrap();
    assert_eq!(schemes.keys().collect::<Vec<_>>(), ["BearerAuth", "ServiceAuth"]);
    assert_eq!(schemes["ServiceAuth"]["scheme"], "bearer");
    assert_eq!((&schemes["BearerAuth"]["type"], &schemes["BearerAuth"]["scheme"]), (&json!("http"), &json!("bearer")));
}

/// Calls `check` with each object below `value` and its path.
fn each_object(value: &Value, path: &str, check: &mut impl FnMut(&str, &Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            check(path, members);
            members.iter().for_each(|(name, value)| each_object(value, &format!("{path}/{name}"), check));
        }
        Value::Array(values) => values.iter().for_each(|value| each_object(value, path, check)),
        _ => {}
    }
}

/// A generator of clients drops what it does not read, often without an error. `tests/document` runs some.
#[tokio::test]
async fn schemas_have_the_form_that_generators_of_clients_read() {
    let document = document(&TestServer::start()).await;
    let mut types = BTreeMap::new();
    each_object(&document, "", &mut |path, object| {
        for combination in ["allOf", "anyOf", "oneOf"] {
            assert!(!object.contains_key(combination), "{path}: no schema needs {combination}");
        }
        assert!(!object.contains_key("$ref") || object.len() == 1, "{path}: what is beside a reference has no meaning");
        if object.get("type").is_some_and(|kind| kind == "object") && object.contains_key("properties") {
            let title = object.get("title").and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: no title"));
            let earlier = types.insert(title.to_owned(), path.to_owned());
            assert_eq!(earlier, None, "{path}: two types of the name {title}");
            assert!(!path.starts_with("/paths"), "{path}: a schema that has no name to refer to");
        }
        if let Some(format) = object.get("format").filter(|_| object.contains_key("type")) {
            let known = ["int64", "password", "email", "uri", "uuid"];
            assert!(known.iter().any(|known| format == known), "{path}: the format {format}");
        }
        for bound in ["minimum", "maximum"].iter().filter_map(|bound| object.get(*bound)) {
            assert!(bound.is_i64() || bound.is_u64(), "{path}: the bound {bound} of an integer");
        }
    });
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Some(body) = operation.get("requestBody") else { continue };
            let kinds = body["content"].as_object().unwrap().values();
            let schemas: BTreeSet<_> = kinds.clone().map(|kind| kind["schema"]["$ref"].as_str().unwrap()).collect();
            assert_eq!(
                schemas.len(),
                kinds.len(),
                "{method} {path}: the type of a body does not tell its content type"
            );
        }
    }
    for schema in ["Change", "NewUser"] {
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas[schema]["properties"]["admin"]["nullable"], true, "{schema}");
        let form = &schemas[format!("{schema}Form")]["properties"]["admin"];
        assert!(form.is_object() && form.get("nullable").is_none(), "{schema}: a form has no null");
    }
}

#[tokio::test]
async fn every_route_and_status_that_is_served_is_in_the_document_and_the_other_way_round() {
    let server = TestServer::with_admin(&[]);
    let document = document(&server).await;
    let documented = documented(&document);
    let mut answered: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut bodies: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
    for operation in documented.keys() {
        let (method, path) = operation.split_once(' ').unwrap();
        let method = method.parse().unwrap();
        let of_services = services::provoke(&server, &method, path).await;
        let calls = match (of_services, keys_documented::provoke(&server, &method, path).await) {
            (Some(calls), _) | (_, Some(calls)) => calls,
            (None, None) => provoke(&server, &method, path).await,
        };
        for call in calls {
            let answer = call.send().await;
            let status = answer.status.as_u16().to_string();
            if !answer.text.is_empty() {
                bodies.entry((operation.clone(), status.clone())).or_default().push(answer.json());
            }
            answered.entry(operation.clone()).or_default().insert(status);
        }
    }
    for ((operation, status), bodies) in &bodies {
        let (method, path) = operation.split_once(' ').unwrap();
        let response = &document["paths"][path][method.to_lowercase()]["responses"][status];
        let example = &response["content"]["application/json"]["example"];
        let is_like = |body: &Value| keys(body) == keys(example) && body["message"] == example["message"];
        assert!(bodies.iter().any(is_like), "{operation} {status}: the example {example} is none of {bodies:#?}");
    }
    for (operation, status) in throttled().await {
        answered.entry(operation.to_owned()).or_default().insert(status);
    }
    for (operation, statuses) in &documented {
        let mut expected = statuses.clone();
        expected.retain(|status| !NOT_ON_REQUEST.contains(&status.as_str()));
        assert_eq!(answered[operation], expected, "{operation}: what was answered, what the document says");
        assert!(NOT_ON_REQUEST.iter().all(|status| statuses.contains(*status)), "{operation}");
    }
}

/// The names of all members of a JSON value, with the objects that they are in. The fields that an error names depend on the request.
fn keys(value: &Value) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    each_object(value, "", &mut |path, object| {
        if path != "/errors" {
            keys.extend(object.keys().map(|key| format!("{path}/{key}")));
        }
    });
    keys
}

/// An example of the document is the first thing that people send, so that it must be taken, in the order of the README.
#[tokio::test]
async fn the_examples_of_request_bodies_are_accepted() {
    let server = TestServer::with_admin(&["--signup", "open"]);
    let document = document(&server).await;
    let example = |schema: &str| document["components"]["schemas"][schema]["example"].clone();
    let (registration, credentials) = (example("Registration"), example("Credentials"));
    assert_ne!(registration["email"], credentials["email"], "the README registers who logs in");
    let registered = server.post("/auth/register").json(&credentials).await;
    assert_eq!(registered.status, 201, "as the README has it: {}", registered.text);
    assert_eq!(server.post("/auth/register").json(&registration).await.status, 201);
    let token = server.post("/auth/login").json(&credentials).await.json()["access_token"].as_str().unwrap().to_owned();
    let admin = server.admin().await;
    assert_eq!(server.post("/users").bearer(&admin).json(&example("NewUser")).await.status, 201);
    assert_eq!(server.post("/keys/rotate").bearer(&admin).json(&example("Rotation")).await.status, 201);
    assert_eq!(server.post("/widgets").bearer(&admin).json(&example("NewWidget")).await.status, 201);
    services::accepts_examples(&server, &admin, example).await;
    let changed = server.post("/auth/password").bearer(&token).json(&example("PasswordChange")).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema.get("example").is_some(), "{name} has no example");
    }
}

/// Calls each operation with a limit on guessing on a server whose limits are used up.
async fn throttled() -> Vec<(&'static str, String)> {
    let server = TestServer::with(&["--login-limit", "1/1h", "--register-limit", "1/1h"]);
    let token = server.user("someone@example.com").await;
    server.log_in("someone@example.com").await;
    let body = json!({ "email": "someone@example.com", "password": PASSWORD, "current_password": PASSWORD,
                       "new_password": "another good password" });
    let mut answered = Vec::new();
    for operation in ["POST /auth/register", "POST /auth/login", "POST /auth/password", "DELETE /auth/user"] {
        let (method, path) = operation.split_once(' ').unwrap();
        let answer = server.request(method.parse().unwrap(), path).bearer(&token).json(&body).await;
        answered.push((operation, answer.status.as_u16().to_string()));
    }
    for operation in ["POST /token/introspect", "POST /token/revoke", "GET /token/revocations"] {
        let (method, path) = operation.split_once(' ').unwrap();
        let answer = server.request(method.parse().unwrap(), path).bearer("lks_wrong").send().await;
        answered.push((operation, answer.status.as_u16().to_string()));
    }
    answered
}

/// An operation that is not in the document must not be served. The test tries each path of the document with each method that it does not
/// list.
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
                let path =
                    path.replace("{name}", "x").replace("{public_id}", "x").replace("{id}", "x").replace("{kid}", "x");
                let answer = server.request(method.parse().unwrap(), &path).bearer(&admin).send().await;
                assert_eq!(answer.status, 405, "{method} {path}");
                assert_eq!(answer.header("allow"), allowed.join(", "), "{method} {path}");
            }
        }
    }
}

/// Requests that provoke every status of the operation.
async fn provoke(server: &TestServer, method: &Method, path: &str) -> Vec<Call> {
    let admin = server.admin().await;
    let user = server.anybody("someone@example.com").await;
    let call = |path: &str| server.request(method.clone(), path);
    let protected = !path.starts_with("/auth/register") && !path.starts_with("/auth/login");
    let for_admins = path.starts_with("/users") || (path.starts_with("/widgets") && *method != Method::GET);
    let token = if for_admins { &admin } else { &user };
    let ready = |path: &str| if protected { call(path).bearer(token) } else { call(path) };
    let json = |call: Call, body: Value| call.body("application/json", body.to_string());
    let id = |token: &str| claims(token)["sub"].as_str().unwrap().to_owned();
    let widget = |name: &str| json!({ "name": name, "info_url": "https://example.com", "deadline": "2999-01-01" });

    let plain = path.replace("{name}", "second-widget").replace("{public_id}", NOBODY);
    let mut calls =
        vec![ready(&format!("{plain}?{}", "x".repeat(9000))), ready(&plain).header("x-long", &"x".repeat(33 * 1024))];
    if protected {
        calls.push(call(&plain));
        calls.push(call(&plain).bearer(token).bearer(token));
    }
    if for_admins {
        calls.push(call(&plain).bearer(&user));
    }
    let mut has_body = true;
    match (method.as_str(), path) {
        ("POST", "/auth/register") => {
            let body = json!({ "email": "friend@example.com", "password": PASSWORD });
            calls.extend([json(ready(path), body.clone()), json(ready(path), body)]);
        }
        ("POST", "/auth/login") => {
            let body = |password| json!({ "email": "someone@example.com", "password": password });
            calls.extend([json(ready(path), body(PASSWORD)), json(ready(path), body("wrong password"))]);
        }
        ("POST", "/auth/password") => {
            let token = server.anybody("changing@example.com").await;
            let body = json!({ "current_password": PASSWORD, "new_password": "another good password" });
            calls.push(json(call(path).bearer(&token), body));
        }
        ("DELETE", "/auth/user") => {
            let body = json!({ "password": PASSWORD });
            let token = server.anybody("leaving@example.com").await;
            calls.push(json(call(path).bearer(&token), body.clone()));
            calls.push(json(call(path).bearer(&admin), body));
        }
        ("POST", "/auth/logout" | "/auth/logout-all") => {
            has_body = false;
            calls.push(call(path).bearer(&server.anybody("going@example.com").await));
        }
        ("POST", "/users") => {
            let body = json!({ "email": "colleague@example.com", "password": PASSWORD });
            calls.extend([json(ready(path), body.clone()), json(ready(path), body)]);
        }
        ("POST", "/widgets") => {
            calls.extend([json(ready(path), widget("first-widget")), json(ready(path), widget("first-widget"))]);
        }
        ("PUT", _) => {
            let path = "/widgets/first-widget";
            server.request(Method::DELETE, path).bearer(&admin).send().await;
            calls.extend([json(ready(path), widget("")), json(ready(path), widget(""))]);
        }
        ("PATCH", "/users/{public_id}") => {
            let of = |token: &str| ready(&path.replace("{public_id}", &id(token)));
            calls.push(json(ready(&plain), json!({ "admin": true })));
            calls.push(json(of(&user), json!({ "disabled": false })));
            calls.push(json(of(&admin), json!({ "admin": false })));
            calls.push(json(of(&user), json!({ "admin": "perhaps" })));
        }
        ("DELETE", "/users/{public_id}") => {
            has_body = false;
            let token = server.anybody("unwanted@example.com").await;
            calls.push(ready(&path.replace("{public_id}", &id(&token))));
            calls.push(ready(&path.replace("{public_id}", &id(&admin))));
            calls.push(ready(&plain));
        }
        (_, "/users/{public_id}" | "/users/{public_id}/end-sessions") => {
            has_body = false;
            let token = server.anybody("you@example.com").await;
            calls.extend([ready(&plain), ready(&path.replace("{public_id}", &id(&token)))]);
        }
        (_, "/widgets/{name}") => {
            has_body = false;
            let created = server.post("/widgets").bearer(&admin).json(&widget("present")).await;
            assert!(created.status == 201 || created.status == 409);
            calls.extend([ready("/widgets/present"), ready("/widgets/first-widget"), ready("/widgets/NO-NAME")]);
        }
        (_, "/widgets" | "/users") => {
            has_body = false;
            server.post("/widgets").bearer(&admin).json(&widget("listed")).await; // or it is there already
            calls.extend([ready(path), ready(&format!("{path}?page=0"))]);
        }
        _ => {
            has_body = false;
            calls.push(ready(path));
        }
    }
    if has_body {
        calls.push(ready(&plain).body("application/json", r#"{"email":1,"admin":1,"info_url":1}"#));
        calls.push(ready(&plain).body("text/plain", "x"));
        calls.push(ready(&plain).body("application/json", " ".repeat(65 * 1024)));
    }
    calls
}
