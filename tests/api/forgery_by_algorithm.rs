//! Forged tokens of keys that others know the public part of. Each is invalid in one respect.
//!
//! The server signs with keys of the test, so that a forgery can have a signature that is good by other rules than ours.

use std::{path::Path, sync::Arc};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::sign};
use latchkey::clock::ManualClock;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    harness::TestServer,
    keys::{key, keys},
};

/// The order of the curve P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/keys").join(name)).unwrap()
}

/// Returns the bytes of a private key.
fn der(name: &str) -> Vec<u8> {
    let text = String::from_utf8(pem(name)).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    BASE64_STANDARD.decode(body).unwrap()
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn hmac(message: &str, secret: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(message.as_bytes());
    encode(mac.finalize().into_bytes())
}

/// A server whose current key is in `tests/data/keys`.
struct Forge {
    server: TestServer,
    algorithm: Algorithm,
    private: EncodingKey,
    token: String,
    header: Value,
    payload: String,
    jwk: Value,
}

impl Forge {
    async fn new(algorithm: Algorithm) -> Self {
        let (file, private) = match algorithm {
            Algorithm::ES256 => ("ec.pem", EncodingKey::from_ec_der as fn(&[u8]) -> EncodingKey),
            Algorithm::EdDSA => ("ed25519.pem", EncodingKey::from_ed_der as _),
            _ => ("rsa_pkcs1.pem", EncodingKey::from_rsa_der as _),
        };
        let clock = Arc::new(ManualClock::at(1_800_000_000));
        let server = TestServer::at(Arc::clone(&clock), &["--purge-interval", "10ms"]).await;
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/keys").join(file);
        assert_eq!(key(&server, &["add", path.to_str().unwrap()]).0, 0);
        clock.advance(600);
        while keys(&server).iter().any(|key| key["state"] == "next") {
            tokio::task::yield_now().await;
        }
        let token = server.user("jo@example.com").await;
        let mut parts = token.split('.');
        let header = serde_json::from_slice(&decoded(parts.next().unwrap())).unwrap();
        let payload = parts.next().unwrap().to_owned();
        let jwk = keys(&server).iter().find(|key| key["state"] == "current").unwrap()["jwk"].clone();
        Self { server, algorithm, private: private(&der(file)), token, header, payload, jwk }
    }

    /// Returns a token with this header, signed by the server's key.
    fn signed(&self, header: &str) -> String {
        let message = format!("{}.{}", encode(header), self.payload);
        let signature = sign(message.as_bytes(), &self.private, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn header_with(&self, name: &str, value: Value) -> String {
        let mut header = self.header.clone();
        header[name] = value;
        header.to_string()
    }

    async fn refuses(&self, token: &str, what: &str) {
        let answer = self.server.get("/auth/user").bearer(token).send().await;
        assert_eq!(
            (answer.status.as_u16(), answer.message().as_str()),
            (401, "Invalid token. Please log in again."),
            "{:?}: {what}",
            self.algorithm
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_algorithm_than_that_of_the_key_is_refused() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
        let forge = Forge::new(algorithm).await;
        assert_eq!(forge.server.status_of(&forge.token).await, 200);
        if algorithm != Algorithm::ES256 {
            let header = forge.header.to_string();
            assert_eq!(forge.signed(&header), forge.token, "the test signs like the server");
        }
        for name in ["none", "None", "NONE", "HS256", "HS512", "ES256", "ES384", "EdDSA", "RS256", "RS512", "PS256"] {
            if forge.header["alg"] != name {
                let header = forge.header_with("alg", json!(name));
                forge.refuses(&forge.signed(&header), name).await;
                forge.refuses(&format!("{}.{}.", encode(&header), forge.payload), name).await;
            }
        }
        // What of the public key a careless verifier may take for the secret of HS256.
        let mut secrets = vec![
            forge.jwk.to_string().into_bytes(),
            pem("public.pem"),
            forge.jwk["kid"].to_string().into_bytes(),
            Vec::new(),
        ];
        for member in ["x", "y", "n", "e"] {
            if let Some(text) = forge.jwk[member].as_str() {
                secrets.extend([text.as_bytes().to_vec(), decoded(text)]);
            }
        }
        for secret in &secrets {
            for header in [forge.header.to_string(), forge.header_with("alg", json!("HS256"))] {
                let message = format!("{}.{}", encode(header), forge.payload);
                forge
                    .refuses(
                        &format!("{message}.{}", hmac(&message, secret)),
                        "HS256 with the public key as its secret",
                    )
                    .await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_a_header_brings_or_names_are_never_used() {
    let forge = Forge::new(Algorithm::ES256).await;
    let theirs = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let point = theirs.public_key_raw();
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": encode(&point[1..33]), "y": encode(&point[33..]) });
    let private = EncodingKey::from_ec_der(&theirs.serialize_der());
    for (name, value) in [
        ("jwk", jwk),
        ("jku", json!("http://127.0.0.1:1/jwks.json")),
        ("x5u", json!("http://127.0.0.1:1/cert.pem")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("x")),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("typ", json!("at+jwt")),
        ("zip", json!("DEF")),
    ] {
        let header = forge.header_with(name, value);
        forge.refuses(&forge.signed(&header), name).await;
        let message = format!("{}.{}", encode(&header), forge.payload);
        let signature = sign(message.as_bytes(), &private, Algorithm::ES256).unwrap();
        forge.refuses(&format!("{message}.{signature}"), name).await;
    }
    let message = forge.token.rsplit_once('.').unwrap().0;
    let signature = sign(message.as_bytes(), &private, Algorithm::ES256).unwrap();
    forge.refuses(&format!("{message}.{signature}"), "the signature of another key").await;
    let spaced = serde_json::to_string_pretty(&forge.header).unwrap();
    forge.refuses(&forge.signed(&spaced), "another spelling of the header").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_has_one_form() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
        let forge = Forge::new(algorithm).await;
        let (message, signature) = forge.token.rsplit_once('.').unwrap();
        let good = decoded(signature);
        let with = |signature: &[u8]| format!("{message}.{}", encode(signature));
        assert_eq!(with(&good), forge.token);
        let half = good.len() / 2;
        let zeros = vec![0; half];
        for (what, bytes) in [
            ("r = s = 0", vec![0; good.len()]),
            ("r = 0", [&zeros, &good[half..]].concat()),
            ("s = 0", [&good[..half], &zeros].concat()),
            ("r and s stretched", [&[0], &good[..half], &[0], &good[half..]].concat()),
            ("a byte in front", [&[0], &good[..]].concat()),
            ("a byte behind", [&good[..], &[0]].concat()),
            ("twice", [&good[..], &good[..]].concat()),
            ("a byte less", good[..good.len() - 1].to_vec()),
            ("the half", good[..half].to_vec()),
            ("nothing", Vec::new()),
            ("another bit", good.iter().enumerate().map(|(at, byte)| if at == 3 { byte ^ 1 } else { *byte }).collect()),
        ] {
            forge.refuses(&with(&bytes), what).await;
        }
        if algorithm == Algorithm::ES256 {
            let mut other = good.clone();
            let mut borrow = 0;
            for (digit, order) in other[32..].iter_mut().zip(ORDER).rev() {
                let difference = i32::from(order) - i32::from(*digit) - borrow;
                borrow = i32::from(difference < 0);
                *digit = u8::try_from(difference.rem_euclid(256)).unwrap();
            }
            forge.refuses(&with(&other), "the other form of s").await;
            forge.refuses(&with(&[&ORDER[..], &good[32..]].concat()), "r is the order").await;
        }
        // The last digit of base64 has bits that mean nothing.
        let last = signature.chars().last().unwrap();
        let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = digits.chars().nth(digits.find(last).unwrap() + 1).unwrap();
        let other = format!("{}{next}", &forge.token[..forge.token.len() - 1]);
        forge.refuses(&other, "another last digit").await;
        forge.refuses(&format!("{}=", forge.token), "padding").await;
        assert_eq!(forge.server.status_of(&forge.token).await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_of_a_signature_check_is_kept_and_nothing_else() {
    let forge = Forge::new(Algorithm::ES256).await;
    for _ in 0..3 {
        assert_eq!(forge.server.status_of(&forge.token).await, 200);
    }
    let (message, signature) = forge.token.rsplit_once('.').unwrap();
    let mut claims: Value = serde_json::from_slice(&decoded(&forge.payload)).unwrap();
    claims["admin"] = json!(true);
    let header = message.split('.').next().unwrap();
    forge
        .refuses(
            &format!("{header}.{}.{signature}", encode(claims.to_string())),
            "other claims under a known signature",
        )
        .await;
    assert_eq!(forge.server.post("/auth/logout").bearer(&forge.token).send().await.status, 200);
    let answer = forge.server.get("/auth/user").bearer(&forge.token).send().await;
    assert_eq!(answer.message(), "Token blacklisted. Please log in again.");
}

/// The id of a token has a MAC over the claims, which is compared before the signature, because a signature takes long to verify.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_another_signed_with_the_key_is_refused() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256] {
        let forge = Forge::new(algorithm).await;
        let claims: Value = serde_json::from_slice(&decoded(&forge.payload)).unwrap();
        let header = encode(forge.header.to_string());
        for (name, value) in [
            ("jti", json!("5a4d0e5e-1c64-4b0a-9d3b-0c3a1f6f6c11")),
            ("exp", json!(claims["exp"].as_u64().unwrap() + 1)),
            ("iat", json!(claims["iat"].as_u64().unwrap() - 1)),
            ("epoch", json!(1)),
            ("admin", json!(true)),
            ("sub", json!("018f3f6e-0000-7000-8000-000000000000")),
        ] {
            let mut other = claims.clone();
            other[name] = value;
            let message = format!("{header}.{}", encode(other.to_string()));
            let signature = sign(message.as_bytes(), &forge.private, algorithm).unwrap();
            forge.refuses(&format!("{message}.{signature}"), name).await;
        }
        assert_eq!(forge.server.status_of(&forge.token).await, 200);
    }
}
