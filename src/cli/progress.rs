//! Progress of long work: a bar on a terminal, nothing in a pipe.

use std::io::{self, IsTerminal as _, Write as _};

/// A progress bar in one line on stderr. It is redrawn in place and erased when dropped.
pub(super) struct ProgressBar {
    label: &'static str,
    terminal: bool,
    percent: Option<u64>,
}

impl ProgressBar {
    /// Creates a bar with this label.
    pub(super) fn new(label: &'static str) -> Self {
        Self { label, terminal: io::stderr().is_terminal(), percent: None }
    }

    /// Shows that `done` of `all` units are done.
    pub(super) fn show(&mut self, done: u64, all: u64) {
        const CELLS: usize = 30;
        let percent = (done.min(all) * 100).checked_div(all).unwrap_or(100);
        if self.terminal && self.percent != Some(percent) {
            self.percent = Some(percent);
            let full = CELLS * usize::try_from(percent).unwrap_or(100) / 100;
            let bar = "#".repeat(full) + &"-".repeat(CELLS - full);
            let _ = write!(io::stderr(), "\r{} [{bar}] {percent:3}%", self.label); // a failure of stderr does not matter
        }
    }
}

impl Drop for ProgressBar {
    fn drop(&mut self) {
        if self.percent.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
