//! `latchkey health`: asks the server that runs with these settings whether it is ready. For HEALTHCHECK and scripts.
//!
//! Guarantees: the check connects to the served address over TCP, so that an unreachable server is not ready. The server reports that
//! address on its admin socket, because systemd may have passed another one than `--listen`.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    runtime::runtime,
    socket::{AdminSocketClient, RequestBody},
};
use crate::{
    config::Config,
    http::{self, operator::transfer::TRANSFER_PATH_PREFIX},
    store::ADMIN_SOCKET,
};

/// The maximum time for each response of the server.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// The address of a server, and where it is known from.
struct ServerAddress {
    address: SocketAddr,
    over_tls: bool,
    source: &'static str,
}

/// Prints `ready`, or fails with the reason. With `as_given`, the address is that of `--listen`, whatever the server reports.
pub(super) fn run(config: &Config, as_given: bool, json: bool) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let seconds = ANSWER_MAX.as_secs();
    let given = ServerAddress { address: config.listen, over_tls: config.tls_cert.is_some(), source: "--listen" };
    let ServerAddress { address, over_tls, source } = if as_given && given.address.port() != 0 {
        given
    } else {
        let told = runtime.block_on(async { tokio::time::timeout(ANSWER_MAX, told(config)).await });
        let silent = || {
            let socket = config.data_dir.join(ADMIN_SOCKET);
            format!("not ready: no answer from {} within {seconds} seconds", socket.display())
        };
        told.with_context(silent)?.unwrap_or(given)
    };
    let address = reachable(address);
    ensure!(address.port() != 0, "port 0 is no address to ask; give the one that the server took with --listen");
    match runtime.block_on(async { tokio::time::timeout(ANSWER_MAX, ask(address, over_tls)).await }) {
        Ok(Ok(StatusCode::OK)) if json => println!("{}", serde_json::json!({ "ready": true })),
        Ok(Ok(StatusCode::OK)) => println!("ready"),
        Ok(Ok(status)) => bail!("not ready: the server at {address} answers {status}"),
        Ok(Err(error)) => return Err(error.context(format!("not ready: no answer from {address} ({source})"))),
        Err(_) => bail!("not ready: no answer from {address} ({source}) within {seconds} seconds"),
    }
    Ok(())
}

/// Returns the address that the server reports on its admin socket, or `None` if there is none or it is not accessible.
async fn told(config: &Config) -> Option<ServerAddress> {
    let mut server = AdminSocketClient::connect(config).await?;
    let answer =
        server.ask("GET", &format!("{TRANSFER_PATH_PREFIX}/address"), None, RequestBody::nothing()).await.ok()?;
    let answer = answer.whole().await.ok()?;
    let (scheme, address) = std::str::from_utf8(&answer).ok()?.split_once("://")?;
    Some(ServerAddress {
        address: address.parse().ok()?,
        over_tls: scheme == "https",
        source: "where the server says it is",
    })
}

/// Returns the address by which this machine reaches a server that listens on `address`.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) };
        address.set_ip(loopback);
    }
    address
}

async fn ask(address: SocketAddr, over_tls: bool) -> anyhow::Result<StatusCode> {
    let stream = TcpStream::connect(address).await?;
    if over_tls {
        ask_on(http::connect_tls_unverified(address.ip(), stream).await?, address).await
    } else {
        ask_on(stream, address).await
    }
}

async fn ask_on(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
) -> anyhow::Result<StatusCode> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz").header(HOST, address.to_string()).body(String::new())?;
    tokio::spawn(connection); // the request reports a failure of the connection too
    Ok(sender.send_request(request).await?.status())
}
