//! Tokens that are wrong in one way each, signed with the right key where that is not the wrong thing.
//!
//! The server runs with a key that the test knows, so that a forgery fails for its own reason and not for its signature.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::harness::{TestServer, claims};

const KEY: &str = "a secret that the test knows, of more than 32 bytes";

fn segment(json: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(json.to_string())
}

fn sign(input: &str, key: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(input.as_bytes());
    format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

fn header(token: &str) -> Value {
    let header = token.split('.').next().unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
}

/// A token that says this, signed with the server's key.
fn token(header: &Value, claims: &Value) -> String {
    sign(&format!("{}.{}", segment(header), segment(claims)), KEY.as_bytes())
}

/// The object with one member changed, or taken out where the value is `null`.
fn with(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    if value.is_null() {
        object.as_object_mut().unwrap().shift_remove(name);
    } else {
        object[name] = value;
    }
    object
}

struct Forge {
    server: TestServer,
    _key: tempfile::NamedTempFile,
    token: String,
    header: Value,
    claims: Value,
}

impl Forge {
    async fn new() -> Self {
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), KEY).unwrap();
        let server = TestServer::with(&["--secret-key-file", key.path().to_str().unwrap()]);
        let token = server.user("jo@example.com").await;
        let (header, claims) = (header(&token), claims(&token));
        Self { server, _key: key, token, header, claims }
    }

    async fn is_refused(&self, token: &str, what: &str) {
        let answer = self.server.get("/auth/user").bearer(token).send().await;
        assert_eq!(answer.status, 401, "{what}");
        assert_eq!(answer.message(), "Invalid token. Please log in again.", "{what}");
    }
}

#[tokio::test]
async fn a_token_that_the_key_really_signed_is_taken_so_the_forgeries_below_fail_for_their_own_reason() {
    let forge = Forge::new().await;
    assert_eq!(token(&forge.header, &forge.claims), forge.token, "the test signs like the server");
    let renamed = with(&forge.claims, "jti", json!("5a4d0e5e-1c64-4b0a-9d3b-0c3a1f6f6c11"));
    assert_eq!(forge.server.status_of(&token(&forge.header, &renamed)).await, 200);
    assert_eq!(forge.header["typ"], "JWT");
    assert_eq!(forge.header["alg"], "HS256");
    assert!(forge.header["kid"].is_string());
}

#[tokio::test]
async fn a_changed_payload_header_or_signature_is_refused() {
    let forge = Forge::new().await;
    let parts: Vec<&str> = forge.token.split('.').collect();
    let promoted = segment(&with(&forge.claims, "admin", json!(true)));
    forge.is_refused(&format!("{}.{promoted}.{}", parts[0], parts[2]), "payload").await;
    let other_header = segment(&with(&forge.header, "cty", json!("JWT")));
    forge.is_refused(&format!("{other_header}.{}.{}", parts[1], parts[2]), "header").await;
    for (n, byte) in parts[2].bytes().enumerate() {
        let mut signature = parts[2].as_bytes().to_vec();
        signature[n] = if byte == b'A' { b'B' } else { b'A' };
        let signature = String::from_utf8(signature).unwrap();
        forge.is_refused(&format!("{}.{}.{signature}", parts[0], parts[1]), "signature").await;
    }
    for (what, token) in [
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("no signature and no dot", format!("{}.{}", parts[0], parts[1])),
        ("a fourth part", format!("{}.x", forge.token)),
        ("padding", format!("{}=", forge.token)),
        ("a longer signature", format!("{}AA", forge.token)),
        ("a leading dot", format!(".{}", forge.token)),
    ] {
        forge.is_refused(&token, what).await;
    }
}

#[tokio::test]
async fn another_header_is_refused_though_the_key_signed_it() {
    let forge = Forge::new().await;
    for (name, value) in [
        ("alg", json!("none")),
        ("alg", json!("None")),
        ("alg", json!("HS384")),
        ("alg", json!("HS512")),
        ("alg", json!("RS256")),
        ("alg", json!("ES256")),
        ("alg", json!(null)),
        ("typ", json!("at+jwt")),
        ("typ", json!("JWE")),
        ("typ", json!(null)),
        ("kid", json!("another")),
        ("kid", json!("../../dev/null")),
        ("kid", json!(null)),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("jwk", json!({ "kty": "oct", "k": BASE64_URL_SAFE_NO_PAD.encode(KEY) })),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/cert")),
        ("zip", json!("DEF")),
    ] {
        let forged = token(&with(&forge.header, name, value.clone()), &forge.claims);
        forge.is_refused(&forged, &format!("{name}: {value}")).await;
    }
    let unsigned = segment(&json!({ "typ": "JWT", "alg": "none" }));
    forge.is_refused(&format!("{unsigned}.{}.", segment(&forge.claims)), "alg none without a signature").await;
}

#[tokio::test]
async fn other_claims_are_refused_though_the_key_signed_them() {
    let forge = Forge::new().await;
    for (name, value) in [
        ("exp", json!(null)),
        ("exp", json!("4000000000")),
        ("exp", json!(4_000_000_000.5)),
        ("exp", json!(-1)),
        ("iat", json!(null)),
        ("sub", json!(null)),
        ("sub", json!("")),
        ("sub", json!("jo@example.com")),
        ("sub", json!("018f3f6e-0000-7000-8000-000000000000")),
        ("sub", json!(forge.claims["sub"].as_str().unwrap().to_uppercase())),
        ("jti", json!(null)),
        ("jti", json!("x")),
        ("admin", json!("true")),
        ("epoch", json!(null)),
        ("epoch", json!(1)),
        ("nbf", json!(0)),
    ] {
        let forged = token(&forge.header, &with(&forge.claims, name, value.clone()));
        forge.is_refused(&forged, &format!("{name}: {value}")).await;
    }
    let claims = forge.claims.to_string();
    let twice = format!("{},\"admin\":true}}", claims.trim_end_matches('}'));
    let input = format!("{}.{}", segment(&forge.header), BASE64_URL_SAFE_NO_PAD.encode(twice));
    forge.is_refused(&sign(&input, KEY.as_bytes()), "a claim twice").await;
}

#[tokio::test]
async fn a_token_of_another_key_is_refused() {
    let forge = Forge::new().await;
    let input = forge.token.rsplit_once('.').unwrap().0;
    for key in ["", "another secret of at least 32 bytes of text", &KEY.to_uppercase()] {
        forge.is_refused(&sign(input, key.as_bytes()), key).await;
    }
    let stranger = TestServer::start();
    forge.is_refused(&stranger.user("jo@example.com").await, "a token of another server").await;
}

#[tokio::test]
async fn the_administrator_claim_of_a_token_is_never_believed() {
    let forge = Forge::new().await;
    let forged = token(&forge.header, &with(&forge.claims, "admin", json!(true)));
    let me = forge.server.get("/auth/user").bearer(&forged).send().await;
    assert_eq!(me.json()["admin"], false, "who is an administrator is read from the database");
    assert_eq!(forge.server.post("/widgets").bearer(&forged).send().await.status, 403);
}
