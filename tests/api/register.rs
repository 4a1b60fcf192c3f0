//! `POST /auth/register`

use serde_json::json;

use super::harness::{PASSWORD, TestServer, claims};

#[tokio::test]
async fn registering_answers_with_a_token_that_lets_the_user_in() {
    let server = TestServer::start();
    let answer = server.post("/auth/register").form(&[("email", "Jo@Example.com"), ("password", PASSWORD)]).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("pragma"), "no-cache");
    let body = answer.json();
    assert_eq!(body["status"], "success");
    assert_eq!(body["message"], "successfully registered");
    assert_eq!(body["token_type"], "bearer");
    assert_eq!(body["expires_in"], 3600);
    assert_eq!(body.as_object().unwrap().len(), 5);

    let me = server.get("/auth/user").bearer(&answer.token()).send().await;
    assert_eq!(me.status, 200);
    assert_eq!(me.json()["email"], "Jo@Example.com");
    assert_eq!(me.json()["public_id"], claims(&answer.token())["sub"]);
}

#[tokio::test]
async fn a_json_body_registers_like_a_form() {
    let server = TestServer::start();
    let answer = server.post("/auth/register").json(&json!({ "email": "jo@example.com", "password": PASSWORD })).await;
    assert_eq!(answer.status, 201);
    assert_eq!(server.status_of(&answer.token()).await, 200);
    assert_eq!(server.status_of(&server.log_in("jo@example.com").await).await, 200);
}

#[tokio::test]
async fn an_email_is_one_account_whatever_its_letter_case() {
    let server = TestServer::start();
    server.user("jo.ÄRGER@example.com").await;
    for again in ["jo.ÄRGER@example.com", "JO.ärger@EXAMPLE.com"] {
        let answer = server.post("/auth/register").form(&[("email", again), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, 409);
        assert_eq!(answer.message(), format!("{again} is already registered"));
    }
    assert_eq!(server.status_of(&server.log_in("Jo.Ärger@Example.Com").await).await, 200);
}

#[tokio::test]
async fn of_many_registrations_of_one_email_at_once_exactly_one_wins() {
    let server = TestServer::start();
    let spellings: Vec<String> =
        (0..16).map(|n| if n % 2 == 0 { "jo@example.com" } else { "JO@example.com" }.into()).collect();
    let calls = spellings.iter().map(|email| async {
        server.post("/auth/register").form(&[("email", email), ("password", PASSWORD)]).await.status.as_u16()
    });
    let mut statuses = futures_util::future::join_all(calls).await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 201);
    assert!(statuses[1..].iter().all(|status| *status == 409), "{statuses:?}");
}

#[tokio::test]
async fn every_field_that_failed_is_named() {
    let server = TestServer::start();
    let answer = server.post("/auth/register").form(&[("email", "not an email"), ("password", "short")]).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.message(), "Input payload validation failed");
    assert_eq!(answer.error("email"), "not an email is not a valid email");
    assert_eq!(answer.error("password"), "must have at least 8 characters");

    let nothing = server.post("/auth/register").form(&[("other", "x")]).await;
    assert_eq!(nothing.error("email"), "Missing required parameter in the post body");
    assert_eq!(nothing.error("password"), "Missing required parameter in the post body");
}

#[tokio::test]
async fn malformed_emails_are_refused() {
    let server = TestServer::start();
    let long = format!("{}@example.com", "a".repeat(250));
    for email in [
        "",
        " ",
        "jo",
        "jo@",
        "@example.com",
        "jo@localhost",
        "jo@example..com",
        "jo@@example.com",
        "jo@exa mple.com",
        "Jo <jo@example.com>",
        "jo@[127.0.0.1]",
        "\"jo\"@example.com",
        "jo@example.com\n",
        "jo\0@example.com",
        &long,
        " jo@example.com",
        "jo.@example.com",
        "jo@-example.com",
        "jo@example.com,al@example.com",
    ] {
        let answer = server.post("/auth/register").json(&json!({ "email": email, "password": PASSWORD })).await;
        assert_eq!(answer.status, 400, "{email:?}");
        assert!(answer.error("email").ends_with("is not a valid email"), "{email:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn passwords_are_judged_by_length_in_characters_by_commonness_and_against_the_email() {
    let server = TestServer::start();
    let (long, too_long) = ("ü".repeat(128), "ü".repeat(129));
    let refused = [
        ("", "must have at least 8 characters"),
        ("äöüäöüä", "must have at least 8 characters"),
        // Normalised it has more characters; what counts is what the document says.
        ("\u{1c7}\u{1c7}\u{1c7}xyz7", "must have at least 8 characters"),
        (too_long.as_str(), "must have at most 128 characters"),
        ("password1", "is one of the most commonly used passwords"),
        ("PassWord1", "is one of the most commonly used passwords"),
        ("JO@example.COM", "must not be the email itself"),
    ];
    for (password, why) in refused {
        let answer = server.post("/auth/register").form(&[("email", "jo@example.com"), ("password", password)]).await;
        assert_eq!((answer.status.as_u16(), answer.error("password").as_str()), (400, why), "{password:?}");
    }
    for (n, password) in [long.as_str(), "äöüäöüäö", "  spaces  around  ", "a\0b\u{202e}c👩‍👩‍👧d"].iter().enumerate()
    {
        let email = format!("jo{n}@example.com");
        let answer = server.post("/auth/register").json(&json!({ "email": email, "password": password })).await;
        assert_eq!(answer.status, 201, "{password:?}: {}", answer.text);
        let answer = server.post("/auth/login").json(&json!({ "email": email, "password": password })).await;
        assert_eq!(answer.status, 200, "{password:?}: {}", answer.text);
        let trimmed = password.trim();
        if trimmed != *password {
            let answer = server.post("/auth/login").json(&json!({ "email": email, "password": trimmed })).await;
            assert_eq!(answer.status, 401, "compared exactly, never trimmed");
        }
    }
}

#[tokio::test]
async fn the_password_rules_are_settings() {
    let server =
        TestServer::with(&["--password-min-length", "4", "--password-max-length", "10", "--allow-common-passwords"]);
    for (password, status) in [("pass", 201), ("abc", 400), ("12345678901", 400)] {
        let email = format!("{password}@example.com");
        let answer = server.post("/auth/register").form(&[("email", &email), ("password", password)]).await;
        assert_eq!(answer.status, status, "{password}");
    }
}

#[tokio::test]
async fn nobody_registers_as_an_administrator() {
    let server = TestServer::start();
    let body = json!({ "email": "jo@example.com", "password": PASSWORD, "admin": "true", "is_admin": true });
    let answer = server.post("/auth/register").json(&body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(claims(&answer.token())["admin"], false);
    assert_eq!(server.get("/auth/user").bearer(&answer.token()).send().await.json()["admin"], false);
}

#[tokio::test]
async fn an_account_survives_kill_9_right_after_its_answer() {
    let mut server = TestServer::start();
    server.user("jo@example.com").await;
    server.signal("KILL");
    server.wait();
    server.start_again();
    assert_eq!(server.status_of(&server.log_in("jo@example.com").await).await, 200);
}
