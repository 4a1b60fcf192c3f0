//! `latchkey health`: asks the server that runs with these settings whether it is ready. For HEALTHCHECK and scripts.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{bail, ensure};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::runtime;
use crate::{config::Config, http};

/// How long the server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Says `ready`, or fails with the reason.
pub(super) fn run(config: &Config, json: bool) -> anyhow::Result<()> {
    let address = reachable(config.listen);
    ensure!(address.port() != 0, "port 0 is no address to ask; give the one that the server took with --listen");
    let asking = async { tokio::time::timeout(ANSWER_MAX, ask(address, config.tls_cert.is_some())).await };
    match runtime()?.block_on(asking) {
        Ok(Ok(StatusCode::OK)) if json => println!("{}", serde_json::json!({ "ready": true })),
        Ok(Ok(StatusCode::OK)) => println!("ready"),
        Ok(Ok(status)) => bail!("not ready: the server at {address} answers {status}"),
        Ok(Err(error)) => return Err(error.context(format!("not ready: no answer from {address} (--listen)"))),
        Err(_) => bail!("not ready: no answer from {address} (--listen) within {} seconds", ANSWER_MAX.as_secs()),
    }
    Ok(())
}

/// Where a server that listens on `address` is reached from this machine.
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
        ask_on(http::shake_hands(address.ip(), stream).await?, address).await
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
    tokio::spawn(connection); // what is wrong with it, the request learns too
    Ok(sender.send_request(request).await?.status())
}
