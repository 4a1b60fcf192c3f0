//! No secret, password or token ever reaches an error, a header or the log.

use serde_json::json;

use super::{
    ground_rules::{FORM, JSON, register},
    harness::TestServer,
};

#[tokio::test]
async fn an_error_never_repeats_the_password() {
    let server = TestServer::start();
    let secret = "password1"; // refused because it is a common password
    for (content_type, body) in [
        (FORM, format!("email=no&password={secret}")),
        (FORM, format!("email=jo@example.com&password={secret}&password={secret}")),
        (FORM, format!("password={secret}&email=%zz")),
        (FORM, format!("email=jo@example.com&password={secret}%ff")),
        (JSON, json!({ "email": "no", "password": secret }).to_string()),
        (JSON, json!({ "email": "jo@example.com", "password": [secret] }).to_string()),
        (JSON, format!(r#"{{"password": "{secret}", "email": "#)),
        (JSON, format!(r#"{{"password": "{secret}" "email"}}"#)),
        (JSON, format!(r#"{{"email": "no", "password": {secret}}}"#)),
        (JSON, format!(r#""{secret}""#)),
        ("text/plain", secret.to_owned()),
    ] {
        for path in ["/auth/register", "/auth/login"] {
            let answer = server.post(path).body(content_type, body.clone()).send().await;
            assert!(answer.status.is_client_error(), "{body}");
            assert!(!answer.text.contains(secret), "{body}: {}", answer.text);
            assert!(!format!("{:?}", answer.headers).contains(secret));
        }
    }
}

#[tokio::test]
async fn no_password_no_token_and_no_body_reaches_the_log() {
    let mut server = TestServer::with(&["--log", "trace"]);
    let (password, email) = ("never-seen-battery", "never.seen@example.com");
    let fields = [("email", email), ("password", password)];
    let registered = server.post("/auth/register").form(&fields).await;
    let token = registered.token();
    assert_eq!(registered.status, 201);
    let other = server.post("/auth/login").json(&json!({ "email": email, "password": password })).await.token();
    assert_eq!(server.post("/auth/register").form(&fields).await.status, 409);
    assert_eq!(
        server.post("/auth/login").form(&[("email", email), ("password", &format!("{password}x"))]).await.status,
        401
    );
    for body in [format!(r#"{{"password": "{password}" "#), format!(r#"{{"password": [{password}"#)] {
        assert_eq!(register(&server, JSON, body).await.status, 400);
    }
    assert_eq!(register(&server, FORM, format!("password={password}&email=%zz")).await.status, 400);
    assert_eq!(register(&server, FORM, format!("email={email}&password={password}&password=1")).await.status, 400);
    let in_query = format!("/auth/user?access_token={token}&password={password}&email={email}");
    assert_eq!(server.get(&in_query).send().await.status, 401);
    assert_eq!(server.get(&in_query).bearer(&token).send().await.status, 400);
    server.get(&format!("/auth/user?access_token=%zz{token}&password={password}")).send().await;
    assert_eq!(server.get("/auth/user").bearer(&format!("{token}x")).send().await.status, 401);
    assert_eq!(server.get("/auth/user").bearer(&token).send().await.status, 200);
    assert_eq!(server.post("/auth/logout").bearer(&token).send().await.status, 200);
    assert_eq!(server.get("/auth/user").bearer(&token).send().await.status, 401);
    assert_eq!(server.get("/auth/user").header("x-request-id", "the-last-one").send().await.status, 401);

    let log = server.log().clone();
    log.wait_for("the-last-one");
    server.stop();
    let log = log.text();
    assert!(log.contains("route=\"/api/v1/auth/user\""), "{log}");
    // An email is only in the audit stream, whose purpose is to name it.
    let elsewhere = |line: &&str| line.contains(email) && !line.contains(": audit: event=");
    assert_eq!(log.lines().find(elsewhere), None);
    let mut secrets = vec![password];
    for token in [&token, &other] {
        secrets.extend(token.split('.').skip(1));
    }
    for secret in secrets {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
