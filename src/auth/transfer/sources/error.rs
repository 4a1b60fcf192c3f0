//! Why a file cannot be converted.

use std::io;

/// Why a file cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConversionError {
    /// The file is not what the source writes. Has the reason.
    #[error("{0}")]
    Format(String),
    /// The file cannot be read, or the result cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}
