//! `/services`, and how services authenticate: only with a secret that is valid now.

use std::{fs, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use latchkey::clock::ManualClock;
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use super::harness::{ADMIN, Answer, Call, TestServer, add_user};

/// The account of a service.
pub(crate) struct Service {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Service {
    fn path(&self) -> String {
        format!("/services/{}", self.id)
    }
}

/// Adds a service with a name of its own.
pub(crate) async fn add(server: &TestServer, admin: &str) -> Service {
    let others = server.get("/services").bearer(admin).send().await.json()["items"].as_array().unwrap().len();
    let answer = server.post("/services").bearer(admin).json(&json!({ "name": format!("Service.{others}") })).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let text = |name: &str| answer.json()[name].as_str().unwrap().to_owned();
    Service { id: text("id"), secret: text("secret") }
}

/// Sends a request with HTTP Basic.
pub(super) fn basic(call: Call, id: &str, secret: &str) -> Call {
    call.header("authorization", &format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}"))))
}

/// Returns the answer to an introspection of a text that is no token.
async fn ask(server: &TestServer, authorization: &str) -> Answer {
    server.post("/token/introspect").header("authorization", authorization).form(&[("token", "x")]).await
}

/// Returns the statuses of HTTP Basic and of the secret as a bearer token.
async fn statuses(server: &TestServer, id: &str, secret: &str) -> [u16; 2] {
    let with_basic = basic(server.post("/token/introspect"), id, secret).form(&[("token", "x")]).await;
    let with_bearer = ask(server, &format!("Bearer {secret}")).await;
    [with_basic, with_bearer].map(|answer| answer.status.as_u16())
}

async fn rotate(server: &TestServer, admin: &str, service: &Service, keep_old: Option<&str>) -> String {
    let call = server.post(&format!("{}/rotate", service.path())).bearer(admin);
    let answer = call.json(&json!({ "keep_old": keep_old })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["secret"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_service_is_made_shown_without_its_secret_changed_and_removed() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let made = server.post("/services").bearer(&admin).form(&[("name", "Billing-1")]).await;
    assert_eq!((made.status.as_u16(), made.header("pragma")), (201, "no-cache"));
    let (json, link) = (made.json(), made.header("location").to_owned());
    assert_eq!(json["link"], link.as_str());
    let secret = json["secret"].as_str().unwrap();
    let random = secret.strip_prefix("lks_").unwrap();
    assert!(random.len() == 43 && random.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    for name in ["Billing-1", "billing-1", "BILLING-1"] {
        let again = server.post("/services").bearer(&admin).form(&[("name", name)]).await;
        assert_eq!((again.status.as_u16(), again.message()), (409, format!("there is already a service named {name}")));
    }
    for name in ["", "two words", "ü", "a/b", &"a".repeat(65)] {
        let refused = server.post("/services").bearer(&admin).form(&[("name", name)]).await;
        assert_eq!(refused.status, 400, "{name}");
        assert!(refused.error("name").starts_with("must be 1 to 64 characters"), "{}", refused.text);
    }
    let path = link.strip_prefix("/api/v1").unwrap();
    let shown = server.get(path).bearer(&admin).send().await;
    assert_eq!((&shown.json()["name"], &shown.json()["disabled"]), (&json!("Billing-1"), &json!(false)));
    let list = server.get("/services").bearer(&admin).send().await;
    assert_eq!(list.json(), json!({ "items": [shown.json()] }));
    assert!(!shown.text.contains("lks_") && !shown.text.contains("secret\""), "{}", shown.text);
    let change = server.request(Method::PATCH, path).bearer(&admin).json(&json!({ "disabled": true })).await;
    assert_eq!((change.status.as_u16(), &change.json()["disabled"]), (200, &json!(true)));
    let unchanged = server.request(Method::PATCH, path).bearer(&admin).json(&json!({})).await;
    assert_eq!(unchanged.json(), change.json());
    assert_eq!(server.request(Method::DELETE, path).bearer(&admin).send().await.status, 204);
    for (method, path) in [
        (Method::GET, path.to_owned()),
        (Method::PATCH, path.to_owned()),
        (Method::DELETE, path.to_owned()),
        (Method::POST, format!("{path}/rotate")),
        (Method::GET, "/services/x".to_owned()),
    ] {
        let gone = server.request(method, &path).bearer(&admin).send().await;
        assert_eq!((gone.status.as_u16(), gone.message().as_str()), (404, "There is no such service."), "{path}");
    }
}

#[tokio::test]
async fn a_service_is_let_in_by_basic_and_by_its_secret_alone_and_by_nothing_else() {
    let server = TestServer::with_admin(&["--domain", "example.com"]);
    let admin = server.admin().await;
    let (service, other) = (add(&server, &admin).await, add(&server, &admin).await);
    let (id, secret) = (&service.id, &service.secret);
    assert_eq!(statuses(&server, id, secret).await, [200; 2]);
    // RFC 6749 §2.3.1: both are form-encoded, and any character may be.
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    assert_eq!(statuses(&server, &encode(id), &encode(secret)).await, [200, 401]);
    let encoded = |text: String| BASE64_STANDARD.encode(text);
    let pair = encoded(format!("{id}:{secret}"));
    for good in [format!("basic {pair}"), format!("BASIC   {pair}"), format!("bEARER {secret}")] {
        assert_eq!(ask(&server, &good).await.status, 200, "{good}");
    }
    let wrong = format!("{}{}", &secret[..46], if secret.ends_with('A') { "Q" } else { "A" });
    for bad in [
        format!("Basic {}", encoded(format!("{}:{secret}", other.id))),
        format!("Basic {}", encoded(format!("{id}:{}", other.secret))),
        format!("Basic {}", encoded(format!("{id}:{wrong}"))),
        format!("Basic {}", encoded(format!("{id}:{secret}+"))),
        format!("Basic {}", encoded(format!("{id}:{secret}%"))),
        format!("Basic {}", encoded(format!("{id}+:{secret}"))),
        format!("Basic {}", encoded(format!("{}:{secret}", id.to_uppercase()))),
        format!("Basic {}", encoded(format!(":{secret}"))),
        format!("Basic {}", encoded(format!("{id}:"))),
        format!("Basic {}", encoded(id.clone())),
        format!("Basic {}", encoded(format!("{ADMIN}:{}", super::harness::PASSWORD))),
        format!("Basic {pair}*"),
        format!("Basic {secret}"),
        format!("Bearer {pair}"),
        format!("Bearer {wrong}"),
        format!("Bearer {}", secret.trim_start_matches("lks_")),
        format!("Bearer {secret} "), // a blank at the end is not sent
        format!("Bearer {admin}"),
        format!("Digest {pair}"),
        "Basic".to_owned(),
        "Bearer".to_owned(),
    ] {
        let answer = ask(&server, &bad).await;
        let expected = if bad.ends_with(' ') { 200 } else { 401 };
        assert_eq!(answer.status, expected, "{bad}");
        if answer.status == 401 {
            assert_eq!(answer.json(), json!({ "status": "fail", "message": "Unauthorized" }));
            assert_eq!(answer.header("www-authenticate"), r#"Basic realm="services@example.com""#);
        }
    }
    assert_eq!(server.post("/token/introspect").form(&[("token", "x")]).await.status, 401);
    let twice = server.post("/token/introspect").bearer(secret).bearer(secret).form(&[("token", "x")]).await;
    assert_eq!((twice.status.as_u16(), twice.message().as_str()), (400, "More than one access token was sent"));
    let in_url = server.post(&format!("/token/introspect?access_token={admin}")).bearer(secret);
    assert_eq!(in_url.form(&[("token", "x")]).await.status, 400);
}

#[tokio::test]
async fn a_service_is_no_user_and_no_administrator() {
    let server = TestServer::with_admin(&[]);
    let service = add(&server, &server.admin().await).await;
    for path in ["/auth/user", "/users", "/services", "/widgets"] {
        let with_bearer = server.get(path).bearer(&service.secret).send().await;
        let with_basic = basic(server.get(path), &service.id, &service.secret).send().await;
        assert_eq!([with_bearer.status, with_basic.status], [401; 2], "{path}");
    }
}

#[tokio::test]
async fn a_disabled_or_removed_service_is_refused_at_its_next_request() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let service = add(&server, &admin).await;
    let (id, secret) = (&service.id, &service.secret);
    for (disabled, expected) in [(true, 401), (false, 200), (true, 401), (false, 200)] {
        let change = server.request(Method::PATCH, &service.path()).bearer(&admin);
        assert_eq!(change.json(&json!({ "disabled": disabled })).await.status, 200);
        assert_eq!(statuses(&server, id, secret).await, [expected; 2]);
    }
    assert_eq!(server.request(Method::DELETE, &service.path()).bearer(&admin).send().await.status, 204);
    assert_eq!(statuses(&server, id, secret).await, [401; 2]);
}

#[tokio::test]
async fn a_replaced_secret_is_refused_at_once_or_at_the_second_that_was_asked_for() {
    let clock = Arc::new(ManualClock::at(1_800_000_000));
    let server = TestServer::at(Arc::clone(&clock), &["--with-admin", "--token-lifetime", "30d"]).await;
    let admin = server.admin().await;
    let service = add(&server, &admin).await;
    let (id, first) = (&service.id, &service.secret);
    let second = rotate(&server, &admin, &service, None).await;
    assert_eq!(statuses(&server, id, first).await, [401; 2]);
    assert_eq!(statuses(&server, id, &second).await, [200; 2]);

    let third = rotate(&server, &admin, &service, Some("24h")).await;
    let shown = server.get(&service.path()).bearer(&admin).send().await.json();
    assert_eq!(shown["old_secret_valid_until_iso8601"], "2027-01-16T08:00:00Z");
    clock.advance(24 * 3600 - 1);
    for good in [&second, &third] {
        assert_eq!(statuses(&server, id, good).await, [200; 2]);
    }
    clock.advance(1);
    assert_eq!(statuses(&server, id, &second).await, [401; 2]);
    assert_eq!(statuses(&server, id, &third).await, [200; 2]);
    let shown = server.get(&service.path()).bearer(&admin).send().await.json();
    assert!(shown.get("old_secret_valid_until_iso8601").is_none(), "{shown}");

    // At most one secret is kept: the one before the last.
    let fourth = rotate(&server, &admin, &service, Some("1d")).await;
    let fifth = rotate(&server, &admin, &service, Some("1d")).await;
    assert_eq!(statuses(&server, id, &third).await, [401; 2]);
    for good in [&fourth, &fifth] {
        assert_eq!(statuses(&server, id, good).await, [200; 2]);
    }
    let sixth = rotate(&server, &admin, &service, None).await;
    for bad in [&fourth, &fifth] {
        assert_eq!(statuses(&server, id, bad).await, [401; 2]);
    }
    assert_eq!(statuses(&server, id, &sixth).await, [200; 2]);
    for bad in ["0s", "1", "s", "", "-1s", "+1s", "01s", "366d", "31536001s", "1w", "1h 1m", "1µ", "99999999d"] {
        let refused = server.post(&format!("{}/rotate", service.path())).bearer(&admin);
        let refused = refused.json(&json!({ "keep_old": bad })).await;
        let said = (refused.status.as_u16(), refused.error("keep_old"));
        assert_eq!(said, (400, "must be from 1s to 365d, such as 90s, 15m, 24h or 7d".to_owned()), "{bad}");
    }
    for good in ["1s", "365d", "31536000s", "525600m", "8760h"] {
        rotate(&server, &admin, &service, Some(good)).await;
    }
}

#[tokio::test]
async fn services_and_their_secrets_survive_a_restart_and_a_kill() {
    let mut server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let (kept, removed, disabled) =
        (add(&server, &admin).await, add(&server, &admin).await, add(&server, &admin).await);
    let new = rotate(&server, &admin, &kept, Some("24h")).await;
    server.stop();
    server.start_again();
    assert_eq!(statuses(&server, &kept.id, &kept.secret).await, [200; 2]);
    assert_eq!(server.request(Method::DELETE, &removed.path()).bearer(&admin).send().await.status, 204);
    let change = server.request(Method::PATCH, &disabled.path()).bearer(&admin);
    assert_eq!(change.json(&json!({ "disabled": true })).await.status, 200);
    server.signal("KILL");
    server.wait();
    server.start_again();
    for (service, secret, expected) in [
        (&kept, &kept.secret, 200),
        (&kept, &new, 200),
        (&removed, &removed.secret, 401),
        (&disabled, &disabled.secret, 401),
    ] {
        assert_eq!(statuses(&server, &service.id, secret).await, [expected; 2]);
    }
}

#[tokio::test]
async fn of_two_services_of_one_name_that_are_added_at_once_one_is_added() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let add =
        async |name: &str| server.post("/services").bearer(&admin).json(&json!({ "name": name })).await.status.as_u16();
    for round in 0..10 {
        let (first, second) = (format!("twice-{round}"), format!("Twice-{round}"));
        let (first, second) = tokio::join!(add(&first), add(&second));
        assert_eq!(first.min(second)..=first.max(second), 201..=409);
    }
}

#[tokio::test]
async fn wrong_secrets_are_limited_by_address_and_good_ones_never() {
    let dir = Arc::new(TempDir::new().unwrap());
    add_user(&dir.path().join("data"), ADMIN, true);
    let server = TestServer::on(dir, &["--login-limit", "5/1h", "--trusted-proxy", "127.0.0.1"]);
    let form = [("email", ADMIN), ("password", super::harness::PASSWORD)];
    let from = |path: &str, address: &str| server.post(path).header("x-forwarded-for", address);
    let admin = from("/auth/login", "198.51.100.1").form(&form).await.token();
    let service = add(&server, &admin).await;
    let ask = async |secret: &str| from("/token/introspect", "192.0.2.1").bearer(secret).form(&[("token", "x")]).await;
    for _ in 0..20 {
        assert_eq!(ask(&service.secret).await.status, 200);
    }
    for _ in 0..5 {
        assert_eq!(ask("lks_wrong").await.status, 401);
    }
    let limited = ask("lks_wrong").await;
    assert_eq!((limited.status.as_u16(), limited.message().as_str()), (429, "Too many tries. Please try again later."));
    assert!(limited.header("retry-after").parse::<u64>().unwrap() > 600);
    let with_basic = basic(from("/token/introspect", "192.0.2.1"), &service.id, "lks_wrong").send().await;
    assert_eq!(with_basic.status, 429);
    assert_eq!(ask(&service.secret).await.status, 200, "a good secret is never slowed");
    let login = from("/auth/login", "192.0.2.1").form(&form).await;
    assert_eq!(login.status, 429, "logins are counted by the same limit");
    let elsewhere = from("/token/introspect", "192.0.2.2").bearer("lks_wrong").form(&[("token", "x")]).await;
    assert_eq!(elsewhere.status, 401, "another address has its own count");
}

#[tokio::test]
async fn no_secret_and_no_token_is_in_the_log_the_database_or_an_error() {
    let mut server = TestServer::with_admin(&["--log", "trace"]);
    let admin = server.admin().await;
    let service = add(&server, &admin).await;
    let new = rotate(&server, &admin, &service, Some("24h")).await;
    let user = server.user("jo@example.com").await;
    let pair = BASE64_STANDARD.encode(format!("{}:{new}", service.id));
    let mut answers = Vec::new();
    for secret in [&service.secret, &new] {
        answers.push(server.post("/token/introspect").bearer(secret).form(&[("token", &user)]).await.text);
        answers
            .push(server.post("/token/introspect").bearer(&format!("{secret}x")).form(&[("token", &user)]).await.text);
        answers.push(
            server.post("/token/introspect").bearer(secret).form(&[("token", &user), ("token", &user)]).await.text,
        );
        answers.push(server.post("/token/introspect").bearer(secret).bearer(secret).send().await.text);
    }
    answers.push(basic(server.post("/token/introspect"), &service.id, &new).form(&[("token", &user)]).await.text);
    answers.push(server.get("/services").bearer(&admin).send().await.text);
    assert_eq!(server.post("/token/revoke").bearer(&new).form(&[("token", &user)]).await.status, 200);
    server.post("/token/revoke").bearer(&new).header("x-request-id", "the-last-one").form(&[("token", &user)]).await;
    let log = server.log().clone();
    log.wait_for("the-last-one");
    server.stop();
    let file = fs::read(server.dir.path().join("data/latchkey.redb")).unwrap();
    let mut secrets = vec![service.secret.as_str(), &new, &pair];
    secrets.extend(user.split('.').skip(1));
    for secret in secrets {
        assert!(!log.text().contains(secret), "{secret} is in the log");
        assert!(answers.iter().all(|answer| !answer.contains(secret)), "{secret} is in {answers:#?}");
        assert!(!file.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()), "{secret} is in the file");
    }
    assert!(file.windows(9).any(|bytes| bytes == b"Service.0"), "the file was read");
}

#[tokio::test]
async fn what_happens_to_services_is_in_the_audit_log() {
    let server = TestServer::with_admin(&[]);
    let admin = server.admin().await;
    let service = add(&server, &admin).await;
    let secret = rotate(&server, &admin, &service, None).await;
    for disabled in [true, false] {
        server.request(Method::PATCH, &service.path()).bearer(&admin).json(&json!({ "disabled": disabled })).await;
    }
    let user = server.user("jo@example.com").await;
    for _ in 0..2 {
        server.post("/token/revoke").bearer(&secret).form(&[("token", &user)]).await;
    }
    let refused = basic(server.post("/token/introspect"), &service.id, "lks_x").header("x-request-id", "refused-one");
    assert_eq!(refused.form(&[("token", "x")]).await.status, 401);
    server.request(Method::DELETE, &service.path()).bearer(&admin).header("x-request-id", "last").send().await;
    server.log().wait_for(r#"answered id="last""#);
    let log = server.log().text();
    let lines: Vec<&str> =
        log.lines().filter(|line| line.contains("audit: event=") && line.contains("service")).collect();
    let id = &service.id;
    let by_admin = |event: &str, disabled: bool| {
        format!("event={event} service=Service.0 service_id={id} client=127.0.0.1 by={ADMIN} disabled={disabled}")
    };
    for expected in [
        by_admin("service_created", false),
        by_admin("service_rotated", false),
        by_admin("service_disabled", true),
        by_admin("service_enabled", false),
        by_admin("service_removed", false),
        format!("event=service_auth_failed service_id={id} client=127.0.0.1"),
    ] {
        assert_eq!(lines.iter().filter(|line| line.ends_with(&expected)).count(), 1, "{expected}: {lines:#?}");
    }
    let refused = lines.iter().find(|line| line.contains("service_auth_failed")).unwrap();
    assert!(refused.contains(r#"id="refused-one""#), "{refused}");
    let revoked: Vec<_> = lines.iter().filter(|line| line.contains("event=token_revoked")).collect();
    assert_eq!(revoked.len(), 1, "a dead token is not revoked again");
    assert!(
        revoked[0].contains("email=jo@example.com ") && revoked[0].ends_with("service=Service.0"),
        "{}",
        revoked[0]
    );
}
