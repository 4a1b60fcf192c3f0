//! The queue of password hashes under load: what is queued, refused, preferred and dropped.
//!
//! Each server hashes on one thread, and a hash takes long enough for the test to observe the queue.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use latchkey::clock::SystemClock;
use reqwest::StatusCode;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::timeout,
};

use super::{
    harness::{PASSWORD, TestServer},
    metrics::{scrape, value},
};
use crate::{
    backup::done,
    hashes::BCRYPT,
    import::{exported, import, line},
};

/// A cost of about a tenth of a second. Even on a busy machine no request is refused because it would wait too long.
const SHORT: &str = "ln=14,r=8,p=3";
/// A cost of about half a second.
const LONG: &str = "ln=15,r=8,p=7";

/// The maximum time until an expected event before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn one_thread(cost: &str) -> TestServer {
    TestServer::with(&["--hash-threads", "1", "--scrypt", cost, "--metrics-listen", "127.0.0.1:0"])
}

/// Waits until one password is being hashed and `expected` are queued.
async fn until_waiting(server: &TestServer, expected: f64) {
    let seen = async {
        loop {
            let text = scrape(server).await;
            let (running, waiting) = (value(&text, "hashes_running"), value(&text, "hashes_waiting"));
            assert!(running < 1.5, "one thread hashes one password at a time");
            if running > 0.5 && (waiting - expected).abs() < 0.5 {
                return;
            }
        }
    };
    timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("never did {expected} wait"));
}

/// Sends a login or registration with an unused email, and returns the open connection.
async fn send(server: &TestServer, path: &str, email: &str) -> TcpStream {
    let body = format!("email={email}&password={}", PASSWORD.replace(' ', "+"));
    let length = body.len();
    let text = format!(
        "POST /api/v1/auth/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// The same in the background. Sends `name` to `answered` when the response arrives.
async fn ask(server: &TestServer, path: &str, name: &'static str, answered: &UnboundedSender<&'static str>) {
    let stream = send(server, path, &format!("{name}@example.com")).await;
    let answered = answered.clone();
    tokio::spawn(async move {
        stream.readable().await.unwrap();
        let _ = answered.send(name);
    });
}

#[tokio::test]
async fn logins_are_served_before_registrations_that_were_there_first() {
    let server = one_thread(SHORT);
    let (answered, mut answers) = unbounded_channel();
    ask(&server, "login", "first", &answered).await;
    until_waiting(&server, 0.0).await;
    ask(&server, "login", "second", &answered).await;
    until_waiting(&server, 1.0).await;
    ask(&server, "register", "new", &answered).await;
    until_waiting(&server, 2.0).await;
    ask(&server, "login", "third", &answered).await;
    let mut order = Vec::new();
    while order.len() < 4 {
        order.push(answers.recv().await.unwrap());
    }
    assert_eq!(order, ["first", "second", "third", "new"]);
}

#[tokio::test]
async fn who_would_wait_too_long_is_refused_at_once_and_told_when_to_come_back() {
    let server = one_thread(LONG);
    let mut calls = JoinSet::new();
    for n in 0..24 {
        let path = if n % 2 == 0 { "/auth/login" } else { "/auth/register" };
        let (email, call) = (format!("u{n}@example.com"), server.post(path).may_fail());
        calls.spawn(async move { (path, call.form(&[("email", &email), ("password", PASSWORD)]).await) });
    }
    let (mut refused, mut refused_logins) = (0, 0.0);
    let mut taken = 0;
    // The loop ends when the first of the 24 passwords is hashed. All responses before that are refusals.
    while taken == 0 {
        let (path, answer) = calls.join_next().await.unwrap().unwrap();
        if answer.status == StatusCode::SERVICE_UNAVAILABLE {
            refused += 1;
            refused_logins += f64::from(u8::from(path == "/auth/login"));
            let seconds: u64 = answer.header("retry-after").parse().unwrap();
            assert!((1..=10).contains(&seconds), "{seconds}");
        } else {
            assert!(answer.status == 401 || answer.status == 201, "{}", answer.status);
            taken += 1;
        }
    }
    assert!(refused >= 12, "{refused}");
    let counted = value(&scrape(&server).await, r#"logins_total{outcome="failed"}"#);
    assert!(counted >= 1.0 && counted >= refused_logins, "{counted} of {refused_logins}");
}

/// Imported hashes have their own cost: eight expensive ones are too many at once, two cheap ones are not.
#[tokio::test]
async fn a_hash_that_came_from_elsewhere_counts_for_what_it_takes() {
    let phc = "c2FsdHNhbHRzYWx0$iyvOuAN5FSMxR/tZTq71Eyr+3EuaqMC6KR1HIOxGykQ";
    let hex = "00".repeat(32);
    for (long, short) in [
        (format!("$scrypt$ln=18,r=8,p=10${phc}"), format!("$scrypt$ln=4,r=8,p=1${phc}")),
        (format!("$argon2id$v=19$m=65536,t=10,p=1${phc}"), format!("$argon2id$v=19$m=64,t=1,p=1${phc}")),
        (BCRYPT.replace("$04$", "$14$"), BCRYPT.to_owned()),
        (format!("pbkdf2:sha256:1000000$salt${hex}"), format!("pbkdf2:sha256:100$salt${hex}")),
        (format!("pbkdf2:sha512:500000$salt${hex}"), format!("pbkdf2:sha512:100$salt${hex}")),
    ] {
        for (hash, at_once, is_long) in [(short, 2, false), (long, 8, true)] {
            let server = TestServer::with(&["--hash-threads", "1"]);
            let user = json!({ "email": "jo@example.com", "password_hash": hash });
            done(&import(&server.dir.path().join("data"), &[], &user.to_string()));
            let mut calls = JoinSet::new();
            for _ in 0..at_once {
                let call = server.post("/auth/login").may_fail();
                calls.spawn(async { call.form(&[("email", "jo@example.com"), ("password", "not it")]).await.status });
            }
            // A refusal is sent at once, before the first hash is computed.
            let first = calls.join_next().await.unwrap().unwrap();
            let expected = if is_long { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::UNAUTHORIZED };
            assert_eq!(first, expected, "{hash}");
        }
    }
}

#[tokio::test]
async fn a_hash_that_takes_long_by_itself_is_made_where_a_thread_is_free_and_nowhere_else() {
    let server = TestServer::with(&["--hash-threads", "1", "--metrics-listen", "127.0.0.1:0"]);
    let hash = "$scrypt$ln=17,r=8,p=10$c2FsdHNhbHRzYWx0$iyvOuAN5FSMxR/tZTq71Eyr+3EuaqMC6KR1HIOxGykQ";
    for email in ["first@example.com", "second@example.com"] {
        let user = json!({ "email": email, "password_hash": hash });
        done(&import(&server.dir.path().join("data"), &[], &user.to_string()));
    }
    let first = send(&server, "login", "first@example.com").await;
    until_waiting(&server, 0.0).await;
    let second = server.post("/auth/login").may_fail();
    let second = second.form(&[("email", "second@example.com"), ("password", "not it")]).await;
    assert_eq!(second.status, StatusCode::SERVICE_UNAVAILABLE);
    let mut answer = [0];
    assert!(first.try_read(&mut answer).is_err(), "refused at once");
}

#[tokio::test]
async fn a_weak_hash_is_replaced_where_nobody_waits_for_that() {
    let server = one_thread(SHORT);
    let data = server.dir.path().join("data");
    // Both hashes are fast, so that no request times out, however long the first one takes.
    done(&import(&data, &[], &format!("{}\n{}", line("weak@example.com"), line("last@example.com"))));
    let hash = || exported(&data).into_iter().find(|user| user["email"] == "weak@example.com").unwrap();
    let before = hash();
    let (answered, mut answers) = unbounded_channel();
    for (waiting, name) in [(0.0, "first"), (1.0, "weak"), (2.0, "last")] {
        ask(&server, "login", name, &answered).await;
        until_waiting(&server, waiting).await;
    }
    for _ in 0..3 {
        answers.recv().await.unwrap();
    }
    assert_eq!(hash(), before, "the last one waited");
    server.log_in("weak@example.com").await;
    assert_ne!(hash(), before);
}

/// Sends a registration while there is always a login, which has priority.
#[tokio::test]
async fn what_has_waited_too_long_is_given_up_and_not_before() {
    const LOGINS: usize = 6;
    let server = one_thread(SHORT);
    let url = format!("{}/api/v1/auth/login", server.base);
    let (answered, mut answers) = unbounded_channel();
    let mut clients = JoinSet::new();
    for n in 0..LOGINS {
        let (client, url, answered) = (reqwest::Client::new(), url.clone(), answered.clone());
        clients.spawn(async move {
            let form = [("email", format!("u{n}@example.com")), ("password", PASSWORD.to_owned())];
            while let Ok(answer) = client.post(&url).form(&form).send().await {
                if answer.status() == StatusCode::UNAUTHORIZED {
                    let _ = answered.send(Instant::now());
                }
            }
        });
    }
    #[expect(clippy::cast_precision_loss, reason = "a few")]
    until_waiting(&server, LOGINS as f64 - 1.0).await;
    let taken = async {
        loop {
            let begun = Instant::now();
            let call = server.post("/auth/register").may_fail();
            let answer = call.form(&[("email", "new@example.com"), ("password", PASSWORD)]).await;
            assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
            if begun.elapsed() > Duration::from_secs(1) {
                return (begun, begun.elapsed()); // the request was not refused at once
            }
        }
    };
    let (begun, waited) = timeout(PATIENCE, taken).await.expect("it is given up");
    // The request waits four seconds, less the time of a hash. That time is at most the time between two responses.
    let mut last = begun;
    let mut longest = Duration::ZERO;
    while let Ok(at) = answers.try_recv() {
        longest = longest.max(at.saturating_duration_since(last));
        last = at;
    }
    longest = longest.max((begun + waited).saturating_duration_since(last)); // the hash that is being computed
    assert!(waited + 2 * longest > Duration::from_secs(4), "after {waited:?}, where a hash takes {longest:?}");
}

#[tokio::test]
async fn the_password_of_a_client_that_hung_up_is_not_hashed() {
    let server = one_thread(LONG);
    let (answered, mut answers) = unbounded_channel();
    ask(&server, "login", "first", &answered).await;
    until_waiting(&server, 0.0).await;
    let gone = [send(&server, "login", "a@example.com").await, send(&server, "register", "b@example.com").await];
    until_waiting(&server, 2.0).await;
    drop(gone);
    until_waiting(&server, 0.0).await;
    // The only thread still hashes the first password, so the two requests left the queue without being hashed.
    assert!(answers.try_recv().is_err());
    assert_eq!(answers.recv().await, Some("first"));
    assert!(value(&scrape(&server).await, "hashes_running") < 0.5);
}

/// Hashing threads have a lower priority than those that answer requests.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn hashing_threads_are_as_many_as_asked_for_and_nicer_than_the_others() {
    let server = TestServer::with(&["--hash-threads", "3"]);
    server.user("jo@example.com").await;
    let mut hashing = Vec::new();
    let mut others = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (name, fields) = stat.rsplit_once(')').unwrap();
        let nice: i64 = fields.split_whitespace().nth(16).unwrap().parse().unwrap();
        if name.contains("latchkey-hash-") {
            hashing.push(nice);
        } else if !name.contains("latchkey-reader") {
            others.push(nice);
        }
    }
    assert_eq!(hashing.len(), 3);
    assert!(
        hashing.iter().all(|nice| others.iter().all(|other| nice > other || *nice == 19)),
        "{hashing:?} {others:?}"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn hashing_threads_end_with_their_server() {
    // More threads than all servers of other tests have. Those servers start and end in this process meanwhile.
    const THREADS: usize = 200;
    let begun = Instant::now();
    let soon = async |what: &str| {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::task::yield_now().await;
    };
    let hashing = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        // A thread that ends meanwhile has no name.
        let name = |task: &PathBuf| fs::read_to_string(task.join("comm")).unwrap_or_default();
        tasks.filter(|task| name(task).starts_with("latchkey-hash-")).collect::<Vec<_>>()
    };
    let server = TestServer::at(Arc::new(SystemClock), &["--hash-threads", &THREADS.to_string()]).await;
    let mut there = hashing();
    while there.len() < THREADS {
        soon("they do not start").await; // each thread sets its own name
        there = hashing();
    }
    server.end().await;
    while there.iter().filter(|task| task.exists()).count() > there.len() - THREADS {
        soon("they are still there").await;
    }
}
