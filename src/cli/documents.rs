//! `latchkey openapi`, `completions` and `man`: documents that follow from the program and its settings.
//!
//! Guarantees: the data is not opened.

use clap::CommandFactory;

use super::stdout::print;
use crate::config::{Config, Signup};

/// Prints the OpenAPI document that a server with these settings serves.
pub(super) fn openapi(config: &Config) -> anyhow::Result<()> {
    print(format!("{}\n", crate::http::document(config.signup == Signup::Open, &config.password_policy())).as_bytes())
}

/// Prints the completions for `shell`.
pub(super) fn completions<C: CommandFactory>(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut C::command(), "latchkey", &mut script);
    print(&script)
}

/// Prints the man page.
pub(super) fn man<C: CommandFactory>() -> anyhow::Result<()> {
    let mut page = Vec::new();
    clap_mangen::Man::new(C::command()).render(&mut page)?;
    print(&page)
}
