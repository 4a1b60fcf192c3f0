//! `POST /auth/login`

use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    harness::{PASSWORD, TestServer, claims},
    raw::is_complete,
};
use crate::{
    backup::done,
    import::{exported, import, line},
};

#[tokio::test]
async fn logging_in_answers_with_a_token_in_the_shape_of_rfc_6749() {
    let server = TestServer::start();
    server.user("jo@example.com").await;
    let body = json!({ "email": "jo@example.com", "password": PASSWORD });
    for answer in [
        server.post("/auth/login").json(&body).await,
        server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", PASSWORD)]).await,
    ] {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("pragma"), "no-cache");
        let body = answer.json();
        assert_eq!(body["status"], "success");
        assert_eq!(body["message"], "successfully logged in");
        assert_eq!(body["token_type"], "bearer");
        assert_eq!(body["expires_in"], 3600);
        assert_eq!(body.as_object().unwrap().len(), 5);
    }
}

#[tokio::test]
async fn a_token_says_when_it_was_made_when_it_ends_who_it_names_and_whether_that_is_an_administrator() {
    let server = TestServer::with_admin(&["--token-lifetime", "90s"]);
    let user = claims(&server.user("jo@example.com").await);
    let admin = claims(&server.admin().await);
    for (claims, is_admin) in [(&user, false), (&admin, true)] {
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 90);
        assert_eq!(claims["admin"], is_admin);
        assert_eq!(claims["epoch"], 0);
        let mut names: Vec<_> = claims.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["admin", "epoch", "exp", "iat", "jti", "sub"]);
    }
    assert_ne!(user["sub"], admin["sub"]);
    assert_ne!(user["jti"], admin["jti"]);
}

#[tokio::test]
async fn an_unknown_email_and_a_wrong_password_get_the_same_bytes() {
    let server = TestServer::start();
    server.user("jo@example.com").await;
    let mut seen = Vec::new();
    for (email, password) in
        [("jo@example.com", "wrong password"), ("nobody@example.com", PASSWORD), ("jo@example.com", "")]
    {
        let answer = server.post("/auth/login").form(&[("email", email), ("password", password)]).await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.message(), "email or password does not match");
        assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="registered_users@mydomain.com""#);
        let mut headers = answer.headers.clone();
        for name in ["x-request-id", "date"] {
            headers.remove(name);
        }
        seen.push((answer.text, headers));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

/// Returns the processor time of the server in ticks of 10 ms. Wall-clock time would depend on other load.
pub(crate) fn cpu_ticks(server: &TestServer) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<_> = fields.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn an_unknown_email_costs_a_hash_like_a_known_one() {
    let server = TestServer::with(&["--scrypt", "ln=15,r=8,p=4"]);
    server.user("jo@example.com").await;
    let mut cost = Vec::new();
    for email in ["jo@example.com", "nobody@example.com"] {
        let before = cpu_ticks(&server);
        for _ in 0..2 {
            server.post("/auth/login").form(&[("email", email), ("password", "wrong password")]).await;
        }
        cost.push(cpu_ticks(&server) - before);
    }
    let (known, unknown) = (cost[0], cost[1]);
    assert!(known >= 10, "a hash is what a login costs: {known}");
    assert!(unknown * 2 > known, "unknown {unknown}, known {known}");
}

/// Returns the duration in nanoseconds, on an open connection.
async fn time_of_login(client: &mut TcpStream, email: &str) -> u128 {
    let body = format!("email={email}&password=not+it+at+all");
    let length = body.len();
    let text = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let begun = std::time::Instant::now();
    client.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !is_complete(&answer) {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0);
    }
    let took = begun.elapsed().as_nanos();
    assert!(answer.starts_with(b"HTTP/1.1 401 "));
    took
}

/// Uses a very cheap hash, so that the hash does not hide other differences in time.
#[tokio::test]
#[ignore = "long: 6,000 logins, and a machine that does nothing else"]
async fn unknown_wrong_and_disabled_take_the_same_time() {
    let server = TestServer::with_admin(&["--log", "off"]);
    let admin = server.admin().await;
    let emails = ["known-one@example.com", "nobody-xx@example.com", "disabled1@example.com"];
    server.user(emails[0]).await;
    let disabled = claims(&server.user(emails[2]).await)["sub"].as_str().unwrap().to_owned();
    let change = server.request(Method::PATCH, &format!("/users/{disabled}")).bearer(&admin);
    assert_eq!(change.json(&json!({ "disabled": true })).await.status, 200);
    let mut client = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap();
    client.set_nodelay(true).unwrap();
    let mut times = [const { Vec::new() }; 3];
    for n in 0..2_200 {
        for place in 0..3 {
            let who = (n + place) % 3;
            times[who].push(time_of_login(&mut client, emails[who]).await);
        }
    }
    let medians = times.map(|mut times| {
        times.drain(..200); // the first logins include one-time work
        times.sort_unstable();
        times[times.len() / 2]
    });
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    println!("medians of wrong password, unknown email and disabled user: {medians:?} ns");
    assert!((most - least) * 50 < *least, "{medians:?}");
}

#[tokio::test]
async fn logins_that_would_wait_too_long_are_refused_at_once_and_those_that_are_taken_succeed() {
    let server = TestServer::with(&["--scrypt", "ln=17,r=8,p=3"]);
    server.user("jo@example.com").await;
    let calls = (0..64).map(|_| async {
        let form = [("email", "jo@example.com"), ("password", PASSWORD)];
        server.post("/auth/login").may_fail().form(&form).await
    });
    let answers = futures_util::future::join_all(calls).await;
    let (taken, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!taken.is_empty() && !refused.is_empty(), "{} taken, {} refused", taken.len(), refused.len());
    for answer in refused {
        assert_eq!(answer.status, 503);
        assert_eq!(answer.message(), "The server is busy. Please try again soon.");
    }
}

#[tokio::test]
async fn a_malformed_email_at_login_is_told_to_be_one() {
    let server = TestServer::start();
    let answer = server.post("/auth/login").form(&[("email", "jo"), ("password", "x")]).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.error("email"), "jo is not a valid email");
    let answer = server.post("/auth/login").form(&[]).await;
    assert_eq!(answer.error("email"), "Missing required parameter in the post body");
    assert_eq!(answer.error("password"), "Missing required parameter in the post body");
}

#[tokio::test]
async fn a_hash_that_costs_what_the_setting_says_is_kept_at_each_login() {
    let server = TestServer::start();
    server.user("jo@example.com").await;
    let data = server.dir.path().join("data");
    let before = exported(&data);
    assert_eq!(before.len(), 1);
    for _ in 0..3 {
        server.log_in("jo@example.com").await;
    }
    assert_eq!(exported(&data), before);
}

/// The imported hash is very cheap, and a new one takes a tenth of a second.
#[tokio::test]
async fn a_wrong_password_never_costs_a_new_hash() {
    let server = TestServer::with(&["--scrypt", "ln=15,r=8,p=4"]);
    done(&import(&server.dir.path().join("data"), &[], &line("jo@example.com").to_string()));
    let before = cpu_ticks(&server);
    for _ in 0..4 {
        let answer = server.post("/auth/login").form(&[("email", "jo@example.com"), ("password", "not it")]).await;
        assert_eq!(answer.status, 401);
    }
    let wrong = cpu_ticks(&server) - before;
    let before = cpu_ticks(&server);
    server.log_in("jo@example.com").await;
    let right = cpu_ticks(&server) - before;
    assert!(wrong < right, "four wrong ones {wrong}, the right one {right}");
}

#[tokio::test]
async fn a_hash_that_is_cheaper_than_the_setting_is_replaced_at_the_next_login() {
    let mut server = TestServer::with(&["--scrypt", "ln=2,r=8,p=1"]);
    server.user("jo@example.com").await;
    server.stop();
    // The cost rises from ln=2 to ln=3. If the login replaced the hash, the database now has a hash of ln=3.
    let file = server.dir.path().join("data/latchkey.redb");
    let dir = server.dir.clone();
    drop(server);
    let mut server = TestServer::on(dir, &["--scrypt", "ln=3,r=8,p=1"]);
    assert_eq!(server.status_of(&server.log_in("jo@example.com").await).await, 200);
    server.stop();
    let bytes = std::fs::read(file).unwrap();
    let has = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(has(b"$scrypt$ln=3,r=8,p=1$"));
    server.start_again();
    assert_eq!(server.status_of(&server.log_in("jo@example.com").await).await, 200);
}
