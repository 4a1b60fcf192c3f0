//! The key ring: who signs, who verifies, and that a rotation ends no session.

use std::{path::Path, sync::Arc};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use latchkey::clock::{Clock as _, ManualClock, SystemClock};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::harness::{ADMIN, TestServer, latchkey};

/// How long a verifier may cache the public keys, in seconds, as the response says.
const CACHED_S: i64 = 300;
const HOUR_S: i64 = 3600;

/// Runs `latchkey key` beside the server, and returns its exit code, stdout and stderr.
pub(super) fn key(server: &TestServer, args: &[&str]) -> (i32, String, String) {
    key_at(&server.dir.path().join("data"), args)
}

pub(super) fn key_at(data: &Path, args: &[&str]) -> (i32, String, String) {
    let output = latchkey().arg("key").args(args).arg("--data-dir").arg(data).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Returns the keys of `key list --json`.
pub(super) fn keys(server: &TestServer) -> Vec<Value> {
    let (code, lines, errors) = key(server, &["list", "--json"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(super) fn states(server: &TestServer) -> Vec<String> {
    keys(server).iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect()
}

pub(super) fn current(server: &TestServer) -> Value {
    keys(server).into_iter().find(|key| key["state"] == "current").unwrap()
}

/// Asks until `is_so`. The server looks at its keys every few milliseconds.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..2_000 {
        if is_so().await {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never: {what}");
}

pub(super) async fn jwks(server: &TestServer) -> JwkSet {
    serde_json::from_str(&server.get("//.well-known/jwks.json").send().await.text).unwrap()
}

/// Verifies as a service does that knows the public keys alone. Returns the claims, or `None` if the token is refused.
pub(super) fn verify(token: &str, keys: &JwkSet) -> Option<Value> {
    let header = decode_header(token).unwrap();
    let key = keys.find(header.kid.as_deref()?)?;
    let mut validation = Validation::new(header.alg);
    assert!([Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256].contains(&header.alg));
    (validation.validate_exp, validation.validate_aud) = (false, false); // the clock of the test is not that of the library
    decode::<Value>(token, &DecodingKey::from_jwk(key).unwrap(), &validation).ok().map(|token| token.claims)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_data_directory_signs_with_es256_and_others_verify_it_by_the_public_keys() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let header = decode_header(&token).unwrap();
    assert_eq!((header.alg, header.typ.as_deref()), (Algorithm::ES256, Some("JWT")));
    let public = jwks(&server).await;
    let claims = verify(&token, &public).unwrap();
    assert_eq!((&claims["admin"], claims.get("iss"), claims.get("aud")), (&json!(false), None, None));
    let thumbprint = public.keys[0].thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
    assert_eq!(header.kid, Some(thumbprint), "RFC 7638");
    assert_eq!(server.status_of(&token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_algorithm_signs_and_verifies_and_hs256_is_never_published() {
    for (name, published) in [("ES256", 1), ("EdDSA", 1), ("RS256", 1), ("HS256", 0)] {
        let mut server = TestServer::with(&["--signing-algorithm", name]);
        let token = server.user("jo@example.com").await;
        let public = jwks(&server).await;
        assert_eq!(public.keys.len(), published, "{name}");
        assert_eq!(verify(&token, &public).is_some(), published == 1, "{name}");
        assert_eq!(current(&server)["algorithm"], name);
        server.stop();
        server.start_again();
        assert_eq!(server.status_of(&token).await, 200, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_of_the_operator_is_the_first_key_until_a_rotation() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a secret that the operator gives, of more than 32 bytes").unwrap();
    let server = TestServer::with(&["--secret-key-file", secret.path().to_str().unwrap()]);
    let token = server.user("jo@example.com").await;
    assert_eq!(decode_header(&token).unwrap().alg, Algorithm::HS256);
    assert_eq!(jwks(&server).await.keys.len(), 0);
    let (code, said, _) = key(&server, &["rotate", "--now"]);
    assert!(code == 0 && said.contains("(ES256), which signs now"), "{said}");
    assert_eq!(server.status_of(&token).await, 200, "a rotation ends no session");
    assert_eq!(decode_header(&server.log_in("jo@example.com").await).unwrap().alg, Algorithm::ES256);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_response_of_the_public_keys_may_be_cached_and_read_by_any_page() {
    let server = TestServer::with(&["--cors-origin", "https://app.example.com"]);
    let path = "//.well-known/jwks.json";
    let answer = server.get(path).header("origin", "https://elsewhere.example.com").send().await;
    assert_eq!(answer.header("content-type"), "application/jwk-set+json");
    assert_eq!(answer.header("cache-control"), format!("public, max-age={CACHED_S}"));
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let etag = answer.header("etag").to_owned();
    for known in [etag.clone(), format!("W/{etag}"), format!("\"other\", {etag}"), "*".to_owned()] {
        let again = server.get(path).header("if-none-match", &known).send().await;
        assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{known}");
    }
    assert_eq!(server.get(path).header("if-none-match", "\"other\"").send().await.status, 200);
    assert_eq!(server.request(Method::HEAD, path).send().await.status, 200);
    assert_eq!(server.post(path).send().await.status, 405);
    key(&server, &["rotate"]);
    let changed = server.get(path).header("if-none-match", &etag).send().await;
    assert_eq!(changed.status, 200, "a published key changes the tag");
    for private in ["\"d\"", "\"p\"", "\"q\"", "\"k\""] {
        assert!(!changed.text.contains(private), "{}", changed.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_rotations_end_no_session_and_no_verifier_with_cached_keys_refuses_a_token() {
    let clock = Arc::new(ManualClock::at(i64::try_from(SystemClock.unix_s()).unwrap()));
    let args = ["--purge-interval", "10ms", "--token-lifetime", "30m", "--with-admin"];
    let server = TestServer::at(Arc::clone(&clock), &args).await;
    let (mut tokens, mut cached, mut fetched_at, mut now) = (Vec::new(), jwks(&server).await, 0, 0);
    for round in 0..20 {
        let algorithm = ["ES256", "EdDSA", "RS256"][round % 3];
        let (code, said, errors) = key(&server, &["rotate", "--algorithm", algorithm]);
        assert_eq!(code, 0, "{said}{errors}");
        let before = current(&server)["kid"].clone();
        // A minute at a time, until the new key signs.
        for minute in 1..=12 {
            clock.advance(60);
            now += 60;
            if minute == 10 {
                until("the next key signs", async || current(&server)["kid"] != before).await;
            }
            let token = server.log_in(ADMIN).await;
            if now - fetched_at >= CACHED_S {
                (cached, fetched_at) = (jwks(&server).await, now);
            }
            assert!(
                verify(&token, &cached).is_some(),
                "round {round}, minute {minute}: the verifier does not know the key"
            );
            tokens.push((now, token));
        }
        for (made_at, token) in &tokens {
            let expected = if now - made_at < HOUR_S / 2 { 200 } else { 401 };
            assert_eq!(server.status_of(token).await, expected, "round {round}: a token of {} s ago", now - made_at);
        }
        assert!(keys(&server).len() <= 5, "{:?}", states(&server));
    }
    clock.advance(HOUR_S);
    until("retired keys go by themselves", async || states(&server) == ["current"]).await;
    assert_eq!(jwks(&server).await.keys.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaked_key_is_replaced_at_once_and_removing_it_kills_its_tokens_alone() {
    let mut server = TestServer::start();
    let leaked = server.user("jo@example.com").await;
    let kid = decode_header(&leaked).unwrap().kid.unwrap();
    assert_eq!(
        key(&server, &["remove", &kid]),
        (1, String::new(), "error: This key signs the tokens; rotate to another one first.\n".to_owned())
    );
    key(&server, &["rotate", "--now"]);
    assert_eq!(server.status_of(&leaked).await, 200);
    let good = server.log_in("jo@example.com").await;
    assert_eq!(key(&server, &["remove", &kid]), (0, format!("removed {kid}\n"), String::new()));
    assert_eq!(server.status_of(&leaked).await, 401);
    assert_eq!(server.status_of(&good).await, 200);
    assert_eq!(key(&server, &["show", &kid]).2, "error: There is no such key.\n");
    assert!(jwks(&server).await.find(&kid).is_none());
    server.stop();
    server.start_again();
    assert_eq!(server.status_of(&leaked).await, 401);
    assert_eq!(server.status_of(&good).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_can_be_taken_back_before_its_key_signs() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let first = decode_header(&token).unwrap().kid.unwrap();
    key(&server, &["rotate"]);
    let next = keys(&server).iter().find(|key| key["state"] == "next").unwrap()["kid"].as_str().unwrap().to_owned();
    assert!(jwks(&server).await.find(&next).is_some(), "it is published before it signs");
    assert_eq!(decode_header(&server.log_in("jo@example.com").await).unwrap().kid.unwrap(), first);
    let (code, _, errors) = key(&server, &["rotate"]);
    assert!(code == 1 && errors.contains("under way"), "one rotation at a time: {errors}");
    assert_eq!(key(&server, &["retire", &next]).1, format!("took back {next}\n"));
    assert_eq!(key(&server, &["retire", &first]).2, "error: This key signs the tokens; rotate to another one first.\n");
    assert_eq!(states(&server), ["current"]);
    key(&server, &["rotate"]);
    key(&server, &["rotate", "--now", "--algorithm", "eddsa"]);
    assert_eq!(states(&server), ["retired", "current"], "--now takes back a rotation, whose key may have leaked too");
    assert_eq!(key(&server, &["retire", &first]).1, format!("{first} is retired already\n"));
    assert_eq!(server.status_of(&token).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rotations_at_once_one_wins() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let rotate = async || server.post("/keys/rotate").bearer(&admin).json(&json!({})).await;
    let (one, two, three) = tokio::join!(rotate(), rotate(), rotate());
    let mut statuses = [one.status.as_u16(), two.status.as_u16(), three.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409]);
    assert_eq!(states(&server), ["current", "next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_replaced_at_its_age_unless_it_is_a_secret_that_others_have() {
    for (algorithm, expected) in [("ES256", vec!["current", "next"]), ("HS256", vec!["current"])] {
        let clock = Arc::new(ManualClock::at(1_800_000_000));
        let args = [
            "--purge-interval",
            "10ms",
            "--key-rotation",
            "90d",
            "--signing-algorithm",
            algorithm,
            "--metrics-listen",
            "127.0.0.1:0",
        ];
        let server = TestServer::at(Arc::clone(&clock), &args).await;
        clock.advance(90 * 24 * HOUR_S - 1);
        ticks(&server, 2).await;
        assert_eq!(states(&server), ["current"], "{algorithm}");
        clock.advance(1);
        ticks(&server, 2).await;
        assert_eq!(states(&server), expected, "{algorithm}");
    }
}

/// Waits until the server has looked at its keys and purged `count` times more.
async fn ticks(server: &TestServer, count: u64) {
    let runs = async || {
        let url = format!("http://{}/metrics", server.metrics.unwrap());
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with("latchkey_key_checks_total")).unwrap().to_owned();
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    let before = runs().await;
    until("the keys are looked at", async || runs().await >= before + count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_over_a_rotation_ends_no_session() {
    let clock = Arc::new(ManualClock::at(1_800_000_000));
    let args =
        ["--purge-interval", "10ms", "--token-lifetime", "1h", "--with-admin", "--metrics-listen", "127.0.0.1:0"];
    let server = TestServer::at(Arc::clone(&clock), &args).await;
    clock.advance(10 * HOUR_S); // by mistake
    let token = server.log_in(ADMIN).await;
    clock.advance(-10 * HOUR_S);
    key(&server, &["rotate", "--now"]);
    clock.advance(10 * HOUR_S + HOUR_S - 1); // the last second of the token
    ticks(&server, 2).await;
    assert_eq!(server.status_of(&token).await, 200);
    // A key that waits in the far future, because the clock was ahead, need not wait so long.
    clock.advance(1000 * HOUR_S);
    key(&server, &["rotate"]);
    clock.advance(-1000 * HOUR_S);
    ticks(&server, 2).await;
    let before = current(&server)["kid"].clone();
    clock.advance(2 * CACHED_S);
    until("the next key signs", async || current(&server)["kid"] != before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_never_half_done_whenever_the_server_is_killed() {
    let dir = Arc::new(TempDir::new().unwrap());
    let mut live: Vec<String> = Vec::new();
    for round in 0..8_u32 {
        let mut server = TestServer::on(Arc::clone(&dir), &["--purge-interval", "10ms"]);
        let public = jwks(&server).await;
        for token in &live {
            assert_eq!(server.status_of(token).await, 200, "round {round}");
            assert!(verify(token, &public).is_some(), "round {round}: its key is published");
        }
        assert_eq!(states(&server).iter().filter(|state| *state == "current").count(), 1, "round {round}");
        live.push(server.anybody(&format!("jo{round}@example.com")).await);
        let pid = server.pid();
        let rotate = std::thread::spawn({
            let data = dir.path().join("data");
            move || {
                for args in [["rotate", "--now"], ["rotate", "--json"], ["rotate", "--now"]] {
                    key_at(&data, &args);
                }
            }
        });
        for n in 0..round * 3 {
            live.push(server.anybody(&format!("jo{round}@example.com")).await);
            if n == round * 2 {
                super::harness::send_signal(pid, "KILL");
                server.wait();
                break;
            }
        }
        drop(server); // kills it
        rotate.join().unwrap();
    }
}
