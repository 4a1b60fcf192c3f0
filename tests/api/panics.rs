//! A handler that panics: a clock that breaks makes one, since a handler asks for the time.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use latchkey::{clock::Clock, metrics::METRICS};
use time::OffsetDateTime;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use super::{
    harness::{PASSWORD, TestServer},
    raw::next_answer,
};

#[derive(Default)]
struct Fragile(AtomicBool);

impl Clock for Fragile {
    fn now(&self) -> OffsetDateTime {
        assert!(!self.0.load(Ordering::SeqCst), "the clock is broken");
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }
}

/// What is logged on this thread, which the server of the test runs on as well.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// No other test of this process makes a handler panic.
fn panics() -> u64 {
    let text = METRICS.text(None);
    let count = text.lines().find_map(|line| line.strip_prefix("latchkey_panics_total "));
    count.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_panic_in_a_handler_is_a_500_that_is_logged_and_nobody_else_notices() {
    let log = Lines::default();
    let written = log.clone();
    let logging = tracing_subscriber::fmt().with_ansi(false).with_writer(move || written.clone()).finish();
    let _logging = tracing::subscriber::set_default(logging);
    let clock = Arc::new(Fragile::default());
    let server = TestServer::at(Arc::clone(&clock), &[]).await;
    let token = server.user("jo@example.com").await;
    let mut stream = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap();
    let ask = format!(
        "GET /api/v1/auth/user HTTP/1.1\r\nHost: x\r\nX-Request-Id: the-one\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    let before = panics();

    clock.0.store(true, Ordering::SeqCst);
    for panicked in 1..=2 {
        stream.write_all(ask.as_bytes()).await.unwrap();
        let answer = next_answer(&mut stream).await;
        assert_eq!(answer.status, 500);
        assert_eq!(answer.json(), serde_json::json!({"status": "fail", "message": "Internal server error"}));
        assert_eq!(panics() - before, panicked);
    }
    // One with a body, whose answer would carry a token.
    let form = [("email", "jo@example.com"), ("password", PASSWORD)];
    assert_eq!(server.post("/auth/login").may_fail().form(&form).await.status, 500);
    assert_eq!(server.get("//healthz").send().await.status, 200);
    assert_eq!(server.get("/auth/user").send().await.status, 401);

    clock.0.store(false, Ordering::SeqCst);
    stream.write_all(ask.as_bytes()).await.unwrap();
    assert_eq!(next_answer(&mut stream).await.status, 200);
    assert_eq!(server.log_in("jo@example.com").await.split('.').count(), 3);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let causes: Vec<_> = log.lines().filter(|line| line.contains("the clock is broken")).collect();
    assert_eq!(causes.len(), 3, "{log}");
    assert_eq!(causes.iter().filter(|line| line.contains(r#"request{id="the-one" method=GET"#)).count(), 2, "{log}");
    server.end().await;
}
