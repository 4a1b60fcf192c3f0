//! How a command calls the API: over the socket of a running server, or in process over the opened data.
//!
//! Guarantees: both ways run the same routes, so that a command behaves the same whether or not a server runs.

use std::{pin::pin, sync::Arc};

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{
    runtime::runtime,
    socket::{AdminSocketClient, BROKE_OFF, RequestBody, data_dirs_of_servers},
};
use crate::{
    clock::SystemClock,
    config::{self, Config},
    http::{
        self,
        operator::{
            self,
            transfer::{OPERATOR_PATH_PREFIX, OperatorRoutes},
            user_list,
        },
    },
    model::UserFilter,
    server::{ApplicationState, SigningKeys},
    store::DataDir,
};

/// Access to the API for a command.
pub(super) struct Client {
    runtime: Runtime,
    connection: Connection,
}

enum Connection {
    Socket(AdminSocketClient),
    InProcess(Box<ApplicationState>, Box<OperatorRoutes>),
}

/// Whether a command that writes may make a database.
#[derive(Args)]
pub(super) struct InitFlag {
    /// Make the data directory and a database where there is none, as the first start of the server does
    #[arg(long)]
    init: bool,
}

impl InitFlag {
    /// Fails if there is no database and none may be made.
    pub(super) fn check(&self, config: &Config) -> anyhow::Result<()> {
        if self.init { Ok(()) } else { require_database(config, "give the server's --data-dir, or --init to make one") }
    }
}

/// Fails if there is no database: a typing error in the path must not look like an empty database.
pub(super) fn must_exist(config: &Config) -> anyhow::Result<()> {
    require_database(config, "give the server's --data-dir")
}

fn require_database(config: &Config, advice: &str) -> anyhow::Result<()> {
    let dir = config::absolute(&config.data_dir);
    let exists = DataDir::has_database(&dir);
    if exists.with_context(|| format!("cannot look into the data directory {}", dir.display()))? {
        return Ok(());
    }
    let servers: Vec<_> = data_dirs_of_servers().iter().map(|dir| dir.display().to_string()).collect();
    let elsewhere =
        if servers.is_empty() { String::new() } else { format!(" (a server runs on {})", servers.join(", ")) };
    bail!("there is no latchkey database in {}; {advice}{elsewhere}", dir.display());
}

impl Client {
    /// Connects to the server that runs on the data directory, or opens the data if none runs, or creates them if `make` allows it.
    pub(super) fn connect_or_make(make: &InitFlag, config: &Config) -> anyhow::Result<Self> {
        make.check(config)?;
        Self::connect(config, SigningKeys::NotNeeded)
    }

    fn connect(config: &Config, keys: SigningKeys) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let connection = if let Some(server) = runtime.block_on(AdminSocketClient::connect(config))? {
            Connection::Socket(server)
        } else {
            let state = runtime.block_on(ApplicationState::open(config, Arc::new(SystemClock), keys))?;
            let routes = state.routes(config);
            let routes = state.operator_routes(routes, String::new());
            Connection::InProcess(Box::new(state), Box::new(routes))
        };
        Ok(Self { runtime, connection })
    }

    /// Like [`Client::connect_or_make`], but fails if there is no database.
    pub(super) fn connect_existing(config: &Config) -> anyhow::Result<Self> {
        must_exist(config)?;
        Self::connect(config, SigningKeys::NotNeeded)
    }

    /// Like [`Client::connect_existing`], for a command that needs the signing keys. Without a running server it needs the server's secret.
    pub(super) fn connect_with_keys(config: &Config) -> anyhow::Result<Self> {
        must_exist(config)?;
        Self::connect(config, SigningKeys::Needed)
    }

    /// Calls the API and returns the JSON of the response, `null` if it has none.
    ///
    /// # Errors
    /// The message of a response that is no success; other errors if there is no response.
    pub(super) fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.call_with(method, path, None, body)
    }

    /// Like [`Client::call`], but calls what the operator alone may do, with a body that is not JSON.
    pub(super) fn call_as_operator(&mut self, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        self.send("POST", &format!("{OPERATOR_PATH_PREFIX}{path}"), None, Some(body))
    }

    /// Like [`Client::call`], with a token in the header.
    pub(super) fn call_with(
        &mut self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let body = body.map(|body| body.to_string().into_bytes());
        self.send(method, &format!("{}{path}", http::BASE_PATH), bearer, body)
    }

    fn send(&mut self, method: &str, path: &str, bearer: Option<&str>, body: Option<Vec<u8>>) -> anyhow::Result<Value> {
        let (status, bytes) = match &mut self.connection {
            Connection::InProcess(_, routes) => {
                self.runtime.block_on(operator::call(&**routes, method, path, bearer, body))
            }
            Connection::Socket(server) => self.runtime.block_on(async {
                let body = body.map_or_else(RequestBody::nothing, RequestBody::json);
                let answer = server.ask(method, path, bearer, body).await?;
                anyhow::Ok((answer.status, answer.whole().await?))
            })?,
        };
        let json = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes)? };
        if (200..300).contains(&status) { Ok(json) } else { Err(refused(&json)) }
    }

    /// Calls `each` with consecutive lines of JSON, one user per line, until all users that `filter` selects were passed or `each` returns
    /// false.
    pub(super) fn for_each_user_lines(
        &mut self,
        filter: UserFilter,
        mut each: impl FnMut(&[u8]) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            match &mut self.connection {
                Connection::InProcess(state, _) => {
                    let mut parts = pin!(user_list::lines(Arc::clone(&state.store), filter));
                    while let Some(part) = parts.next().await {
                        if !each(&part.context("cannot read the users")?)? {
                            break;
                        }
                    }
                }
                Connection::Socket(server) => {
                    let path = format!("{OPERATOR_PATH_PREFIX}/users?{}", user_list::query(&filter));
                    let mut answer = server.ask("GET", &path, None, RequestBody::nothing()).await?;
                    if answer.status != 200 {
                        return Err(refused(&serde_json::from_slice(&answer.whole().await?).unwrap_or_default()));
                    }
                    let mut lines = Vec::new();
                    while let Some(data) = answer.next().await? {
                        lines.extend_from_slice(&data);
                        let end = lines.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
                        if end > 0 && !each(&lines[..end])? {
                            return Ok(());
                        }
                        lines.drain(..end);
                    }
                    ensure!(lines.is_empty(), BROKE_OFF);
                }
            }
            Ok(())
        })
    }

    /// Closes the connection or the data.
    pub(super) fn close(self) -> anyhow::Result<()> {
        match self.connection {
            Connection::InProcess(state, routes) => {
                drop(routes);
                drop(self.runtime); // and with it the tasks that still hold the store
                state.close()
            }
            Connection::Socket(_) => Ok(()),
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
