//! The source of a command's password: a prompt without echo, stdin, or the operating system's random numbers.
//!
//! Guarantees: a password never comes from argv, where every user of the machine could read it. A generated password is printed once and
//! stored nowhere.

use std::io::{self, BufRead as _, IsTerminal as _};

use anyhow::{Context as _, bail};
use clap::Args;
use zeroize::Zeroizing;

use super::{stdout::remark, usage_error::UsageError};
use crate::{config::Config, random};

/// The source of the password. Without a flag the terminal asks for it.
#[derive(Args)]
pub(super) struct PasswordSource {
    /// Read the password from the first line of stdin
    #[arg(long, conflicts_with = "generate")]
    password_stdin: bool,

    /// Make up a password and print it, once
    #[arg(long)]
    pub(super) generate: bool,
}

impl PasswordSource {
    /// Reads the password from its source.
    pub(super) fn read(&self, config: &Config) -> anyhow::Result<Zeroizing<String>> {
        if self.generate {
            return Ok(generate());
        }
        if self.password_stdin {
            return first_line("the password");
        }
        if !io::stdin().is_terminal() {
            let text = "there is no terminal to ask for the password; use --password-stdin or --generate";
            return Err(UsageError(text.to_owned()).into());
        }
        let policy = config.password_policy();
        let common = if policy.allow_common { "" } else { ", and none of the most common ones" };
        remark(format_args!("A password has {} to {} characters{common}.", policy.chars_min, policy.chars_max));
        let ask = |prompt| match rpassword::prompt_password(prompt) {
            Ok(password) => Ok(Zeroizing::new(password)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => bail!("no password was given"), // Ctrl-D
            Err(error) => Err(error).context("cannot ask for the password"),
        };
        let (first, again) = (ask("Password: ")?, ask("Again: ")?);
        if first != again {
            bail!("the two passwords differ");
        }
        Ok(first)
    }
}

/// Reads the first line of stdin without its line end.
pub(super) fn first_line(what: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    io::stdin().lock().read_line(&mut line).with_context(|| format!("cannot read {what} from stdin"))?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    Ok(line)
}

/// Generates a password of 24 characters from an alphabet of 32 without lookalikes: 120 random bits.
fn generate() -> Zeroizing<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = Zeroizing::new(random::bytes::<24>());
    Zeroizing::new(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}
