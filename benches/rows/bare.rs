//! The baseline of P1: a server of hyper alone that sends the same bytes as `GET /auth/user`.
//!
//! It has the same runtime as the server, the same socket options, and its own process. hyper adds `Date` to the responses of both.

use std::{convert::Infallible, fs, path::Path, process::Command};

use anyhow::Context as _;
use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Incoming},
    header::{HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::{
    client::Answer,
    process::{Process, Server},
};

/// The argument that starts this program as the bare server.
pub(crate) const ARGUMENT: &str = "bare-server";

/// Starts the bare server with a response to repeat. The response is passed in a file in `dir`.
pub(crate) fn start(answer: &Answer, dir: &Path) -> anyhow::Result<Server> {
    let file = dir.join("bare-answer.json");
    let kept = |name: &str| !["date", "content-length"].contains(&name);
    let headers: Vec<_> = answer.headers.iter().filter(|(name, _)| kept(name)).collect();
    fs::write(&file, serde_json::to_vec(&(headers, String::from_utf8(answer.body.clone())?))?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(ARGUMENT).arg(&file);
    Server::of(Process::spawn(command)?, "listening on ")
}

/// Serves until it is killed.
pub(crate) fn run(file: &Path) -> anyhow::Result<()> {
    let (pairs, body): (Vec<(String, String)>, String) = serde_json::from_slice(&fs::read(file)?)?;
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let body = Bytes::from(body);
    // The runtime is the same as in `cli::runtime`.
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot listen")?;
        println!("listening on http://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            let _ = stream.set_nodelay(true);
            let (headers, body) = (headers.clone(), body.clone());
            tokio::spawn(async move {
                let service = service_fn(move |_: Request<Incoming>| {
                    let mut response = Response::new(Full::new(body.clone()));
                    response.headers_mut().clone_from(&headers);
                    async { Ok::<_, Infallible>(response) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    })
}
