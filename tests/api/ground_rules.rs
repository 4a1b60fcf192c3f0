//! Rules of every request: how a body is parsed, what is checked before it, and malformed input.

use proptest::{
    collection::vec,
    prelude::{Strategy, any, prop_oneof},
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    harness::{Answer, PASSWORD, TestServer},
    raw::raw,
};

pub(crate) const JSON: &str = "application/json";
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";
const FAILED: &str = "Input payload validation failed";
const NOT_JSON: &str = "The body is not a JSON object";
const NOT_FORM: &str = "The body is not valid UTF-8 form encoding";
/// The maximum size of a body.
const BODY_BYTES_MAX: usize = 64 * 1024;

pub(crate) async fn register(server: &TestServer, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
    server.post("/auth/register").body(content_type, body).send().await
}

/// Returns the names of the fields in `errors`.
fn named(answer: &Answer) -> Vec<String> {
    answer.json()["errors"].as_object().into_iter().flat_map(|errors| errors.keys().cloned()).collect()
}

#[tokio::test]
async fn a_form_and_json_are_read_whatever_the_spelling_of_their_content_type() {
    let server = TestServer::start();
    let types = [
        (JSON, true),
        ("application/json; charset=utf-8", true),
        ("application/json;charset=UTF-8", true),
        ("Application/JSON", true),
        (FORM, false),
        ("application/x-www-form-urlencoded; charset=UTF-8", false),
        ("APPLICATION/X-WWW-FORM-URLENCODED", false),
    ];
    for (n, (content_type, is_json)) in types.into_iter().enumerate() {
        let email = format!("jo{n}@example.com");
        let body = if is_json {
            json!({ "email": email, "password": "ä+b &c=d%" }).to_string()
        } else {
            format!("email={email}&password=%C3%A4%2Bb+%26c=d%25")
        };
        assert_eq!(register(&server, content_type, body).await.status, 201, "{content_type}");
        // Both encodings result in the same password.
        let login = server.post("/auth/login").form(&[("email", &email), ("password", "ä+b &c=d%")]).await;
        assert_eq!(login.status, 200, "{content_type}");
    }
}

#[tokio::test]
async fn another_content_type_is_refused() {
    let server = TestServer::start();
    let body = json!({ "email": "jo@example.com", "password": PASSWORD }).to_string();
    let refused = |answer: Answer, what: &str| {
        assert_eq!(answer.status, 415, "{what}: {}", answer.text);
        let message = "The body must be application/json or application/x-www-form-urlencoded";
        assert_eq!(answer.json(), json!({ "status": "fail", "message": message }));
    };
    for content_type in [
        "text/plain",
        "text/json",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/json2; charset=utf-8",
        "application/xml",
        "json",
        "*/*",
        ";application/json",
    ] {
        refused(register(&server, content_type, body.clone()).await, content_type);
    }
    refused(register(&server, "text/plain", "").await, "an empty text");
    // If there is neither a body nor a content type, the response names the missing fields, which is more helpful.
    assert_eq!(named(&server.post("/auth/register").send().await), ["email", "password"]);
    for coding in ["gzip", "br", "deflate", "identity, gzip"] {
        let call = server.post("/auth/register").header("content-encoding", coding);
        refused(call.body(JSON, body.clone()).send().await, coding);
    }
    let untyped = format!("POST /api/v1/auth/register HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    assert_eq!(raw(&server, (untyped + &body).as_bytes()).await.status, 415);
    let identity = server.post("/auth/register").header("content-encoding", "identity");
    assert_eq!(identity.body(JSON, body).send().await.status, 201);
}

#[tokio::test]
async fn a_field_sent_twice_is_named_and_an_unknown_one_ignored() {
    let server = TestServer::start();
    let why = "was sent more than once";
    for (content_type, body) in [
        (FORM, "email=jo@example.com&password=correct+horse&email=jo@example.com"),
        (FORM, "email=jo@example.com&password=correct+horse&%65mail=al@example.com"),
        (JSON, r#"{"email": "jo@example.com", "password": "correct horse", "email": "jo@example.com"}"#),
        (JSON, r#"{"email": "jo@example.com", "password": "correct horse", "\u0065mail": null}"#),
    ] {
        let answer = register(&server, content_type, body).await;
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (400, FAILED), "{body}");
        assert_eq!(answer.json()["errors"], json!({ "email": why }));
    }
    let both = register(&server, FORM, "email=a&email=b&password=c&password=d").await;
    assert_eq!(both.json()["errors"], json!({ "email": why, "password": why }));

    let form = "email=jo@example.com&password=correct+horse&x=1&x=2&&Email=other&=&email[]=y&admin=true";
    assert_eq!(register(&server, FORM, form).await.status, 201);
    let json = r#"{"x": 1, "x": [{}], "Email": 7, "": null, "password": "correct horse", "email": "al@example.com"}"#;
    assert_eq!(register(&server, JSON, json).await.status, 201);
}

#[tokio::test]
async fn a_json_body_that_is_no_object_of_texts_is_refused() {
    let server = TestServer::start();
    let (brackets, braces) = ("[".repeat(60_000), r#"{"a":"#.repeat(13_000));
    let within = format!(r#"{{"email": {}"#, "[".repeat(60_000));
    for body in [
        "",
        " ",
        "null",
        "true",
        "7",
        "\"text\"",
        "[]",
        r#"[{"email": "a"}]"#,
        "{",
        "}",
        r#"{"email"}"#,
        r#"{"email":}"#,
        r#"{"email": "a",}"#,
        "{'email': 'a'}",
        "{email: 1}",
        r#"{"email": "a"} x"#,
        r#"{"email": "a"}{}"#,
        r#"{"email": "a\"#,
        r#"{"email": "\ud800"}"#,
        r#"{"email": "\x"}"#,
        "{\"email\": \"a\nb\"}",
        r#"{"email": 1e999}"#,
        r#"{"email": 01}"#,
        r#"{"email": NaN}"#,
        "email=jo@example.com",
        "\u{feff}{}",
        brackets.as_str(),
        braces.as_str(),
        within.as_str(),
    ] {
        let answer = register(&server, JSON, body.to_owned()).await;
        let what = &body[..body.len().min(80)];
        assert_eq!(answer.status, 400, "{what:?}: {}", answer.text);
        assert!(answer.message().starts_with(NOT_JSON), "{what:?}: {}", answer.text);
    }
    for bytes in [&b"\xff"[..], b"{\"email\": \"\xff\"}", b"{\"\xc3\": 1}", b"\xff\xfe{\0}\0", b"{\"email\": \"\0\"}"] {
        let answer = register(&server, JSON, bytes).await;
        assert_eq!(answer.status, 400, "{bytes:?}");
        assert!(answer.message().starts_with(NOT_JSON), "{}", answer.text);
    }
    for value in [json!(7), json!(1.5), json!(true), json!(["jo@example.com"]), json!({ "a": "b" }), json!([])] {
        let answer = server.post("/auth/register").json(&json!({ "email": value, "password": value })).await;
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (400, FAILED), "{value}");
        assert_eq!(answer.json()["errors"], json!({ "email": "must be text", "password": "must be text" }));
    }
    let answer = server.post("/auth/register").json(&json!({ "email": null, "password": null })).await;
    assert_eq!(answer.error("email"), "Missing required parameter in the post body");
    assert_eq!(answer.error("password"), "Missing required parameter in the post body");
}

#[tokio::test]
async fn a_broken_form_is_refused_and_never_repaired() {
    let server = TestServer::start();
    for body in [
        &b"email=%zz"[..],
        b"email=%",
        b"email=%f",
        b"email=%f&password=x",
        b"email=%+1",
        b"email=%-1",
        b"%zz=x",
        b"x=%zz",
        b"email=%ff",
        b"email=\xff",
        b"\xff=x",
        b"email=%c3%28",
        b"email=%ed%a0%80",
        b"email=%f4%90%80%80",
    ] {
        let answer = register(&server, FORM, body).await;
        let what = String::from_utf8_lossy(body);
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (400, NOT_FORM), "{what}");
        let answer = server.post("/auth/login").body(FORM, body).send().await;
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (400, NOT_FORM), "{what}");
    }
    for body in [&b""[..], b"&", b"=", b"&&=&", b"{}"] {
        let answer = register(&server, FORM, body).await;
        assert_eq!(named(&answer), ["email", "password"], "{}", answer.text);
    }
}

#[tokio::test]
async fn a_broken_query_or_path_is_refused() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    for query in ["page=%zz", "page=%", "page=1&x=%f", "page=%ff", "%ff=1", "per_page=%c3%28"] {
        let answer = server.get(&format!("/widgets?{query}")).bearer(&token).send().await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.message(), "The query string is not valid UTF-8 form encoding");
    }
    assert_eq!(named(&server.get("/widgets?page=1%00").bearer(&token).send().await), ["page"]);
    for name in ["%zz", "%", "%f", "%00", "x%00", "a%2fb"] {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let call = server.request(method.clone(), &format!("/widgets/{name}")).bearer(&token);
            let answer = call.form(&[("info_url", "http://a"), ("deadline", "2999-01-01")]).await;
            assert_eq!(
                (answer.status.as_u16(), named(&answer)),
                (400, vec!["name".to_owned()]),
                "{method} {name} {}",
                answer.text
            );
        }
    }
    for path in ["/widgets/%ff", "/widgets/x%ff", "/widgets/%c3%28", "/auth/%ff", "/%ff"] {
        let answer = server.get(path).bearer(&token).send().await;
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (400, "The path is not valid UTF-8"), "{path}");
    }
    for path in ["//%ff", "//%zz", "//%00", "//api/%ff", "/auth/%zz", "/auth/%00"] {
        assert_eq!(server.get(path).send().await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_field_may_hold_nul_or_ten_thousand_characters_and_is_judged_by_its_rules() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    let long = "ä".repeat(10_000);
    for text in [long.as_str(), "\0", "a\0b", "\u{fffd}", "\u{10ffff}"] {
        let email = format!("{text}@example.com");
        let fields = [("email", email.as_str()), ("password", "x\0")];
        let as_json = server.post("/auth/register").json(&json!({ "email": email, "password": text.repeat(2) })).await;
        for answer in [server.post("/auth/register").form(&fields).await, as_json] {
            assert_eq!(answer.status, 400);
            assert!(named(&answer).contains(&"email".to_owned()), "{}", answer.text);
            assert!(answer.text.len() < 2000, "a long value is not repeated in full");
        }
        let login = server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", text)]).await;
        assert_eq!(login.status, 401);
        let fields = json!({ "name": text, "info_url": text, "deadline": text });
        let answer = server.post("/widgets").bearer(&token).json(&fields).await;
        assert_eq!(named(&answer), ["deadline", "info_url", "name"]);
    }
}

#[tokio::test]
async fn a_body_of_64_kib_is_read_and_a_larger_one_is_not() {
    let server = TestServer::start();
    let sized = |n: usize, email: &str| {
        let body = format!("email={email}&password=correct+horse&padding=");
        let padding = "x".repeat(n - body.len());
        body + &padding
    };
    assert_eq!(register(&server, FORM, sized(BODY_BYTES_MAX, "jo@example.com")).await.status, 201);
    let chunked = |body: &str| {
        let (half, rest) = body.split_at(body.len() / 2);
        format!(
            "POST /api/v1/auth/register HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {FORM}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{half}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
            half.len(),
            rest.len()
        )
    };
    let answer = raw(&server, chunked(&sized(BODY_BYTES_MAX, "al@example.com")).as_bytes()).await;
    assert_eq!(answer.status, 201, "{}", answer.body);

    let message = json!({ "status": "fail", "message": "The body is larger than 65536 bytes" });
    for n in [BODY_BYTES_MAX + 1, 2 * BODY_BYTES_MAX, 16 * BODY_BYTES_MAX] {
        let body = sized(n, "ed@example.com");
        let answer = register(&server, FORM, body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (413, message.clone()), "{n}");
        let answer = raw(&server, chunked(&body).as_bytes()).await;
        assert_eq!((answer.status, answer.json()), (413, message.clone()), "{n} in chunks");
    }
    assert_eq!(
        register(&server, FORM, sized(200, "ed@example.com")).await.status,
        201,
        "nobody was registered by halves"
    );
}

/// A connection that is closed with unread data is reset, and the response would be lost.
#[tokio::test]
async fn an_answer_arrives_however_much_was_sent_before_it() {
    let server = TestServer::start();
    for n in 0..5 {
        let body = "x".repeat(3_000_000 + n);
        assert_eq!(register(&server, FORM, body.clone()).await.status, 413);
        let long = server.post(&format!("/auth/register?{}", "x".repeat(9000)));
        assert_eq!(long.body(FORM, body.clone()).send().await.status, 414);
        let large = server.post("/auth/register").header("x", &"y".repeat(40_000));
        assert_eq!(large.body(FORM, body).send().await.status, 431);
    }
    // Many clients send the whole body before they read a byte.
    let head = format!("POST /api/v1/auth/register HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\n");
    let request = format!("{head}Content-Length: 8000000\r\n\r\n{}", "x".repeat(8_000_000));
    let mut stream = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn who_may_enter_is_decided_before_the_body_is_looked_at() {
    let server = TestServer::with_admin(&[]);
    let (admin, user) = (server.admin().await, server.user("jo@example.com").await);
    let length = BODY_BYTES_MAX + 1;
    let bodies = [
        ("Content-Type: application/json\r\nContent-Length: 1\r\n\r\n{".to_owned(), 400),
        ("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\n%zz".to_owned(), 400),
        ("Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}".to_owned(), 400),
        ("Content-Type: text/plain\r\nContent-Length: 1\r\n\r\nx".to_owned(), 415),
        (format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length)), 413),
    ];
    for (method, path) in [("POST", "/widgets"), ("PUT", "/widgets/x"), ("PUT", "/widgets/X")] {
        for (body, status) in &bodies {
            for (token, expected) in [("", 401), ("not.a.token", 401), (&user, 403), (&admin, *status)] {
                let authorization =
                    if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
                let request =
                    format!("{method} /api/v1{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{authorization}{body}");
                let answer = raw(&server, request.as_bytes()).await;
                assert_eq!(answer.status, expected, "{method} {path} {body:.99}: {}", answer.body);
            }
        }
    }
}

/// Generates nearly valid bodies, and arbitrary bytes.
fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..600),
        "(email|password|[a-z%]{1,3})(=[ -~]{0,20})?(&(email|password)=[%0-9a-z@.]{0,20}){0,4}"
            .prop_map(String::into_bytes),
        "\\{(\"(email|password)\":[\\[\\]{}\",:a-z0-9]{0,20},?){0,4}\\}?".prop_map(String::into_bytes),
    ]
}

/// The harness checks the format of each response, and that none is a 5xx.
#[test]
fn any_bytes_as_a_body_are_answered_with_a_reason() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = TestServer::start();
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&bodies(), |body| {
        for content_type in [FORM, JSON] {
            let answer = runtime.block_on(register(&server, content_type, body.clone()));
            assert_eq!(answer.status, 400, "{content_type} {body:?}: {}", answer.text);
            let object: Value = answer.json();
            assert_eq!(object["status"], "fail");
        }
        Ok(())
    });
    outcome.unwrap();
}
