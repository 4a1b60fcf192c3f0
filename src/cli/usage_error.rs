//! A wrong call that clap cannot see by itself.

/// The command was called wrongly. The program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);
