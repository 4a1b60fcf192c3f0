//! Output of a command to stdout.

use std::io::{self, Write as _};

use anyhow::Context as _;

/// Prints `bytes`. A closed pipe, as after `| head`, is not a failure.
pub(super) fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot print"),
    }
}
