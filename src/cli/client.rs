//! How a command reaches the data: over the socket of a running server, or by opening the data itself.
//!
//! Guarantees: both ways run the same routes, so that a command does the same whether a server runs or not, and the user
//! never has to know.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, bail};
use hyper::{
    Request,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, runtime::Runtime};

use super::runtime;
use crate::{
    clock::SystemClock,
    config::{self, Config},
    http::{self, Routes, operator},
    server::Core,
    store::{ADMIN_SOCKET, DataDir},
};

/// Reaches the data that a command is about.
pub(super) struct Client {
    runtime: Runtime,
    way: Way,
}

enum Way {
    Socket(SendRequest<String>),
    Here(Box<Core>, Routes),
}

/// An answer that is not one of success.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Refused {
    message: String,
}

impl Client {
    /// Connects to the server that runs on the data directory, or opens the data where none does.
    pub(super) fn connect(config: &Config) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let way = if let Some(server) = runtime.block_on(open(&config.data_dir.join(ADMIN_SOCKET))) {
            Way::Socket(server)
        } else {
            let core = Core::open(config, Arc::new(SystemClock))?;
            let routes = core.routes(config);
            Way::Here(Box::new(core), routes)
        };
        Ok(Self { runtime, way })
    }

    /// Like [`Client::connect`] for what makes no sense without data: a typing error in the path must not look like an empty
    /// database.
    pub(super) fn connect_existing(config: &Config) -> anyhow::Result<Self> {
        if !DataDir::has_database(&config.data_dir) {
            bail!("there is no latchkey database in {}", config::absolute(&config.data_dir).display());
        }
        Self::connect(config)
    }

    /// Calls the API: the JSON of the answer, `null` where it has none.
    ///
    /// # Errors
    /// [`Refused`] where the answer is not one of success; other errors where there is none.
    pub(super) fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.call_with(method, path, None, body)
    }

    /// Like [`Client::call`], with a token in the header.
    pub(super) fn call_with(
        &mut self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let path = format!("{}{path}", http::BASE);
        let body = body.map(Value::to_string);
        let (status, bytes) = match &mut self.way {
            Way::Here(_, routes) => self.runtime.block_on(operator::call(&**routes, method, &path, bearer, body)),
            Way::Socket(server) => self.runtime.block_on(ask(server, method, &path, bearer, body))?,
        };
        let json = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
        if (200..300).contains(&status) { Ok(json) } else { Err(refused(&json).into()) }
    }

    /// Closes what was opened.
    pub(super) fn close(self) -> anyhow::Result<()> {
        match self.way {
            Way::Here(core, routes) => {
                drop(routes);
                drop(self.runtime); // and with it whatever still held the store
                core.close()
            }
            Way::Socket(_) => Ok(()),
        }
    }
}

/// A connection to the server behind the socket; `None` where there is none.
async fn open(socket: &Path) -> Option<SendRequest<String>> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let (server, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(server)
}

async fn ask(
    server: &mut SendRequest<String>,
    method: &str,
    path: &str,
    bearer: Option<&str>,
    body: Option<String>,
) -> anyhow::Result<(u16, Vec<u8>)> {
    let mut request = Request::builder().method(method).uri(path).header("host", "admin.sock");
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    server.ready().await.context("the server has stopped")?;
    let response = server.send_request(request.body(body.unwrap_or_default())?).await;
    let response = response.context("the server did not answer")?;
    let status = response.status().as_u16();
    Ok((status, read(response.into_body()).await?))
}

async fn read(mut body: Incoming) -> anyhow::Result<Vec<u8>> {
    use hyper::body::Body as _;

    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        if let Some(data) = frame.context("the server broke off")?.data_ref() {
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes)
}

/// One line of what the answer says.
fn refused(json: &Value) -> Refused {
    let message = match json["errors"].as_object() {
        None => json["message"].as_str().unwrap_or("the server refused").to_owned(),
        Some(errors) => {
            let field = |(name, why): (&String, &Value)| {
                let why = why.as_str().unwrap_or_default();
                if name == "email" { why.to_owned() } else { format!("the {name} {why}") }
            };
            errors.iter().map(field).collect::<Vec<_>>().join("; ")
        }
    };
    Refused { message }
}
