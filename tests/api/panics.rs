//! A panic in a handler affects only its own request. The test uses a clock that panics.
//!
//! Not tested: the output of the panic hook on stderr.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use latchkey::clock::{Clock, SystemClock};
use reqwest::StatusCode;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tracing_subscriber::fmt::MakeWriter;

use super::{
    harness::TestServer,
    metrics::{scrape, value},
    raw::is_complete,
};

/// The system clock, which panics as soon as the flag is set.
#[derive(Default)]
struct Broken(AtomicBool);

impl Clock for Broken {
    fn now(&self) -> OffsetDateTime {
        assert!(!self.0.load(Ordering::SeqCst), "the clock is broken");
        SystemClock.now()
    }
}

/// The log of the thread of this test. Its server runs on the same thread.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logged {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Sends `GET /auth/user` on a persistent connection.
async fn ask(stream: &mut TcpStream, token: &str, id: &str) -> String {
    let head = format!("GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n");
    stream.write_all(format!("{head}Authorization: Bearer {token}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !is_complete(&answer) {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "it was closed");
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_handler_that_panics_is_a_500_in_our_shape_in_the_log_once_counted_and_harms_nobody_else() {
    let logged = Logged::default();
    let subscriber = tracing_subscriber::fmt().with_writer(logged.clone()).with_ansi(false).finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let clock = Arc::new(Broken::default());
    // Either the first purge ends before the clock fails, or it panics, too. Nothing waits for it.
    let server = TestServer::at(Arc::clone(&clock), &["--metrics-listen", "127.0.0.1:0"]).await;
    let token = server.user("jo@example.com").await;
    let panics = async || value(&scrape(&server).await, "panics_total");
    let before = panics().await;
    let mut stream = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap();
    clock.0.store(true, Ordering::SeqCst);
    let failed = ask(&mut stream, &token, "it-panics").await;
    assert!(failed.starts_with("HTTP/1.1 500 ") && failed.contains("x-request-id: it-panics\r\n"), "{failed}");
    assert!(!failed.contains("clock"), "{failed}");
    // The same request over another connection. The harness checks the general rules on this one.
    let answer = server.get("/auth/user").bearer(&token).header("x-request-id", "once-more").may_fail().send().await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(failed.ends_with(&answer.text), "{failed}");
    clock.0.store(false, Ordering::SeqCst);
    let well = ask(&mut stream, &token, "all-is-well").await;
    assert!(well.starts_with("HTTP/1.1 200 ") && well.contains("jo@example.com"), "the connection goes on: {well}");
    assert_eq!(server.status_of(&token).await, 200);
    let counted = panics().await - before;
    assert!((counted - 2.0).abs() < 0.1, "{counted}");
    let log = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let causes: Vec<_> = log.lines().filter(|line| line.contains("the clock is broken")).collect();
    assert_eq!(causes.len(), 2, "{log}");
    assert!(causes[0].contains(" ERROR ") && causes[0].contains(r#"id="it-panics""#), "{log}");
    assert!(causes[1].contains(" ERROR ") && causes[1].contains(r#"id="once-more""#), "{log}");
    server.end().await;
}
