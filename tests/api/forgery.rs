//! Forged tokens: each is invalid in one respect, and otherwise valid, including the signature.
//!
//! The server runs with a key that the test knows, so that a forgery fails for its own reason and not for its signature.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
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

/// Returns a token with these claims, signed with the server's key.
fn token(header: &Value, claims: &Value) -> String {
    sign(&format!("{}.{}", segment(header), segment(claims)), KEY.as_bytes())
}

/// Returns the object with one member changed, or removed if the value is `null`.
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

/// The table of forgeries, one per line. Each is signed with the right key unless `token` has its exact text.
const TABLE: &str = include_str!("../data/forgeries.jsonl");

/// Returns the members of an object as JSON, without its braces.
fn members(object: &Value) -> String {
    let text = object.to_string();
    text[1..text.len() - 1].to_owned()
}

/// Changes the unused bits of the last base64 character, or if there are none, that character.
fn with_unused_bits(encoded: &str) -> String {
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (rest, last) = encoded.split_at(encoded.len() - 1);
    let place = alphabet.find(last).unwrap();
    format!("{rest}{}", alphabet.as_bytes()[place ^ 1] as char)
}

impl Forge {
    /// Returns the token of a line of the table.
    fn make(&self, line: &Value) -> String {
        let text = |name: &str| line[name].as_str().map(ToOwned::to_owned);
        let names = |text: &str| {
            let (sub, jti) = (self.claims["sub"].as_str().unwrap(), self.claims["jti"].as_str().unwrap());
            let text = text.replace("{sub}", sub).replace("{SUB}", &sub.to_uppercase());
            text.replace("{jti}", jti).replace("{JTI}", &jti.to_uppercase())
        };
        let changed = |object: &Value, changes: &Value| {
            let mut object = object.clone();
            for (name, value) in changes.as_object().into_iter().flatten() {
                let value = value.as_str().map_or_else(|| value.clone(), |text| json!(names(text)));
                object = with(&object, name, value);
            }
            object.to_string()
        };
        let fill = |text: String| {
            let without_exp = members(&with(&self.claims, "exp", Value::Null));
            let text = text.replace("{header}", &members(&self.header)).replace("{claims}", &members(&self.claims));
            text.replace("{claims_but_exp}", &without_exp)
        };
        let header = text("header_text").map_or_else(|| changed(&self.header, &line["header"]), fill);
        let claims = text("claims_text").map_or_else(|| changed(&self.claims, &line["claims"]), fill);
        let (h, p) = (BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(&claims));
        let whole = sign(&format!("{h}.{p}"), KEY.as_bytes());
        let s = whole.rsplit_once('.').unwrap().1;
        let insert = |template: &str| {
            let half = &s[..s.len() / 2];
            let parts = [
                ("{h}", h.as_str()),
                ("{p}", &p),
                ("{s}", s),
                ("{h~}", &with_unused_bits(&h)),
                ("{s~}", &with_unused_bits(s)),
                ("{s-1}", &s[..s.len() - 1]),
                ("{s/2}", half),
                ("{p+}", &BASE64_STANDARD_NO_PAD.encode(&claims)),
                ("{claims}", &claims),
            ];
            parts.iter().fold(template.to_owned(), |text, (name, part)| text.replace(name, part))
        };
        match (text("token"), text("signed")) {
            (Some(template), _) => insert(&template),
            (_, Some(template)) => sign(&insert(&template), KEY.as_bytes()),
            _ => whole,
        }
    }
}

#[tokio::test]
async fn every_forgery_of_the_table_is_refused() {
    let forge = Forge::new().await;
    let mut made = std::collections::BTreeSet::new();
    for line in TABLE.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let why = line["why"].as_str().unwrap();
        let token = forge.make(&line);
        assert_ne!(token, forge.token, "{why}: this is no forgery");
        assert!(made.insert(token.clone()), "{why}: is in the table twice");
        forge.is_refused(&token, why).await;
    }
    assert!(made.len() > 150);
}

#[tokio::test]
async fn a_token_may_live_to_the_end_of_the_year_9999() {
    let forge = Forge::new().await;
    let last = token(&forge.header, &with(&forge.claims, "exp", json!(253_402_300_799_u64)));
    assert_eq!(forge.server.status_of(&last).await, 200, "a second later is in the table above");
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
