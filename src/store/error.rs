//! [`StoreError`]: why the store could not do or answer something, whatever its engine.

use std::{error::Error, sync::Arc};

/// Why an operation of the store failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened; nothing was changed. Has one sentence for the operator.
    #[error("{0}")]
    Refused(String),
    /// The disk or the file failed. Whether the last write was stored is unknown.
    #[error(transparent)]
    Database(Arc<dyn Error + Send + Sync>),
    /// A record cannot be decoded: another program wrote or altered it.
    #[error("a record in {table} does not decode: {cause}")]
    Record {
        /// The table of the record.
        table: &'static str,
        /// The error of the codec.
        cause: String,
    },
    /// The queue of writes is full.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The write ended without an acknowledgement: it panicked, the store is closing, or the file cannot be opened again after a disk
    /// error.
    #[error("the disk fails, or the store is closing")]
    GivenUp,
}
