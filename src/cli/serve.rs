//! `latchkey serve`: starts the server, prints its addresses, and stops it at SIGTERM or SIGINT.
//!
//! Guarantees: the listener is up when its address is printed.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::{log, runtime::runtime};
use crate::{clock::SystemClock, config::Config, server::Server};

/// Serves until it is told to stop.
pub(super) fn run(config: Config, program: &str) -> anyhow::Result<()> {
    let _log = log::start(&config, Targets::new().with_default(LevelFilter::INFO));
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        // A terminal that is closed, or a habit from servers that read their settings again, must not end it. There is nothing to
        // read again: to be listened for is all that it takes.
        let _hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let data_dir_flag = data_dir_flag(&config);
        let server = Server::bind(config, Arc::new(SystemClock)).await?;
        let address = server.address()?;
        println!(
            "latchkey {version} is ready\n\n  \
             Start page  {scheme}://{address}/\n  \
             Swagger UI  {scheme}://{address}/api/v1/ui\n  \
             Data        {data}\n\n  \
             To make an administrator, run in another terminal:\n    \
             {program} user add you@example.com --admin{data_dir_flag}\n",
            version = env!("CARGO_PKG_VERSION"),
            scheme = server.scheme(),
            data = server.data_dir().display(),
        );
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

/// What must be added to another command so that it finds the same data.
fn data_dir_flag(config: &Config) -> String {
    let path = config.data_dir.to_string_lossy();
    let plain = path.chars().all(|c| c.is_alphanumeric() || "/._-".contains(c));
    match (path.as_ref(), plain) {
        ("./latchkey-data", _) => String::new(),
        (path, true) => format!(" --data-dir {path}"),
        (path, false) => format!(" --data-dir '{}'", path.replace('\'', r"'\''")),
    }
}
