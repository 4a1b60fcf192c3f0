//! The accept loop and the task of each connection. hyper reads and writes the bytes, poem answers the requests.
//!
//! Guarantees: connections are limited in number and time (`limits`). If file descriptors run out, the loop pauses and does not spin. A
//! TLS handshake delays no other connection. On shutdown the server answers every request that was sent before, for a bounded time,
//! even if it had not read the request yet. Only HTTP/1.1 is served; a proxy in front can offer HTTP/2.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use poem::{
    Addr, Endpoint, Request, Response,
    http::{HeaderValue, StatusCode, header, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::http::connection::{
    limits::{ConnectionLimiter, ConnectionLimits, ConnectionState, limit_unsent},
    tls::Tls,
    validated_stream::ValidatedStream,
};

/// How much of a header hyper buffers before it answers by itself. The middleware's limits are smaller and have our error shape.
const HEADER_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Statuses that may be sent before the whole request body was read.
const MAY_LEAVE_BODY: [StatusCode; 3] =
    [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::URI_TOO_LONG, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
/// How long to wait before accepting again when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The response to a connection above the limit.
const TOO_MANY: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nCache-Control: no-store\r\n",
    "X-Content-Type-Options: nosniff\r\nContent-Type: application/json\r\nContent-Length: 53\r\n\r\n",
    r#"{"status": "fail", "message": "Too many connections"}"#
);
/// The response to a request without TLS where TLS is spoken.
const NOT_TLS: &str = concat!(
    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nCache-Control: no-store\r\n",
    "X-Content-Type-Options: nosniff\r\nContent-Type: application/json\r\nContent-Length: 82\r\n\r\n",
    r#"{"status": "fail", "message": "This port speaks HTTPS: write https:// in the URL"}"#
);
/// How long a connection without a request stays open when the server stops: one may be on its way, or waits to be read.
const LAST_REQUEST_MAX: Duration = Duration::from_millis(250);
/// How many connections that nobody accepted yet are taken when the server stops: more than the system lets wait.
const BACKLOG_MAX: usize = 4096;

/// Serves `endpoint` on all `listeners` until `stop` resolves, then lets what is in flight finish for at most `drain`. With `tls` over TLS alone.
///
/// Returns whether everything in flight was finished.
pub async fn serve(
    listeners: Vec<TcpListener>,
    tls: Option<Tls>,
    endpoint: Arc<impl Endpoint<Output = Response> + 'static>,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> bool {
    let (stopping, stopped) = watch::channel(false);
    listeners.iter().for_each(limit_unsent);
    let limiter = ConnectionLimiter::new(limits);
    let sweep = tokio::spawn(Arc::clone(&limiter).sweep());
    let mut acceptor = Acceptor { tls, endpoint, limiter: Arc::clone(&limiter), stopped };
    let mut can_accept = true;
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listeners) => match accepted {
                Ok((stream, peer)) => {
                    can_accept = true;
                    acceptor.open(stream, peer);
                }
                Err(error) => {
                    if std::mem::replace(&mut can_accept, false) {
                        tracing::warn!(%error, "cannot accept a connection"); // once, and not ten times a second
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Closing a listener would refuse those who connected before.
    for listener in listeners.into_iter().filter_map(|listener| listener.into_std().ok()) {
        let waiting = std::iter::from_fn(|| listener.accept().ok()).take(BACKLOG_MAX);
        for (stream, peer) in waiting {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                acceptor.open(stream, peer);
            }
        }
    }
    drop(acceptor);
    limiter.stop();
    let _ = stopping.send(true);
    let finished = timeout(drain, stopping.closed()).await.is_ok(); // each connection holds a receiver to its end
    sweep.abort();
    finished
}

/// Accepts the next connection of any of the listeners.
async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|context| {
        let accepted = listeners.iter().map(|listener| listener.poll_accept(context)).find(Poll::is_ready);
        accepted.unwrap_or(Poll::Pending)
    })
    .await
}

/// The accept loop: accepts connections and starts a task for each.
struct Acceptor<E> {
    tls: Option<Tls>,
    endpoint: Arc<E>,
    limiter: Arc<ConnectionLimiter>,
    stopped: watch::Receiver<bool>,
}

impl<E: Endpoint<Output = Response> + 'static> Acceptor<E> {
    fn open(&mut self, stream: TcpStream, peer: SocketAddr) {
        let Some(connection_state) = self.limiter.enter(peer) else { return self.refuse(stream) };
        // Without it the last packet of an answer may wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(peer);
        let acceptor = self.tls.as_mut().map(Tls::acceptor);
        let scheme = if acceptor.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let watched = Arc::downgrade(&connection_state);
        let context = Context { endpoint: Arc::clone(&self.endpoint), local, peer, scheme, connection_state };
        let task = tokio::spawn(serve_connection(stream, acceptor, context, self.stopped.clone()));
        self.limiter.watch(watched, task.abort_handle());
    }

    /// Sends the 503 response if that does not block.
    fn refuse(&self, stream: TcpStream) {
        if self.tls.is_none()
            && let Ok(mut stream) = stream.into_std()
        {
            // What is unread when it closes would take the answer away again.
            let _ = stream.read(&mut [0; 8 * 1024]);
            let _ = stream.write(TOO_MANY.as_bytes());
        }
    }
}

/// What serves the requests of one connection, and what is known about it.
struct Context<E> {
    endpoint: Arc<E>,
    local: SocketAddr,
    peer: SocketAddr,
    scheme: Scheme,
    connection_state: Arc<ConnectionState>,
}

/// Serves one connection from the handshake to its close.
async fn serve_connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    context: Context<impl Endpoint<Output = Response> + 'static>,
    mut stopped: watch::Receiver<bool>,
) {
    let peer = context.peer;
    let ended = if let Some(acceptor) = acceptor {
        let last_chance = async {
            let _ = stopped.wait_for(|stopped| *stopped).await;
            tokio::time::sleep(LAST_REQUEST_MAX).await;
        };
        let shaken = tokio::select! {
            shaken = Box::pin(handshake(stream, &acceptor)) => shaken,
            () = last_chance => return, // nothing was asked yet
        };
        match shaken {
            Ok(stream) => Box::pin(connection(stream, context, stopped)).await,
            Err(error) => return tracing::debug!(%peer, %error, "the TLS handshake failed"),
        }
    } else {
        Box::pin(connection(stream, context, stopped)).await
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "the connection ended early");
    }
}

/// Does the TLS handshake. A client that speaks HTTP without TLS is told so.
async fn handshake(mut stream: TcpStream, acceptor: &TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    // A record of TLS never begins with a letter, and a request always does (RFC 8446 §5.1, RFC 9112 §3).
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_alphabetic() {
        // What is unread when it closes would take the answer away again.
        let _ = stream.read(&mut [0; 8 * 1024]).await?;
        stream.write_all(NOT_TLS.as_bytes()).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("the client speaks HTTP without TLS"));
    }
    acceptor.accept(stream).await
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    context: Context<impl Endpoint<Output = Response> + 'static>,
    mut stopped: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let connection_state = Arc::clone(&context.connection_state);
    let context = Arc::new(context);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let context = Arc::clone(&context);
        Box::pin(async move { Ok::<_, Infallible>(hyper::Response::from(answer(&context, request).await)) })
    });
    let connection = http1::Builder::new()
        .header_read_timeout(None) // the connection's state has one deadline for everything
        .max_buf_size(HEADER_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(ValidatedStream::new(stream, Arc::clone(&connection_state))), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    // hyper closes a connection at once on which no request was read, also where one has arrived.
    if !connection_state.is_busy()
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
    let connection_state = &context.connection_state;
    let (local, remote) = (LocalAddr(Addr::SocketAddr(context.local)), RemoteAddr(Addr::SocketAddr(context.peer)));
    let has_body = !request.body().is_end_stream();
    let refusal = connection_state.refusal();
    // Where a body ends that tells no length is hyper's knowledge alone, and then nothing more is taken from this client.
    let is_last = refusal.is_some() || has_body && request.headers().contains_key(header::TRANSFER_ENCODING);
    let mut request = Request::from((request, local, remote, context.scheme.clone()));
    if let Some(refusal) = refusal {
        request.extensions_mut().insert(refusal); // the middleware answers with it
    } else if has_body {
        connection_state.body_began();
        request.extensions_mut().insert(Arc::clone(connection_state));
    }
    let mut response = Endpoint::get_response(&*context.endpoint, request).await;
    connection_state.answered();
    if is_last || has_body && MAY_LEAVE_BODY.contains(&response.status()) || connection_state.is_last() {
        // A client that is not told would send its next request on a connection that is about to close.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
