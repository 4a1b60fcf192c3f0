//! Keys of the operator, and the secret that the keys are encrypted with.

use std::{path::Path, sync::Arc};

use super::{
    harness::{TestServer, latchkey},
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
