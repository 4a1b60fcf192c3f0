//! The transport: connections in, bytes out. hyper below, poem above.
//!
//! Guarantees: a client that sends its header slowly, or nothing, is cut off; running out of file descriptors costs a pause
//! and not a busy loop; at the end what is in flight is finished, for a bounded time. HTTP/1.1 alone: whoever wants HTTP/2
//! has a proxy in front.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use poem::{
    Addr, Endpoint, Request, Response,
    http::{HeaderValue, StatusCode, header, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use tokio::net::{TcpListener, TcpStream};

use super::linger::Lingering;

/// How long a client may take to send the header of a request, and how long it may stay connected without one.
const HEADER_READ_MAX: Duration = Duration::from_secs(30);
/// How much of a header hyper buffers before it answers by itself. The frame's limits are smaller and have our error shape.
const HEADER_BUFFER_BYTES_MAX: usize = 256 * 1024;
const HEADERS_MAX: usize = 512;
/// The answers that may be sent before the body of their request was read to its end.
const MAY_LEAVE_BODY: [StatusCode; 3] =
    [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::URI_TOO_LONG, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
/// How long to wait before accepting again when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `endpoint` until `stop` resolves, then lets what is in flight finish for at most `drain`.
///
/// Returns whether everything in flight was finished.
pub async fn serve(
    listener: TcpListener,
    endpoint: impl Endpoint<Output = Response> + 'static,
    stop: impl Future<Output = ()>,
    drain: Duration,
) -> bool {
    let endpoint = Arc::new(endpoint);
    let graceful = GracefulShutdown::new();
    let stopping = Arc::new(AtomicBool::new(false));
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
        let connection = connection(stream, peer, Arc::clone(&endpoint), Arc::clone(&stopping));
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = watched.await {
                tracing::debug!(%peer, %error, "the connection ended early");
            }
        });
    }
    drop(listener);
    stopping.store(true, Ordering::Relaxed);
    tokio::time::timeout(drain, graceful.shutdown()).await.is_ok()
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    endpoint: Arc<impl Endpoint<Output = Response> + 'static>,
    stopping: Arc<AtomicBool>,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> {
    // Without it the last packet of an answer may wait for the acknowledgement of the one before.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().unwrap_or(peer);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let endpoint = Arc::clone(&endpoint);
        let (local, remote) = (LocalAddr(Addr::SocketAddr(local)), RemoteAddr(Addr::SocketAddr(peer)));
        async move {
            let has_body = !request.body().is_end_stream();
            let request = Request::from((request, local, remote, Scheme::HTTP));
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
        .serve_connection(TokioIo::new(Lingering::new(stream, stopping)), service)
}
