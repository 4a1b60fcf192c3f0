//! The client of the admin socket: sends one request after another to the server that runs on the data directory.
//!
//! Guarantees: a truncated response is an error. All requests of a command go over one connection, so that one process answers them all.
//!
//! Why not `reqwest`: it adds 0.58 MB to a program that has hyper's client already.

use std::{
    fs::File,
    io::{self, Cursor, Read},
    pin::Pin,
    task::{Context as Task, Poll},
};

use anyhow::Context as _;
use hyper::{
    Request,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::{config::Config, store::ADMIN_SOCKET};

/// The message about a truncated response.
pub(super) const BROKE_OFF: &str = "the server broke off";

/// A connection to a running server.
pub(super) struct AdminSocketClient(SendRequest<RequestBody>);

impl AdminSocketClient {
    /// Connects. Returns `None` if no server runs.
    pub(super) async fn connect(config: &Config) -> Option<Self> {
        let stream = UnixStream::connect(config.data_dir.join(ADMIN_SOCKET)).await.ok()?;
        let (server, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(Self(server))
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: RequestBody,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(path).header("host", ADMIN_SOCKET);
        if let Some(content_type) = body.content_type {
            request = request.header("content-type", content_type);
        }
        if let Some(token) = bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.0.ready().await.context("the server has stopped")?;
        let response = self.0.send_request(request.body(body)?).await.context("the server did not answer")?;
        Ok(Answer { status: response.status().as_u16(), body: response.into_body() })
    }
}

/// A response whose head has arrived.
pub(super) struct Answer {
    pub(super) status: u16,
    body: Incoming,
}

impl Answer {
    /// The next chunk of the body; `None` at its end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Bytes>> {
        loop {
            match std::future::poll_fn(|task| Pin::new(&mut self.body).poll_frame(task)).await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame.context(BROKE_OFF)?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body.
    pub(super) async fn whole(mut self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(data) = self.next().await? {
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}

/// The body of a request.
pub(super) struct RequestBody {
    source: Box<dyn Read + Send>,
    left: u64,
    content_type: Option<&'static str>,
}

impl RequestBody {
    /// An empty body.
    pub(super) fn nothing() -> Self {
        Self { source: Box::new(io::empty()), left: 0, content_type: None }
    }

    /// A JSON text.
    pub(super) fn json(text: String) -> Self {
        let left = text.len() as u64;
        Self { source: Box::new(Cursor::new(text)), left, content_type: Some("application/json") }
    }

    /// The content of a file, which must be at its start.
    pub(super) fn file(file: File) -> io::Result<Self> {
        let left = file.metadata()?.len();
        Ok(Self { source: Box::new(file), left, content_type: None })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut piece = vec![0; 64 * 1024];
        Poll::Ready(match self.source.read(&mut piece) {
            Ok(0) => None,
            read => Some(read.map(|length| {
                piece.truncate(length);
                self.left = self.left.saturating_sub(length as u64);
                Frame::data(piece.into())
            })),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
