//! [`StoreError`]: why the store could not do or answer something, whatever its engine.

use std::{error::Error, sync::Arc};

/// Why an operation of the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened, and why in plain words. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// The disk or the file failed; whether the last write happened is unknown.
    #[error(transparent)]
    Database(Arc<dyn Error + Send + Sync>),
    /// A record does not decode: the file was written by something else, or altered.
    #[error("a record in {table} does not decode: {cause}")]
    Record {
        /// The table it is in.
        table: &'static str,
        /// What the codec says.
        cause: String,
    },
    /// More writes wait than the queue holds.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The write ended without an acknowledgement: it panicked, the store is closing, or the file cannot be opened again after a disk error.
    #[error("the disk fails, or the store is closing")]
    GivenUp,
}
