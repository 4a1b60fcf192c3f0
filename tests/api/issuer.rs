//! The public URL and the audience: what tokens say of them, and how the server describes itself.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    harness::{TestServer, latchkey},
    keys::{jwks, verify},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_issuer_and_the_audience_are_those_of_the_settings_and_older_tokens_stay_good() {
    let dir = Arc::new(TempDir::new().unwrap());
    let mut server = TestServer::on(Arc::clone(&dir), &[]);
    let mut tokens = vec![server.user("jo@example.com").await];
    for (args, issuer, audience) in [
        (vec!["--public-url", "https://login.example.com/"], json!("https://login.example.com"), Value::Null),
        (
            vec!["--public-url", "http://127.0.0.1:5282", "--audience", "shop"],
            json!("http://127.0.0.1:5282"),
            json!("shop"),
        ),
        (
            vec!["--audience", "shop,blog", "--audience", "https://api.example.com/"],
            Value::Null,
            json!(["shop", "blog", "https://api.example.com/"]),
        ),
        (vec![], Value::Null, Value::Null),
    ] {
        server.stop();
        server = TestServer::on(Arc::clone(&dir), &args);
        tokens.push(server.log_in("jo@example.com").await);
        let claims = verify(tokens.last().unwrap(), &jwks(&server).await).unwrap();
        assert_eq!((&claims["iss"], &claims["aud"]), (&issuer, &audience), "{args:?}");
        for token in &tokens {
            assert_eq!(server.status_of(token).await, 200, "{args:?}");
        }
    }
}

#[test]
fn a_public_url_or_an_audience_that_cannot_be_is_refused() {
    for (setting, value) in [
        ("--public-url", "http://login.example.com"),
        ("--public-url", "https://login.example.com/path"),
        ("--public-url", "https://login.example.com/?query"),
        ("--public-url", "https://me@login.example.com"),
        ("--public-url", "login.example.com"),
        ("--public-url", "ftp://localhost"),
        ("--public-url", "https://"),
        ("--audience", "with blank"),
        ("--audience", "with\"quote"),
        ("--audience", "ümlaut"),
        ("--audience", "1,2,3,4,5,6,7,8,9,10,11"),
        ("--signing-algorithm", "none"),
        ("--key-rotation", "1m"),
    ] {
        let output = latchkey().args(["config", setting, value]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{setting} {value}");
        assert!(String::from_utf8(output.stderr).unwrap().contains(setting), "{setting} {value}");
    }
}

#[tokio::test]
async fn a_server_with_a_public_url_describes_itself_and_is_no_openid_provider() {
    let server = TestServer::with(&["--public-url", "https://login.example.com"]);
    let path = "//.well-known/oauth-authorization-server";
    let answer = server.get(path).send().await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let expected = json!({
        "issuer": "https://login.example.com",
        "jwks_uri": "https://login.example.com/.well-known/jwks.json",
        "introspection_endpoint": "https://login.example.com/api/v1/token/introspect",
        "introspection_endpoint_auth_methods_supported": ["client_secret_basic"],
        "revocation_endpoint": "https://login.example.com/api/v1/token/revoke",
        "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
        "response_types_supported": [],
        "grant_types_supported": [],
    });
    assert_eq!(answer.json(), expected);
    for served in ["jwks_uri", "introspection_endpoint", "revocation_endpoint"] {
        let path = expected[served].as_str().unwrap().replace("https://login.example.com/", "//");
        assert_ne!(server.get(&path).send().await.status, 404, "{served}");
    }
    assert_eq!(server.get("//.well-known/openid-configuration").send().await.status, 404);
    assert_eq!(TestServer::start().get(path).send().await.status, 404, "without a public URL");
}
