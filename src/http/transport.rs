//! The transport: connections in, bytes out. hyper below, poem above.
//!
//! Guarantees: a client that sends its header slowly, or nothing, is cut off; running out of file descriptors costs a pause
//! and not a busy loop; a handshake holds up nobody else; at the end what was asked before is answered, for a bounded time, also where nobody
//! had read it yet. HTTP/1.1 alone: whoever wants HTTP/2 has a proxy in front.

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::{
    Addr, Endpoint, Request, Response,
    http::{HeaderValue, StatusCode, header, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{linger::Lingering, tls::Tls};

/// How long a client may take to send the header of a request, and how long it may stay connected without one.
const HEADER_READ_MAX: Duration = Duration::from_secs(30);
/// How long a client may take to agree on a key.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How much of a header hyper buffers before it answers by itself. The frame's limits are smaller and have our error shape.
const HEADER_BUFFER_BYTES_MAX: usize = 256 * 1024;
const HEADERS_MAX: usize = 512;
/// The answers that may be sent before the body of their request was read to its end.
const MAY_LEAVE_BODY: [StatusCode; 3] =
    [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::URI_TOO_LONG, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
/// How long to wait before accepting again when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection without a request stays open when the server stops: one may be on its way, or waits to be read.
const LAST_REQUEST_MAX: Duration = Duration::from_millis(250);
/// How many connections that nobody accepted yet are taken when the server stops: more than the system lets wait.
const BACKLOG_MAX: usize = 4096;

/// Serves `endpoint` until `stop` resolves, then lets what is in flight finish for at most `drain`. With `tls` over TLS alone.
///
/// Returns whether everything in flight was finished.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    endpoint: impl Endpoint<Output = Response> + 'static,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> bool {
    let (stopping, stopped) = watch::channel(false);
    let mut door = Door { tls, endpoint: Arc::new(endpoint), stopped };
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => door.open(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Closing the listener would refuse those who connected before.
    if let Ok(listener) = listener.into_std() {
        let waiting = std::iter::from_fn(|| listener.accept().ok()).take(BACKLOG_MAX);
        for (stream, peer) in waiting {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                door.open(stream, peer);
            }
        }
    }
    drop(door);
    let _ = stopping.send(true);
    timeout(drain, stopping.closed()).await.is_ok() // each connection holds a receiver to its end
}

/// What takes connections in.
struct Door<E> {
    tls: Option<Tls>,
    endpoint: Arc<E>,
    stopped: watch::Receiver<bool>,
}

impl<E: Endpoint<Output = Response> + 'static> Door<E> {
    fn open(&mut self, stream: TcpStream, peer: SocketAddr) {
        // Without it the last packet of an answer may wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(peer);
        let acceptor = self.tls.as_mut().map(Tls::acceptor);
        let scheme = if acceptor.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let context =
            Context { endpoint: Arc::clone(&self.endpoint), local, peer, scheme, busy: AtomicBool::new(false) };
        tokio::spawn(converse(stream, acceptor, context, self.stopped.clone()));
    }
}

/// What a connection needs to know.
struct Context<E> {
    endpoint: Arc<E>,
    local: SocketAddr,
    peer: SocketAddr,
    scheme: Scheme,
    /// Whether a request is being answered.
    busy: AtomicBool,
}

/// A connection from its beginning to its end.
async fn converse(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    context: Context<impl Endpoint<Output = Response> + 'static>,
    stopped: watch::Receiver<bool>,
) {
    let peer = context.peer;
    let ended = if let Some(acceptor) = acceptor {
        match timeout(HANDSHAKE_MAX, acceptor.accept(stream))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        {
            Ok(stream) => connection(stream, context, stopped).await,
            Err(error) => return tracing::debug!(%peer, %error, "the TLS handshake failed"),
        }
    } else {
        connection(stream, context, stopped).await
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "the connection ended early");
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    context: Context<impl Endpoint<Output = Response> + 'static>,
    mut stopped: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let context = Arc::new(context);
    let stopping = stopped.clone();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (context, stopping) = (Arc::clone(&context), stopping.clone());
        async move {
            context.busy.store(true, Relaxed);
            let mut response = answer(&context, request).await;
            context.busy.store(false, Relaxed);
            if *stopping.borrow() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(hyper::Response::from(response))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_MAX)
        .max_buf_size(HEADER_BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Lingering::new(stream, stopped.clone())), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    // hyper closes a connection at once on which no request was read, also where one has arrived.
    if !context.busy.load(Relaxed)
        && let Ok(ended) = timeout(LAST_REQUEST_MAX, &mut connection).await
    {
        return ended;
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

async fn answer(
    context: &Context<impl Endpoint<Output = Response> + 'static>,
    request: hyper::Request<Incoming>,
) -> Response {
    let (local, remote) = (LocalAddr(Addr::SocketAddr(context.local)), RemoteAddr(Addr::SocketAddr(context.peer)));
    let has_body = !request.body().is_end_stream();
    let request = Request::from((request, local, remote, context.scheme.clone()));
    let mut response = context.endpoint.get_response(request).await;
    if has_body && MAY_LEAVE_BODY.contains(&response.status()) {
        // A client that is not told would send its next request on a connection that is about to close.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
