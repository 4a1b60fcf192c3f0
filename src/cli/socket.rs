//! The client of the admin socket: sends one request after another to the server that runs on the data directory.
//!
//! Guarantees: a truncated response is an error. All requests of a command go over one connection, so that one process answers them all.
//!
//! Why not `reqwest`: it adds 0.58 MB to a program that has hyper's client already.

use std::{
    fs::{self, File},
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
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
    ///
    /// # Errors
    /// If this user may not know.
    pub(super) async fn connect(config: &Config) -> anyhow::Result<Option<Self>> {
        let socket = config.data_dir.join(ADMIN_SOCKET);
        let stream = match UnixStream::connect(&socket).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(error).with_context(|| format!("cannot connect to {}", socket.display()));
            }
            Err(_) => return Ok(None),
        };
        let Ok((server, connection)) = http1::handshake(TokioIo::new(stream)).await else { return Ok(None) };
        tokio::spawn(connection);
        Ok(Some(Self(server)))
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

/// Returns the data directories on which servers run on this machine, as the system tells everybody. Empty where the system does not.
pub(super) fn data_dirs_of_servers() -> Vec<PathBuf> {
    // The path of a socket stands there as it was bound, and our sockets get their name afterwards (`AdminSocket::bind`).
    let bound = Path::new(ADMIN_SOCKET).with_extension("sock.new");
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let paths = sockets.lines().filter_map(|line| Some(Path::new(&line[line.find(" /")? + 1..])));
    let mut found: Vec<PathBuf> =
        paths.filter(|path| path.ends_with(&bound)).filter_map(|path| Some(path.parent()?.to_owned())).collect();
    found.sort();
    found.dedup();
    found
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

    /// A JSON text, or another body that the operator's routes take.
    pub(super) fn json(bytes: Vec<u8>) -> Self {
        let left = bytes.len() as u64;
        Self { source: Box::new(Cursor::new(bytes)), left, content_type: Some("application/json") }
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
