//! `/widgets`: the allowed values of a name, an `info_url` and a deadline. Adding and editing have the same rules.

use std::sync::Arc;

use latchkey::clock::ManualClock;
use proptest::{
    prelude::{Strategy, any, prop_oneof},
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    harness::{Answer, TestServer},
    widgets::{FAILED, LATER, URL, add, get, names, put},
};

const NAME_RULE: &str = "must be 1 to 100 characters: lowercase letters, digits, - (hyphen) and _ (underscore) only";
const URL_RULE: &str = "must be an absolute http or https URL with a host, at most 2048 bytes long";
const MISSING: &str = "Missing required parameter in the post body";
/// 2027-05-13T12:34:56Z
pub(crate) const NOW: i64 = 1_810_211_696;

/// Returns `bytes` with all of them percent-encoded, for a path.
fn encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |path, byte| format!("{path}%{byte:02X}"))
}

/// Adds a widget and edits an existing one with these two fields. Checks that both requests have the same result.
pub(crate) async fn add_and_edit(server: &TestServer, token: &str, info_url: &str, deadline: &str) -> Answer {
    let added = server.post("/widgets").bearer(token);
    let added = added.json(&json!({ "name": "added", "info_url": info_url, "deadline": deadline })).await;
    let edited = server.request(Method::PUT, "/widgets/edited").bearer(token);
    let edited = edited.json(&json!({ "info_url": info_url, "deadline": deadline })).await;
    let what = format!("{info_url:?} {deadline:?}: {} {}", added.text, edited.text);
    if added.status == 201 {
        assert_eq!(edited.status, 200, "{what}");
        for name in ["added", "edited"] {
            let widget = server.get(&format!("/widgets/{name}")).bearer(token).send().await.json();
            assert_eq!(widget["info_url"], info_url);
        }
        let deleted = server.request(Method::DELETE, "/widgets/added").bearer(token).send().await;
        assert_eq!(deleted.status, 204);
    } else {
        assert_eq!((added.status.as_u16(), edited.status.as_u16()), (400, 400), "{what}");
        assert_eq!(added.json(), edited.json());
    }
    added
}

/// Starts a server with an administrator and a widget to edit. Returns the server and the administrator's token.
pub(crate) async fn with_a_widget_to_edit(clock: Arc<ManualClock>) -> (TestServer, String) {
    let server = TestServer::at(clock, &["--with-admin"]).await;
    let token = server.admin().await;
    let fields = [("info_url", URL), ("deadline", LATER)];
    assert_eq!(server.request(Method::PUT, "/widgets/edited").bearer(&token).form(&fields).await.status, 201);
    (server, token)
}

#[tokio::test]
async fn a_name_is_lowercase_letters_digits_hyphen_and_underscore_in_the_body_and_in_the_path() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    let (longest, too_long) = ("x".repeat(100), "x".repeat(101));
    let good = ["a", "z", "0", "9", "-", "_", "--__--", "a-b_c-0", "0123", "select", longest.as_str()];
    for name in good {
        let path = format!("/widgets/{name}");
        let fields = [("name", name), ("info_url", URL), ("deadline", LATER)];
        let added = server.post("/widgets").bearer(&token).form(&fields).await;
        assert_eq!(added.status, 201, "{name}");
        assert_eq!(added.header("location"), format!("/api/v1{path}"));
        assert_eq!(added.message(), format!("New widget added: {name}."));
        let widget = server.get(&path).bearer(&token).send().await.json();
        assert_eq!((&widget["name"], &widget["link"]), (&json!(name), &json!(format!("/api/v1{path}"))));
        assert_eq!(server.request(Method::DELETE, &path).bearer(&token).send().await.status, 204, "{name}");
        assert_eq!(server.request(Method::PUT, &path).bearer(&token).form(&fields[1..]).await.status, 201, "{name}");
    }
    // A percent-encoded path is equivalent.
    assert_eq!(server.get("/widgets/%61%2D%62_c-0").bearer(&token).send().await.json()["name"], "a-b_c-0");

    let bad = [
        "A",
        "aB",
        "ä",
        "ａ",
        "ß",
        "а",
        "a b",
        " a",
        "a ",
        "a/b",
        "/",
        "a\\b",
        "a.b",
        "a+b",
        "a%b",
        "%61",
        "a~",
        "a\0",
        "a\n",
        "\n",
        "\r\na",
        "a?b",
        "a#b",
        "a:b",
        "'",
        "\"",
        "<b>",
        "😀",
        "a\u{301}",
        "\u{200b}",
        "\u{202e}a",
        too_long.as_str(),
    ];
    for name in bad {
        let body = json!({ "name": name, "info_url": URL, "deadline": LATER });
        let answer = server.post("/widgets").bearer(&token).json(&body).await;
        assert_eq!((answer.status.as_u16(), answer.error("name").as_str()), (400, NAME_RULE), "{name:?}");
        let path = format!("/widgets/{}", encoded(name.as_bytes()));
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let answer = server.request(method.clone(), &path).bearer(&token).json(&body).await;
            assert_eq!((answer.status.as_u16(), answer.error("name").as_str()), (400, NAME_RULE), "{method} {name:?}");
        }
    }
    let empty = json!({ "name": "", "info_url": URL, "deadline": LATER });
    assert_eq!(server.post("/widgets").bearer(&token).json(&empty).await.error("name"), NAME_RULE);
    assert_eq!(names(&server, &token).await, good);
}

#[tokio::test]
async fn an_info_url_is_an_absolute_http_or_https_url_with_a_host() {
    let (server, token) = with_a_widget_to_edit(Arc::new(ManualClock::at(NOW))).await;
    let longest = format!("http://example.com/{}", "x".repeat(2048 - 19));
    let good = [
        "http://example.com",
        "https://example.com/",
        "HTTPS://EXAMPLE.COM/Path",
        "http://example.com:8080/a/b;c?d=e&f=%20#g",
        "http://localhost",
        "http://a",
        "http://127.0.0.1/",
        "http://[::1]:8080/",
        "https://[2001:db8::1]",
        "https://jo:secret@example.com/",
        "https://bücher.example/ä?ö=ü",
        "https://例え.テスト/",
        "https://example.com/?next=https://other.example",
        "https://example.com?q",
        "https://example.com#f",
        longest.as_str(),
    ];
    for url in good {
        let answer = add_and_edit(&server, &token, url, LATER).await;
        assert_eq!(answer.status, 201, "{url:?}: {}", answer.text);
    }
    let too_long = format!("{longest}x");
    // These are 1,000 characters more than the rest, but 3,000 bytes more.
    let too_long_in_bytes = format!("http://example.com/{}", "€".repeat(1000));
    let bad = [
        "",
        " ",
        "example.com",
        "www.example.com/info",
        "/info",
        "//example.com/info",
        "?a=b",
        "http",
        "http:",
        "http:/",
        "http://",
        "http:///",
        "https:///example.com",
        "https:example.com",
        "https:/example.com",
        "https:example.com?next=https://other.example",
        "http:\\\\example.com",
        "http:\\\\example.com/a://b",
        "http://?a=b",
        "http://#f",
        "http://:80",
        "http://@",
        "http://jo@",
        "ftp://example.com",
        "file:///etc/passwd",
        "ws://example.com",
        "httpx://example.com",
        "javascript:alert(1)",
        "javascript://example.com/%0Aalert(1)",
        "data:text/html,<p>",
        "mailto:jo@example.com",
        "urn:isbn:0",
        "http://exa mple.com",
        "http://example.com/a b",
        " http://example.com",
        "http://example.com ",
        "http://example.com\n",
        "ht\ntp://example.com",
        "http://example.com/\ta",
        "http://example.com/\0",
        "\u{1}http://example.com",
        "http://example.com/\u{7f}",
        "http://example.com/\u{a0}",
        "http://example.com/\u{2028}",
        "http://example.com:port",
        "http://example.com:65536",
        "http://[::1",
        "http://[::g]",
        "http://256.256.256.256",
        "http://exa<mple.com",
        "http://%00",
        too_long.as_str(),
        too_long_in_bytes.as_str(),
    ];
    for url in bad {
        let answer = add_and_edit(&server, &token, url, LATER).await;
        assert_eq!((answer.status.as_u16(), answer.error("info_url").as_str()), (400, URL_RULE), "{url:?}");
    }
}

#[tokio::test]
async fn every_field_that_failed_is_named_and_nothing_is_stored() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    let nothing = server.post("/widgets").bearer(&token).form(&[]).await;
    assert_eq!((nothing.status.as_u16(), nothing.message().as_str()), (400, FAILED));
    assert_eq!(nothing.json()["errors"], json!({ "name": MISSING, "info_url": MISSING, "deadline": MISSING }));
    let nothing = put(&server, &token, "x", &[]).await;
    assert_eq!(nothing.json()["errors"], json!({ "info_url": MISSING, "deadline": MISSING }));

    let good = [("name", "x"), ("info_url", URL), ("deadline", LATER)];
    let bad = [("name", "X"), ("info_url", "ftp://example.com"), ("deadline", "2020-02-28")];
    for failing in 1..8 {
        let fields: [_; 3] = std::array::from_fn(|n| if failing >> n & 1 == 1 { bad[n] } else { good[n] });
        let failed = |fields: &[(&'static str, &str)]| -> Vec<&'static str> {
            fields.iter().filter(|field| bad.contains(field)).map(|field| field.0).collect()
        };
        let named = |answer: &Answer| {
            assert_eq!((answer.status.as_u16(), answer.message().as_str()), (400, FAILED), "{fields:?}");
            let mut named: Vec<_> = answer.json()["errors"].as_object().unwrap().keys().cloned().collect();
            named.sort_by_key(|name| bad.iter().position(|field| field.0 == name));
            named
        };
        assert_eq!(named(&server.post("/widgets").bearer(&token).form(&fields).await), failed(&fields));
        // An invalid name in the path is reported together with the invalid fields of the body.
        let path = format!("/widgets/{}", fields[0].1);
        assert_eq!(named(&server.request(Method::PUT, &path).bearer(&token).form(&fields[1..]).await), failed(&fields));
    }
    assert_eq!(names(&server, &token).await, [""; 0]);

    // A failed edit changes nothing, either.
    assert_eq!(add(&server, &token, "x").await.status, 201);
    for fields in
        [[("info_url", "ftp://a"), ("deadline", "2998-01-01")], [("info_url", "http://a"), ("deadline", "no")]]
    {
        assert_eq!(put(&server, &token, "x", &fields).await.status, 400);
    }
    let widget = get(&server, &token, "x").await.json();
    assert_eq!((&widget["info_url"], &widget["deadline_iso8601"]), (&json!(URL), &json!("2999-12-31T23:59:59Z")));
}

/// Generates nearly valid texts, and arbitrary ones.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9_-]{1,110}",
        "https?:[/\\\\]{0,3}\\PC{0,40}",
        "[+-]?[0-9]{1,6}[-/][0-9]{1,3}[-/][0-9]{1,5}(T[0-9]{2}:[0-9]{2}:[0-9]{2}([+-][0-9]{2}:[0-9]{2}|Z))?",
        "[A-Za-z]{3,9} [0-9]{1,3},? [0-9]{1,5}",
    ]
}

/// Arbitrary texts in every field are accepted or refused. The harness fails at a 5xx.
#[test]
fn any_text_is_a_widget_or_a_refusal() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = TestServer::with_admin(&[]);
    let token = runtime.block_on(server.admin());
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(texts(), texts(), texts()), |(name, info_url, deadline)| {
        runtime.block_on(async {
            let bodies = [
                (json!({ "name": name, "info_url": info_url, "deadline": deadline }), true),
                (json!({ "name": name, "info_url": URL, "deadline": LATER }), false),
                (json!({ "name": "x", "info_url": info_url, "deadline": LATER }), false),
                (json!({ "name": "x", "info_url": URL, "deadline": deadline }), false),
            ];
            for (body, as_form) in bodies {
                let call = server.post("/widgets").bearer(&token);
                let answer = if as_form { call.form(&pairs(&body)).await } else { call.json(&body).await };
                assert!(matches!(answer.status.as_u16(), 201 | 400 | 409), "{body}: {} {}", answer.status, answer.text);
                if answer.status == 201 {
                    let path = format!("/widgets/{}", body["name"].as_str().unwrap());
                    assert_eq!(server.get(&path).bearer(&token).send().await.status, 200, "{body}");
                    let deleted = server.request(Method::DELETE, &path).bearer(&token).send().await;
                    assert_eq!(deleted.status, 204, "{body}");
                }
            }
            let path = format!("/widgets/{}", encoded(name.as_bytes()));
            let answer = server.get(&path).bearer(&token).send().await;
            assert!(matches!(answer.status.as_u16(), 400 | 404), "{path}: {} {}", answer.status, answer.text);
        });
        Ok(())
    });
    outcome.unwrap();
}

fn pairs(body: &Value) -> Vec<(&str, &str)> {
    body.as_object().unwrap().iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect()
}
