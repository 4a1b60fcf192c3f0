//! The transport: connections in, bytes out. hyper below, poem above.
//!
//! Guarantees: a client that sends its header slowly, or nothing, is cut off; running out of file descriptors costs a pause
//! and not a busy loop; a handshake holds up nobody else; at the end what is in flight is finished, for a bounded time. HTTP/1.1 alone: whoever wants HTTP/2
//! has a proxy in front.

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulConnection, GracefulShutdown, Watcher},
};
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

/// Serves `endpoint` until `stop` resolves, then lets what is in flight finish for at most `drain`. With `tls` over TLS alone.
///
/// Returns whether everything in flight was finished.
pub async fn serve(
    listener: TcpListener,
    mut tls: Option<Tls>,
    endpoint: impl Endpoint<Output = Response> + 'static,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> bool {
    let endpoint = Arc::new(endpoint);
    let graceful = GracefulShutdown::new();
    let (stopping, stopped) = watch::channel(false);
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        // Without it the last packet of an answer may wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().unwrap_or(peer);
        let acceptor = tls.as_mut().map(Tls::acceptor);
        let scheme = if acceptor.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let context = Context { endpoint: Arc::clone(&endpoint), local, peer, scheme, stopped: stopped.clone() };
        tokio::spawn(converse(stream, acceptor, context, graceful.watcher()));
    }
    drop(listener);
    let _ = stopping.send(true);
    timeout(drain, graceful.shutdown()).await.is_ok()
}

/// What a connection needs to know.
struct Context<E> {
    endpoint: Arc<E>,
    local: SocketAddr,
    peer: SocketAddr,
    scheme: Scheme,
    stopped: watch::Receiver<bool>,
}

/// A connection from its beginning to its end.
async fn converse(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    context: Context<impl Endpoint<Output = Response> + 'static>,
    watcher: Watcher,
) {
    let peer = context.peer;
    let ended = if let Some(acceptor) = acceptor {
        let mut stopped = context.stopped.clone();
        let shaken = tokio::select! {
            shaken = timeout(HANDSHAKE_MAX, acceptor.accept(stream)) => shaken,
            _ = stopped.wait_for(|stopped| *stopped) => return, // nothing was asked yet
        };
        match shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => watcher.watch(connection(stream, context)).await,
            Err(error) => return tracing::debug!(%peer, %error, "the TLS handshake failed"),
        }
    } else {
        watcher.watch(connection(stream, context)).await
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "the connection ended early");
    }
}

fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    context: Context<impl Endpoint<Output = Response> + 'static>,
) -> impl GracefulConnection<Error = hyper::Error> {
    let Context { endpoint, local, peer, scheme, stopped } = context;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (endpoint, scheme) = (Arc::clone(&endpoint), scheme.clone());
        let (local, remote) = (LocalAddr(Addr::SocketAddr(local)), RemoteAddr(Addr::SocketAddr(peer)));
        async move {
            let has_body = !request.body().is_end_stream();
            let request = Request::from((request, local, remote, scheme));
            let mut response = endpoint.get_response(request).await;
            if has_body && MAY_LEAVE_BODY.contains(&response.status()) {
                // A client that is not told would send its next request on a connection that is about to close.
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(hyper::Response::from(response))
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_MAX)
        .max_buf_size(HEADER_BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(Lingering::new(stream, stopped)), service)
}
