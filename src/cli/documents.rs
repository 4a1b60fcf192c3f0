//! `latchkey openapi`, `completions` and `man`: documents that follow from the program and its settings.
//!
//! Guarantees: the data is not opened.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::Path,
};

use anyhow::Context as _;
use clap::Command;

use super::stdout::{print, print_line, remark};
use crate::config::{Config, Signup};

/// Prints the OpenAPI document that a server with these settings serves.
pub(super) fn openapi(config: &Config) -> anyhow::Result<()> {
    print(format!("{}\n", crate::http::document(config.signup == Signup::Open, &config.password_policy())).as_bytes())
}

/// Prints the completions for `shell`.
pub(super) fn completions(mut command: Command, shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "latchkey", &mut script);
    print(&script)
}

/// Writes the man pages of all commands to `dir`, or prints the one of the program.
pub(super) fn man(command: Command, dir: Option<&Path>) -> anyhow::Result<()> {
    if let Some(dir) = dir {
        let cannot = || format!("cannot write to {}", dir.display());
        fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(command, dir)).with_context(cannot)?;
        let page = dir.join("latchkey.1");
        return print_line(format_args!("wrote the man pages to {} (man -l {})", dir.display(), page.display()));
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    if io::stdout().is_terminal() {
        remark(
            "This is the source of the page; latchkey man | man -l - shows it, and latchkey man DIR writes those of all commands.",
        );
    }
    print(&page)
}
