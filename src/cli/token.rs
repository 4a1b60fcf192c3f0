//! `latchkey token`: revokes a leaked token.

use std::io::{self, IsTerminal as _};

use anyhow::ensure;
use clap::Subcommand;
use serde_json::json;

use super::{
    client::Client,
    password::first_line,
    stdout::{print_line, remark},
    usage_error::UsageError,
};
use crate::{auth::AuthError, config::Config};

/// What to do with tokens.
#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Kill a token, read from the first line of stdin, as logging out would
    Revoke {
        /// A token is no argument, where every user of the machine could read it
        #[arg(hide = true)]
        token: Option<String>,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `command` on the data that `config` names.
pub(super) fn run(command: &TokenCommand, config: &Config) -> anyhow::Result<()> {
    let TokenCommand::Revoke { token, json } = command;
    if token.is_some() {
        let text = "a token is read from stdin and is no argument, where every user of this machine can read it; revoke this one \
                    all the same";
        return Err(UsageError(text.to_owned()).into());
    }
    if io::stdin().is_terminal() {
        remark("Paste the token and press Enter.");
    }
    let line = first_line("the token")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let token = match words[..] {
        [scheme, token] if scheme.eq_ignore_ascii_case("bearer") => token,
        [scheme] if scheme.eq_ignore_ascii_case("bearer") => "",
        _ => line.trim(),
    };
    ensure!(!token.is_empty(), "no token was given");
    let mut client = Client::connect_with_keys(config)?;
    let revoked = client.call_with("POST", "/auth/logout", Some(token), None);
    client.close()?;
    let answer = match revoked {
        Err(error) if error.to_string() == AuthError::TokenBlacklisted.to_string() => {
            return if *json {
                print_line(json!({ "message": "already revoked" }))
            } else {
                print_line("already revoked")
            };
        }
        revoked => revoked?,
    };
    if *json { print_line(answer) } else { print_line("revoked") }
}
