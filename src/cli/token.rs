//! `latchkey token`: revokes a leaked token.

use clap::Subcommand;

use super::{client::Client, password::first_line};
use crate::config::Config;

/// What to do with tokens.
#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Kill a token, read from the first line of stdin, as logging out would
    Revoke {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `command` on the data that `config` names.
pub(super) fn run(command: &TokenCommand, config: &Config) -> anyhow::Result<()> {
    let TokenCommand::Revoke { json } = command;
    let token = first_line("the token")?;
    let mut client = Client::connect_existing(config)?;
    let answer = client.call_with("POST", "/auth/logout", Some(token.trim()), None)?;
    client.close()?;
    if *json {
        println!("{answer}");
    } else {
        println!("revoked");
    }
    Ok(())
}
