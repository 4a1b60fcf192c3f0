//! `latchkey health`: asks a server whether it is ready. For HEALTHCHECK and scripts.
//!
//! Guarantees: the check connects to the served address over TCP, so that an unreachable server is not ready. The server of the data
//! directory reports that address on its admin socket, because systemd may have passed another one than `--listen`. A data directory
//! without a running server is not ready, whoever else answers at the default address.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{
    runtime::runtime,
    socket::{AdminSocketClient, RequestBody},
    stdout::print_line,
};
use crate::{
    config::{self, Config, ListenAddress},
    http::{self, operator::transfer::OPERATOR_PATH_PREFIX},
    store::ADMIN_SOCKET,
};

/// The maximum time for each response of the server.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Which server.
#[derive(Args)]
#[expect(clippy::doc_markdown, reason = "these are the help texts, which a terminal shows as they are")]
pub(super) struct Health {
    /// Address or URL to ask, such as 127.0.0.1:5282 or https://localhost:5282; without it the server of the data directory
    #[arg(value_name = "ADDRESS")]
    target: Option<Target>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// An address to ask, with or without `http://` or `https://` in front.
#[derive(Clone)]
struct Target {
    address: ListenAddress,
    over_tls: Option<bool>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (over_tls, rest) = match text.split_once("://") {
            None => (None, text),
            Some(("http", rest)) => (Some(false), rest),
            Some(("https", rest)) => (Some(true), rest),
            Some(_) => return Err("the URL must begin with http:// or https://".to_owned()),
        };
        let host = rest.split('/').next().unwrap_or(rest);
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = match over_tls {
            Some(over_tls) if !has_port => format!("{host}:{}", if over_tls { 443 } else { 80 }).parse()?,
            _ => host.parse()?,
        };
        Ok(Self { address, over_tls })
    }
}

/// Which settings the command line or the environment has, other than by default.
pub(super) struct GivenSettings {
    /// `--listen`, on the command line.
    pub(super) listen_flag: bool,
    /// `--listen` or its variable.
    pub(super) listen: bool,
    /// `--data-dir` or its variable.
    pub(super) data_dir: bool,
}

/// The address of a server, and where it is known from.
struct ServerAddress {
    address: SocketAddr,
    over_tls: bool,
    source: &'static str,
}

impl Health {
    /// Prints `ready`, or fails with the reason.
    pub(super) fn run(&self, config: &Config, given: &GivenSettings) -> anyhow::Result<()> {
        let asked = runtime()?.block_on(async { ask_one_of(&self.servers(config, given).await?).await });
        match (&asked, self.json) {
            (Ok(()), true) => print_line(json!({ "ready": true })),
            (Ok(()), false) => print_line("ready"),
            (Err(error), json) => {
                if json {
                    print_line(json!({ "ready": false, "reason": format!("{error:#}") }))?;
                }
                asked.context("not ready")
            }
        }
    }

    /// Returns the server to ask. A name may have several addresses, of which the server need not listen on all.
    async fn servers(&self, config: &Config, given: &GivenSettings) -> anyhow::Result<Vec<ServerAddress>> {
        let configured_tls = config.tls_cert.is_some();
        let (address, over_tls, source) = match &self.target {
            Some(target) => (&target.address, target.over_tls.unwrap_or(configured_tls), "as given"),
            None if given.listen_flag && config.listen.port != 0 => (&config.listen, configured_tls, "--listen"),
            None => {
                let dir = config::absolute(&config.data_dir);
                let silent = || {
                    format!(
                        "no answer from {} within {} seconds",
                        dir.join(ADMIN_SOCKET).display(),
                        ANSWER_MAX.as_secs()
                    )
                };
                let reported = tokio::time::timeout(ANSWER_MAX, address_from_socket(config))
                    .await
                    .map_err(|_| anyhow!(silent()))??;
                match reported {
                    Some(server) => return Ok(vec![server]),
                    None if given.data_dir || !given.listen || dir.exists() => {
                        bail!(
                            "no server runs on {} (to ask an address, give it: latchkey health ADDRESS)",
                            dir.display()
                        )
                    }
                    None => (&config.listen, configured_tls, "--listen"),
                }
            }
        };
        ensure!(address.port != 0, "port 0 is no address to ask; give the one that the server took with --listen");
        let found = if address.is_every() {
            let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            loopback.map(|ip| SocketAddr::new(ip, address.port)).to_vec()
        } else {
            address.resolve().await.with_context(|| format!("cannot find {address}"))?
        };
        Ok(found.into_iter().map(|address| ServerAddress { address, over_tls, source }).collect())
    }
}

/// Returns the address that the server reports on its admin socket, or `None` if no server runs on the data directory.
async fn address_from_socket(config: &Config) -> anyhow::Result<Option<ServerAddress>> {
    let Some(mut server) = AdminSocketClient::connect(config).await? else { return Ok(None) };
    let path = format!("{OPERATOR_PATH_PREFIX}/address");
    let answer = server.ask("GET", &path, None, RequestBody::nothing()).await?.whole().await?;
    let parse = || {
        let (scheme, address) = std::str::from_utf8(&answer).ok()?.split_once("://")?;
        Some(ServerAddress {
            address: address.parse().ok()?,
            over_tls: scheme == "https",
            source: "where the server says it is",
        })
    };
    parse().map(Some).ok_or_else(|| anyhow!("the server runs another version of latchkey"))
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

/// Asks one server after the other until one is ready. Fails with the reason of the first.
async fn ask_one_of(servers: &[ServerAddress]) -> anyhow::Result<()> {
    let mut failed = None;
    for server in servers {
        match ask_in_time(server).await {
            Ok(()) => return Ok(()),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.context("there is no address to ask")?)
}

async fn ask_in_time(server: &ServerAddress) -> anyhow::Result<()> {
    let ServerAddress { address, over_tls, source } = *server;
    let address = reachable(address);
    match tokio::time::timeout(ANSWER_MAX, ask(address, over_tls)).await {
        Ok(Ok(StatusCode::OK)) => Ok(()),
        Ok(Ok(StatusCode::BAD_REQUEST)) if !over_tls => {
            bail!(
                "the server at {address} answers {}; if it speaks HTTPS, ask https://{address}",
                StatusCode::BAD_REQUEST
            )
        }
        Ok(Ok(status)) => bail!("the server at {address} answers {status}"),
        Ok(Err(error)) => Err(error.context(format!("no answer from {address} ({source})"))),
        Err(_) => bail!("no answer from {address} ({source}) within {} seconds", ANSWER_MAX.as_secs()),
    }
}

async fn ask(address: SocketAddr, over_tls: bool) -> anyhow::Result<StatusCode> {
    let stream = TcpStream::connect(address).await?;
    if over_tls {
        let stream = http::connect_tls_unverified(address.ip(), stream).await;
        ask_on(
            stream.with_context(|| format!("it does not speak TLS as we do; without TLS, ask http://{address}"))?,
            address,
        )
        .await
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
