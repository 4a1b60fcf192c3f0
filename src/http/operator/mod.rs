//! The admin socket: the same routes for the operator of this machine, over a Unix socket in the data directory. Without a running
//! server the command line calls them in process.
//!
//! Guarantees: the operating system identifies the peer, not the request. The peer must be the user the server runs as, or root. The
//! socket has mode 0600 from the moment it has its name. A socket left by a crash is replaced. A request over TCP is never the operator's.

mod keys;
pub mod transfer;
pub mod user_list;

use std::{
    convert::Infallible,
    fs::{self, Permissions},
    future::Future,
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use poem::{
    Endpoint, Request, Response,
    http::{Method, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    time::timeout,
};

use crate::{http::middleware::guard::OperatorRequest, store::give_path_to_owner_of};

/// How long to wait before accepting again when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound admin socket.
pub struct AdminSocket {
    listener: UnixListener,
    uid: u32,
}

impl AdminSocket {
    /// Binds `path`. The caller holds the lock of the data directory, so an existing socket there is a leftover and is replaced.
    ///
    /// # Errors
    /// If the operating system refuses it, as it does for a path of more than about 100 bytes.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let unfinished = path.with_extension("sock.new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&unfinished)?;
        fs::set_permissions(&unfinished, Permissions::from_mode(0o600))?;
        if let Some(dir) = path.parent() {
            give_path_to_owner_of(dir, &unfinished);
        }
        let uid = fs::metadata(&unfinished)?.uid();
        fs::rename(&unfinished, path)?; // I6; it replaces a leftover socket
        Ok(Self { listener, uid })
    }

    /// Serves `routes` until `stop` resolves, then lets what is in flight finish for at most `drain`.
    ///
    /// Returns whether everything in flight was finished.
    pub async fn serve(
        self,
        routes: Arc<impl Endpoint<Output = Response> + 'static>,
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) -> bool {
        let Self { listener, uid } = self;
        let (stopping, stopped) = watch::channel(());
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await; // no file descriptors are left: the pause keeps the loop from spinning
                continue;
            };
            match stream.peer_cred() {
                Ok(peer) if peer.uid() == uid || peer.uid() == 0 => {
                    tokio::spawn(serve_connection(stream, Arc::clone(&routes), stopped.clone()));
                }
                _ => tracing::warn!("refused a connection to the admin socket from another user"),
            }
        }
        drop((listener, stopped));
        let _ = stopping.send(());
        timeout(drain, stopping.closed()).await.is_ok() // each connection holds a receiver to its end
    }
}

async fn serve_connection(
    stream: UnixStream,
    routes: Arc<impl Endpoint<Output = Response> + 'static>,
    mut stopped: watch::Receiver<()>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let routes = Arc::clone(&routes);
        async move {
            let request = Request::from((request, LocalAddr::default(), RemoteAddr::default(), Scheme::HTTP));
            Ok::<_, Infallible>(hyper::Response::from(as_operator(&*routes, request).await))
        }
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "the admin connection ended early");
    }
}

async fn as_operator(routes: &impl Endpoint<Output = Response>, mut request: Request) -> Response {
    request.extensions_mut().insert(OperatorRequest);
    routes.get_response(request).await
}

/// Calls the routes as the operator in this process, without a socket.
///
/// Takes the method, the path with its query, and a body, which is JSON unless the operation says otherwise. Returns the status and the body of the response.
///
/// # Panics
/// If `method` or `path` is not valid in HTTP.
pub async fn call(
    routes: &impl Endpoint<Output = Response>,
    method: &str,
    path: &str,
    bearer: Option<&str>,
    body: Option<Vec<u8>>,
) -> (u16, Vec<u8>) {
    let method: Method = method.parse().expect("BUG: the command line names methods of HTTP");
    let mut request = Request::builder().method(method).uri_str(path);
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = match body {
        Some(body) => request.content_type("application/json").body(body),
        None => request.finish(),
    };
    let response = as_operator(routes, request).await;
    let status = response.status().as_u16();
    (status, response.into_body().into_vec().await.unwrap_or_default())
}
