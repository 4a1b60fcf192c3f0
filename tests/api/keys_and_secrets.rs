//! Keys of the operator, and the secret that the keys are encrypted with.

use std::{path::Path, sync::Arc};

use tempfile::TempDir;

use super::{
    harness::{TestServer, add_user, latchkey},
    keys::{current, jwks, key, key_at, states},
};

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_operator_are_added_from_pem_and_unusable_ones_are_refused_with_the_reason() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/keys");
    let server = TestServer::start();
    let add = |name: &str| key(&server, &["add", data.join(name).to_str().unwrap()]);
    for (name, why) in [
        ("encrypted.pem", "the key is encrypted; decrypt it first"),
        ("encrypted_sec1.pem", "the key is encrypted; decrypt it first"),
        ("public.pem", "it holds a public key alone"),
        ("rsa_1024.pem", "neither EC of the curve P-256, nor Ed25519, nor RSA of 2048 to 4096 bits"),
        ("p384.pem", "neither EC of the curve P-256"),
        ("secp256k1.pem", "neither EC of the curve P-256"),
        ("ed448.pem", "neither EC of the curve P-256"),
        ("../../../clippy.toml", "it holds no private key in PEM form"),
        ("missing.pem", "No such file"),
    ] {
        let (code, said, errors) = add(name);
        assert!(code == 1 && said.is_empty() && errors.contains(why), "{name}: {errors}");
    }
    for (name, algorithm) in
        [("ec.pem", "ES256"), ("ec_sec1.pem", "ES256"), ("ed25519.pem", "EdDSA"), ("rsa_pkcs1.pem", "RS256")]
    {
        let (code, said, errors) = add(name);
        assert!(code == 0 && said.contains(&format!("({algorithm}), which signs from")), "{name}: {said}{errors}");
        let (code, _, errors) = add(name);
        assert!(code == 1 && errors.contains("in the key ring already"), "{errors}");
        let kid = said.split(' ').nth(1).unwrap();
        assert_eq!(
            jwks(&server).await.find(kid).unwrap().thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap(),
            kid
        );
        assert_eq!(key(&server, &["retire", kid]).0, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_database_has_no_private_part() {
    let pem = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/keys/ed25519.pem");
    let mut server = TestServer::start();
    assert_eq!(key(&server, &["add", pem.to_str().unwrap()]).0, 0);
    server.stop();
    let seed = {
        use base64::Engine as _;
        let text = std::fs::read_to_string(&pem).unwrap();
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        base64::prelude::BASE64_STANDARD.decode(body).unwrap().split_off(16)
    };
    let stolen = std::fs::read(server.dir.path().join("data/latchkey.redb")).unwrap();
    assert!(!stolen.windows(seed.len()).any(|bytes| bytes == seed));
    assert!(!stolen.windows(16).any(|bytes| bytes == &seed[..16]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_does_not_open_the_key_ring_stops_the_start_and_reset_begins_anew() {
    let mut server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    server.stop();
    let data = server.dir.path().join("data");
    let other = server.dir.path().join("other.secret");
    std::fs::write(&other, "another secret, which has more than 32 bytes").unwrap();
    let other = other.to_str().unwrap();
    let mut start = latchkey();
    let output =
        start.args(["--listen", "127.0.0.1:0", "--secret-key-file", other, "--data-dir"]).arg(&data).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors.contains("the secret does not open the key ring; give the secret that was used before"), "{errors}");
    server.start_again();
    assert_eq!(server.status_of(&token).await, 200, "a start that was refused changed nothing");
    server.stop();

    let (code, said, errors) = key_at(&data, &["reset", "--secret-key-file", other]);
    assert!(code == 2 && said.is_empty() && errors.contains("all sessions end"), "it does nothing unasked: {errors}");
    let (code, said, errors) = key_at(&data, &["reset", "--yes", "--secret-key-file", other]);
    assert_eq!((code, said.as_str()), (0, "began a new key ring; everybody has to log in again\n"), "{errors}");
    let server = TestServer::on(Arc::clone(&server.dir), &["--secret-key-file", other]);
    assert_eq!(server.status_of(&token).await, 401);
    assert_eq!(current(&server)["algorithm"], "ES256", "the algorithm stays");
    let again = server.admin().await;
    assert_eq!(server.status_of(&again).await, 200);
    assert_eq!(key(&server, &["reset", "--yes"]).0, 0, "beside a running server too");
    assert_eq!(server.status_of(&again).await, 401);
    assert_eq!(server.status_of(&server.admin().await).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_ring_moves_to_a_new_secret_without_ending_a_session() {
    let mut server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    let new = server.dir.path().join("new.secret");
    std::fs::write(&new, "the new secret, which has more than 32 bytes").unwrap();
    let new = new.to_str().unwrap().to_owned();
    let short = server.dir.path().join("short.secret");
    std::fs::write(&short, "short").unwrap();
    assert_eq!(key(&server, &["reseal", short.to_str().unwrap()]).0, 2);
    let (code, said, _) = key(&server, &["reseal", &new]);
    assert!(code == 0 && said.contains(&format!("start the server with --secret-key-file {new}")), "{said}");
    assert_eq!(server.status_of(&token).await, 200);
    key(&server, &["rotate", "--now"]); // with the new secret
    server.stop();
    let (code, _, errors) = key_at(&server.dir.path().join("data"), &["list"]);
    assert!(code == 1 && errors.contains("does not open the key ring"), "the secret before is of no use: {errors}");
    let server = TestServer::on(Arc::clone(&server.dir), &["--secret-key-file", &new]);
    assert_eq!(server.status_of(&token).await, 200);
    assert_eq!(states(&server), ["retired", "current"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_begins_a_new_key_ring_of_the_same_algorithm() {
    let mut server = TestServer::with_admin(&[]);
    key(&server, &["rotate", "--now", "--algorithm", "EdDSA"]);
    let token = server.admin().await;
    let data = server.dir.path().join("data");
    let backup = server.dir.path().join("backup");
    let run = |args: &[&str]| {
        latchkey().args(args).arg(&backup).arg("--data-dir").arg(&data).output().unwrap().status.success()
    };
    assert!(run(&["backup"]));
    let before = current(&server)["kid"].clone();
    server.stop();
    assert!(run(&["restore"]));
    let server = TestServer::on(Arc::clone(&server.dir), &[]);
    assert_eq!(server.status_of(&token).await, 401);
    let now = current(&server);
    assert_eq!(now["algorithm"], "EdDSA");
    assert_ne!(now["kid"], before);
}

/// Changes each stored key whose id is not `but`.
fn damage(data: &Path, but: &str) {
    let database = redb::Database::open(data.join("latchkey.redb")).unwrap();
    let txn = database.begin_write().unwrap();
    {
        let mut table = txn.open_table(redb::TableDefinition::<&[u8], &[u8]>::new("signing_keys_1")).unwrap();
        let rows: Vec<(Vec<u8>, Vec<u8>)> = redb::ReadableTable::iter(&table)
            .unwrap()
            .map(|row| row.map(|(kid, row)| (kid.value().to_vec(), row.value().to_vec())).unwrap())
            .collect();
        for (kid, mut row) in rows {
            if kid != but.as_bytes() {
                *row.last_mut().unwrap() ^= 1; // the last byte of the private part
                table.insert(kid.as_slice(), row.as_slice()).unwrap();
            }
        }
    }
    txn.commit().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_key_ring_stops_the_start_with_what_to_do() {
    let mut server = TestServer::start();
    key(&server, &["rotate", "--now"]);
    let kid = current(&server)["kid"].as_str().unwrap().to_owned();
    server.stop();
    let data = server.dir.path().join("data");
    damage(&data, &kid);
    let (code, said, errors) = key_at(&data, &["list"]);
    assert!(code == 1 && said.is_empty(), "{errors}");
    assert!(errors.contains("in the key ring is damaged; restore a backup, or begin a new key ring"), "{errors}");
    assert_eq!(key_at(&data, &["reset", "--yes"]).0, 0);
    let server = TestServer::on(Arc::clone(&server.dir), &[]);
    assert_eq!(states(&server), ["current"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_stops_the_start_and_is_not_replaced_by_another() {
    let mut server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    server.stop();
    let data = server.dir.path().join("data");
    let (secret, away) = (data.join("signing.key"), server.dir.path().join("away"));
    std::fs::rename(&secret, &away).unwrap();
    let (code, _, errors) = key_at(&data, &["list"]);
    assert!(code == 1 && errors.contains("signing.key is missing"), "{errors}");
    assert!(!secret.exists());
    std::fs::rename(&away, &secret).unwrap();
    server.start_again();
    assert_eq!(server.status_of(&token).await, 200);
}

#[test]
fn keys_are_looked_after_alike_without_a_running_server() {
    let dir = TempDir::new().unwrap();
    add_user(dir.path(), "jo@example.com", false);
    let list = || key_at(dir.path(), &["list"]).1;
    assert!(list().contains("ES256      current"), "{}", list());
    let (code, said, errors) = key_at(dir.path(), &["rotate", "--algorithm", "rs256", "--json"]);
    assert_eq!(code, 0, "{errors}");
    let made: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&made["algorithm"], &made["state"]), (&"RS256".into(), &"next".into()));
    let kid = made["kid"].as_str().unwrap();
    let shown = key_at(dir.path(), &["show", kid]).1;
    assert!(shown.contains("public key  {") && shown.contains("\"kty\":\"RSA\""), "{shown}");
    let json: serde_json::Value = serde_json::from_str(&key_at(dir.path(), &["show", kid, "--json"]).1).unwrap();
    assert_eq!(json["jwk"]["kid"], kid);
    assert_eq!(key_at(dir.path(), &["remove", kid, "--json"]).1, format!("{{\"kid\":\"{kid}\"}}\n"));
    for unknown in ["nobody-s", "../users", "-x", ""] {
        let (code, _, errors) = key_at(dir.path(), &["show", unknown]);
        assert!(code == 1 && errors == "error: There is no such key.\n", "{unknown}: {errors}");
    }
    assert_eq!(key_at(&dir.path().join("nowhere"), &["list"]).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_keys_is_in_the_audit_stream_and_in_the_metrics() {
    let server = TestServer::with_admin(&["--metrics-listen", "127.0.0.1:0"]);
    let admin = server.admin().await;
    let first = current(&server)["kid"].as_str().unwrap().to_owned();
    let rotated = server.post("/keys/rotate").bearer(&admin).json(&serde_json::json!({ "now": true })).await;
    let second = rotated.json()["kid"].as_str().unwrap().to_owned();
    assert_eq!(rotated.header("location"), format!("/api/v1/keys/{second}"));
    key(&server, &["remove", &first]);
    let log = server.log();
    log.wait_for("event=key_removed");
    let text = log.text();
    let line = |event: &str| text.lines().find(|line| line.contains(event)).unwrap().to_owned();
    let added = line("event=key_added");
    assert!(added.contains(&format!("kid={second} algorithm=ES256 client=127.0.0.1 by=admin@example.com")), "{added}");
    let removed = line("event=key_removed");
    assert!(removed.contains(&format!("kid={first} algorithm=ES256 client=local by=operator")), "{removed}");
    assert_eq!(server.status_of(&server.admin().await).await, 200);
    let metrics = crate::api::metrics::scrape(&server).await;
    for part in [
        "latchkey_signing_keys{state=\"current\"} 1",
        "latchkey_signing_keys{state=\"retired\"} 0",
        "latchkey_tokens_verified_total{key=\"current\"}",
        "latchkey_signing_key_since_timestamp_seconds 1",
    ] {
        assert!(metrics.contains(part), "{part}: {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_about_users_needs_no_secret_and_leaves_the_keys_alone() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "the secret of the server, of more than 32 bytes").unwrap();
    let dir = Arc::new(TempDir::new().unwrap());
    let data = dir.path().join("data");
    add_user(&data, "first@example.com", false); // before the first start, without the secret
    let args = ["--secret-key-file", secret.path().to_str().unwrap()];
    let mut server = TestServer::on(Arc::clone(&dir), &args);
    let token = server.log_in("first@example.com").await;
    server.stop();
    add_user(&data, "second@example.com", false); // while it is stopped, without the secret
    server.start_again();
    assert_eq!(server.status_of(&token).await, 200);
    server.log_in("second@example.com").await;
}
