//! Raw HTTP: requests that no HTTP client sends, and the exact bytes of the response.

use std::time::Duration;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::harness::TestServer;

/// The response. The status is 0 if the connection was closed without one.
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    /// The status line and the headers in lowercase, one per line.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl RawAnswer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.head, self.body))
    }
}

/// Sends these bytes and returns the first response.
pub(crate) async fn raw(server: &TestServer, bytes: &[u8]) -> RawAnswer {
    exchange(server, bytes, false).await
}

/// Like [`raw`], but closes the sending side afterwards.
pub(crate) async fn raw_to_the_end(server: &TestServer, bytes: &[u8]) -> RawAnswer {
    exchange(server, bytes, true).await
}

async fn exchange(server: &TestServer, bytes: &[u8], end: bool) -> RawAnswer {
    let talk = async {
        let address = server.base.strip_prefix("http://").unwrap();
        let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
        let send = async {
            // The server may respond and close the connection before it has read all bytes.
            let _ = to.write_all(bytes).await;
            if end {
                let _ = to.shutdown().await;
            }
        };
        let receive = async {
            let mut answer = Vec::new();
            while !is_complete(&answer) {
                if from.read_buf(&mut answer).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            answer
        };
        tokio::join!(send, receive).1
    };
    let answer = tokio::time::timeout(Duration::from_secs(25), talk).await.expect("no answer and no end");
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
    RawAnswer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// Whether a response with `Content-Length` is complete. Others end with the connection.
pub(crate) fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse().unwrap())
}
