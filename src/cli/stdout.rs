//! Output of a command: results to stdout, remarks to stderr.
//!
//! Guarantees: nothing here panics, as `println!` does where the output is full or closed. A failure of stderr cannot be reported and is
//! ignored.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use anyhow::Context as _;

/// Prints `bytes` to stdout. A closed pipe, as after `| head`, is not a failure.
pub(super) fn print(bytes: &[u8]) -> anyhow::Result<()> {
    match try_print(bytes) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot print"),
    }
}

/// Prints a line to stdout, as [`print()`].
pub(super) fn print_line(line: impl Display) -> anyhow::Result<()> {
    print(format!("{line}\n").as_bytes())
}

/// Prints `bytes` to stdout. Fails where nobody reads them, so that what is printed once is not lost.
pub(super) fn try_print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// Prints a line to stderr.
pub(super) fn remark(line: impl Display) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
