//! How a command calls the API: over the socket of a running server, or in process over the opened data.
//!
//! Guarantees: both ways run the same routes, so that a command behaves the same whether or not a server runs.

use std::sync::Arc;

use anyhow::{anyhow, bail};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{
    runtime::runtime,
    socket::{AdminSocketClient, RequestBody},
};
use crate::{
    clock::SystemClock,
    config::{self, Config},
    http::{self, Routes, operator},
    server::ApplicationState,
    store::DataDir,
};

/// Access to the API for a command.
pub(super) struct Client {
    runtime: Runtime,
    connection: Connection,
}

enum Connection {
    AdminSocketClient(AdminSocketClient),
    InProcess(Box<ApplicationState>, Routes),
}

/// Fails if there is no database: a typing error in the path must not look like an empty database.
pub(super) fn must_exist(config: &Config) -> anyhow::Result<()> {
    if !DataDir::has_database(&config.data_dir) {
        bail!("there is no latchkey database in {}", config::absolute(&config.data_dir).display());
    }
    Ok(())
}

impl Client {
    /// Connects to the server that runs on the data directory, or opens the data if none runs.
    pub(super) fn connect(config: &Config) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let connection = if let Some(server) = runtime.block_on(AdminSocketClient::connect(config)) {
            Connection::AdminSocketClient(server)
        } else {
            let state = ApplicationState::open(config, Arc::new(SystemClock))?;
            let routes = state.routes(config);
            Connection::InProcess(Box::new(state), routes)
        };
        Ok(Self { runtime, connection })
    }

    /// Like [`Client::connect`], but fails if there is no database.
    pub(super) fn connect_existing(config: &Config) -> anyhow::Result<Self> {
        must_exist(config)?;
        Self::connect(config)
    }

    /// Calls the API and returns the JSON of the response, `null` if it has none.
    ///
    /// # Errors
    /// The message of a response that is no success; other errors if there is no response.
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
        let path = format!("{}{path}", http::BASE_PATH);
        let body = body.map(Value::to_string);
        let (status, bytes) = match &mut self.connection {
            Connection::InProcess(_, routes) => {
                self.runtime.block_on(operator::call(&**routes, method, &path, bearer, body))
            }
            Connection::AdminSocketClient(server) => self.runtime.block_on(async {
                let body = body.map_or_else(RequestBody::nothing, RequestBody::json);
                let answer = server.ask(method, &path, bearer, body).await?;
                anyhow::Ok((answer.status, answer.whole().await?))
            })?,
        };
        let json = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
        if (200..300).contains(&status) { Ok(json) } else { Err(refused(&json)) }
    }

    /// Closes the connection or the data.
    pub(super) fn close(self) -> anyhow::Result<()> {
        match self.connection {
            Connection::InProcess(state, routes) => {
                drop(routes);
                drop(self.runtime); // and with it the tasks that still hold the store
                state.close()
            }
            Connection::AdminSocketClient(_) => Ok(()),
        }
    }
}

/// One line with the message of a response that is no success.
pub(super) fn refused(json: &Value) -> anyhow::Error {
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
    anyhow!(message)
}
