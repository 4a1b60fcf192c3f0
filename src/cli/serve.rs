//! `latchkey serve`: starts the server, prints its addresses, and stops it at SIGTERM or SIGINT.
//!
//! Guarantees: the address is printed after it was bound.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{log, runtime::runtime, stdout::try_print};
use crate::{clock::SystemClock, config::Config, server::Server};

/// Serves until SIGTERM or SIGINT. `program` is the name that this program was called by.
pub(super) fn run(config: Config, program: &str, variables_left_alone: &[String]) -> anyhow::Result<()> {
    let _log = log::start(&config, Targets::new().with_default(LevelFilter::INFO));
    for variable in variables_left_alone {
        tracing::debug!(variable, "the variable describes a service or a container and is left alone");
    }
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        // SIGHUP, from a closed terminal or from an administrator used to servers that reload their settings, must not end the server.
        // Registering a handler is enough.
        let _hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let data_dir_flag = data_dir_flag(&config);
        let server = Server::bind(config, Arc::new(SystemClock)).await?;
        let address = server.address()?;
        let host =
            if address.ip().is_unspecified() { format!("localhost:{}", address.port()) } else { address.to_string() };
        let next_step = if server.has_administrator().await? {
            String::new()
        } else {
            format!(
                "  To make an administrator, run in another terminal:\n    \
                 {program} user add boss@example.com --admin{data_dir_flag}\n\n"
            )
        };
        let banner = format!(
            "latchkey {version} is ready\n\n  \
             Start page  {scheme}://{host}/\n  \
             Swagger UI  {scheme}://{host}/api/v1/ui\n  \
             Data        {data}\n\n{next_step}",
            version = env!("CARGO_PKG_VERSION"),
            scheme = server.scheme(),
            data = server.data_dir().display(),
        );
        if let Err(error) = try_print(banner.as_bytes()) {
            tracing::warn!(%error, "cannot print the addresses; the server runs");
        }
        tracing::info!(%address, "listening");
        if let Some(address) = server.metrics_address() {
            tracing::info!(%address, "metrics are served");
        }
        server
            .run(async move {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                tracing::info!(signal = name, "stopping");
            })
            .await?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Returns the flag that another command needs to find the same data, with a leading blank, or an empty text.
pub(super) fn data_dir_flag(config: &Config) -> String {
    let path = config.data_dir.to_string_lossy();
    let plain = path.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
    match (path.as_ref(), plain) {
        ("./latchkey-data", _) => String::new(),
        (path, true) => format!(" --data-dir {path}"),
        (path, false) => format!(" --data-dir '{}'", path.replace('\'', r"'\''")),
    }
}
