//! Hostile strings in every field of every operation, in headers and in the path: each gets an error with a reason, no response header
//! repeats it, and the log stays plain text. The fields come from the document, so that a new one is tried as well.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use proptest::{
    prelude::Strategy,
    prop_oneof,
    test_runner::{Config, TestRunner},
};
use reqwest::{Method, header::HeaderValue};
use serde_json::{Value, json};

use super::{
    ground_rules::{FORM, JSON},
    harness::{Answer, Call, PASSWORD, TestServer, claims},
    raw::raw,
};

/// One JSON string per line.
const STRINGS: &str = include_str!("../data/naughty_strings.jsonl");
/// The number of requests in flight.
const AT_ONCE: usize = 16;

fn strings() -> Vec<String> {
    STRINGS.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A place in a request for a string.
#[derive(Clone)]
struct Place {
    method: Method,
    path: String,
    /// The other fields of the body.
    body: BTreeMap<String, Value>,
    field: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Path,
    Query,
    Body,
}

fn schema<'a>(document: &'a Value, operation: &'a Value) -> &'a Value {
    let reference = operation["requestBody"]["content"][JSON]["schema"]["$ref"].as_str().unwrap_or_default();
    &document["components"]["schemas"][reference.rsplit('/').next().unwrap()]
}

fn places(document: &Value) -> Vec<Place> {
    let mut places = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schema = schema(document, operation);
            let body = schema["example"].as_object().into_iter().flatten();
            let body: BTreeMap<_, _> = body.map(|(name, value)| (name.clone(), value.clone())).collect();
            let mut add = |field: &str, kind| {
                let method = method.to_uppercase().parse().unwrap();
                places.push(Place { method, path: path.clone(), body: body.clone(), field: field.to_owned(), kind });
            };
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let kind = if parameter["in"] == "path" { Kind::Path } else { Kind::Query };
                add(parameter["name"].as_str().unwrap(), kind);
            }
            for field in schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name) {
                add(field, Kind::Body);
            }
        }
    }
    places
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |coded, byte| coded + &format!("%{byte:02x}"))
}

impl Place {
    /// Returns the request with `text` in this place. `victim` is the user whom the request changes, if it changes a user.
    fn call(&self, server: &TestServer, text: &str, victim: &str, as_json: bool) -> Call {
        let mut path = self.path.clone();
        if self.kind == Kind::Path {
            path = path.replace(&format!("{{{}}}", self.field), &percent_encoded(text));
        }
        path = path.replace("{name}", "thing").replace("{public_id}", victim);
        if self.kind == Kind::Query {
            path = format!("{path}?{}={}", self.field, percent_encoded(text));
        }
        let mut body = self.body.clone();
        if self.kind == Kind::Body {
            body.insert(self.field.clone(), json!(text));
        }
        let call = server.request(self.method.clone(), &path);
        if body.is_empty() {
            call
        } else if as_json {
            call.body(JSON, json!(body).to_string())
        } else {
            let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let pair = |(name, value)| format!("{name}={}", percent_encoded(&plain(value)));
            call.body(FORM, body.iter().map(pair).collect::<Vec<_>>().join("&"))
        }
    }
}

/// Checks that no response header repeats the string, unless it is harmless in a header.
fn is_not_reflected(answer: &Answer, text: &str) {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_.:/+=*".contains(c);
    if text.len() > 2 && !text.chars().all(harmless) {
        for (name, value) in &answer.headers {
            let found = value.as_bytes().windows(text.len()).any(|part| part == text.as_bytes());
            assert!(!found, "{name} repeats {text:?}: {value:?}");
        }
        for name in ["set-cookie", "x-injected"] {
            assert!(!answer.headers.contains_key(name), "{text:?} made a header");
        }
    }
}

async fn try_everything(server: &TestServer) {
    let (admin, victim) = (server.admin().await, server.user("victim@example.com").await);
    let victim = claims(&victim)["sub"].as_str().unwrap().to_owned();
    let places = places(&server.get("/openapi.json").send().await.json());
    assert!(places.len() >= 25, "{}", places.len());
    let strings = strings();
    let tries = strings.iter().enumerate().flat_map(|(n, text)| places.iter().map(move |place| (n, text, place)));
    let tries = tries.map(async |(n, text, place)| {
        let call = place.call(server, text, &victim, n % 2 == 0).bearer(&admin);
        is_not_reflected(&call.send().await, text);
    });
    futures_util::stream::iter(tries).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;

    for text in &strings {
        for name in ["x-request-id", "user-agent", "origin", "accept", "authorization", "content-type", "if-none-match"]
        {
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                is_not_reflected(&server.post("/auth/login").header_value(name, value).send().await, text);
            }
        }
        // The text is sent unchanged, because a client library would encode it.
        if !text.contains(|c: char| c.is_ascii_whitespace() || c.is_ascii_control()) {
            let request = format!("GET /{text} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let status = raw(server, request.as_bytes()).await.status;
            assert!(
                status < 500 && status != 200 || text.starts_with(['?', '#']) || text.is_empty(),
                "{text:?}: {status}"
            );
        }
    }
    server.get("/auth/user").header("x-request-id", "the-last-one").send().await;
    server.log().wait_for("the-last-one");
}

fn is_plain(log: &str) {
    let turns_or_hides = |c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
    let odd = log.chars().find(|c| (c.is_control() && *c != '\n') || turns_or_hides(*c) || *c == '\u{feff}');
    assert_eq!(odd, None);
    assert!(!log.contains("panicked") && !log.contains(" ERROR ") && !log.contains(r#""level":"ERROR""#));
}

#[tokio::test]
async fn no_string_in_any_field_does_harm_or_leaves_a_trace_in_a_log_of_text() {
    let server = TestServer::with_admin(&["--metrics-listen", "127.0.0.1:0", "--password-min-length", "1"]);
    try_everything(&server).await;
    let log = server.log().text();
    is_plain(&log);
    let a_line = |line: &str| line.get(..4).is_some_and(|year| year.bytes().all(|digit| digit.is_ascii_digit()));
    assert_eq!(log.lines().find(|line| !a_line(line)), None, "a line that nobody wrote");
    let metrics = super::metrics::scrape(&server).await;
    assert!(metrics.contains("\nlatchkey_panics_total 0\n"), "{metrics}");
    assert_eq!(
        server.post("/auth/login").form(&[("email", super::harness::ADMIN), ("password", PASSWORD)]).await.status,
        200
    );
}

/// Generates nearly valid emails, dates, names and URLs, and arbitrary texts.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        ".{0,40}",
        "[a-z.+@\"]{0,12}@?[a-z.\\[\\]-]{0,12}",
        "[0-9]{0,5}[-/][0-9]{0,3}[-/][0-9]{0,5}([T ][0-9:.]{0,12}(Z|[+-][0-9:]{0,6}| [AP]M UTC)?)?",
        "(May|Sept|february|[0-9]{1,2}) ([0-9]{1,3},?|Feb) [0-9]{1,6}",
        "[a-z0-9_-]{0,101}",
        "[htpsHTPS]{0,5}:?[/\\\\]{0,3}[a-z0-9.:@#?\\[\\]%-]{0,30}",
    ]
}

#[test]
fn any_text_in_a_field_is_taken_or_refused_with_the_name_of_the_field() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = TestServer::with_admin(&[]);
    let admin = runtime.block_on(server.admin());
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&texts(), |text| {
        let good = json!({ "name": "thing", "info_url": "http://a", "deadline": "2999-01-01" });
        for field in ["name", "info_url", "deadline", "email"] {
            let (path, mut body) = match field {
                "email" => ("/auth/login", json!({ "password": PASSWORD })),
                _ => ("/widgets", good.clone()),
            };
            body[field] = json!(text);
            let answer = runtime.block_on(server.post(path).bearer(&admin).json(&body));
            match answer.status.as_u16() {
                400 => assert!(!answer.error(field).is_empty(), "{field} {text:?}: {}", answer.text),
                status => assert!([201, 401, 409].contains(&status), "{field} {text:?}: {}", answer.text),
            }
        }
        Ok(())
    });
    outcome.unwrap();
}

#[tokio::test]
async fn no_string_in_any_field_does_harm_or_leaves_a_trace_in_a_log_of_json() {
    let server = TestServer::with_admin(&["--log-format", "json", "--password-min-length", "1"]);
    try_everything(&server).await;
    let log = server.log().text();
    is_plain(&log);
    for line in log.lines() {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
}
