//! The runtime that the asynchronous part of a command runs on.

use tokio::runtime::{Builder, Runtime};

/// The runtime that everything asynchronous runs on.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_multi_thread().enable_all().build()?)
}
