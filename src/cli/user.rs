//! `latchkey user`: makes and lists users while the server is stopped.
//!
//! Guarantees: a password comes from a prompt without echo, from stdin or from the random numbers of the operating system,
//! never from argv; a generated one is printed once and kept nowhere.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::{runtime, start_log};
use crate::{
    auth::password::Password,
    clock::SystemClock,
    config::{self, Config},
    model::{Email, User},
    random,
    server::Core,
    store::DataDir,
};

/// What to do with users.
#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Make a user; asks for the password unless told where to get it
    Add(Add),
    /// List the users in order of registration
    List,
}

/// Who, and where the password comes from.
#[derive(Args)]
pub(super) struct Add {
    /// The email the user logs in with
    email: String,

    /// Make the user an administrator
    #[arg(long)]
    admin: bool,

    /// Read the password from the first line of stdin
    #[arg(long, conflicts_with = "generate")]
    password_stdin: bool,

    /// Make up a password and print it, once
    #[arg(long)]
    generate: bool,
}

/// The command was called wrongly. The program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(String);

/// Runs `command` on the data that `config` names.
pub(super) fn run(command: UserCommand, config: &Config) -> anyhow::Result<()> {
    start_log(config);
    match command {
        UserCommand::Add(add) => add.run(config),
        UserCommand::List => list(config),
    }
}

impl Add {
    fn run(self, config: &Config) -> anyhow::Result<()> {
        let email = Email::parse(&self.email).map_err(|error| UsageError(error.to_string()))?;
        // Before anyone types a password: a data directory in use is the more common reason to stop.
        let core = Core::open(config, Arc::new(SystemClock))?;
        let text = self.password()?;
        let password = Password::new(text.clone());
        core.auth.policy().check(&password, Some(&email)).map_err(|weak| anyhow::anyhow!("the password {weak}"))?;
        let user = runtime()?.block_on(core.auth.add_user(email, password, self.admin))?;
        core.close()?;
        let kind = if user.admin { "administrator" } else { "user" };
        println!("added {kind} {} ({})", user.email, user.public_id);
        if self.generate {
            println!("password: {}", text.as_str());
        }
        Ok(())
    }

    fn password(&self) -> anyhow::Result<Zeroizing<String>> {
        if self.generate {
            return Ok(generate());
        }
        if self.password_stdin {
            let mut line = Zeroizing::new(String::new());
            io::stdin().lock().read_line(&mut line).context("cannot read the password from stdin")?;
            let length = line.trim_end_matches(['\n', '\r']).len();
            line.truncate(length);
            return Ok(line);
        }
        if !io::stdin().is_terminal() {
            let text = "there is no terminal to ask for the password; use --password-stdin or --generate";
            return Err(UsageError(text.to_owned()).into());
        }
        let ask =
            |prompt| rpassword::prompt_password(prompt).map(Zeroizing::new).context("cannot ask for the password");
        let (first, again) = (ask("Password: ")?, ask("Again: ")?);
        if first != again {
            bail!("the two passwords differ");
        }
        Ok(first)
    }
}

/// 24 characters of 32 that nobody mistakes for another: 120 random bits.
fn generate() -> Zeroizing<String> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let bytes = Zeroizing::new(random::bytes::<24>());
    Zeroizing::new(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

fn list(config: &Config) -> anyhow::Result<()> {
    const CHUNK: usize = 1000;
    if !DataDir::has_database(&config.data_dir) {
        // A typing error in the path must not look like an empty database.
        bail!("there is no latchkey database in {}", config::absolute(&config.data_dir).display());
    }
    let core = Core::open(config, Arc::new(SystemClock))?;
    let mut users: Vec<User> = Vec::new();
    loop {
        let chunk = core.store.users_after(users.last().map(|user| user.public_id), CHUNK)?;
        let more = chunk.len() == CHUNK;
        users.extend(chunk);
        if !more {
            break;
        }
    }
    core.close()?;
    let width = users.iter().map(|user| user.email.as_str().chars().count()).max().unwrap_or(0).max("EMAIL".len());
    let mut out = io::stdout().lock();
    let mut print = || -> io::Result<()> {
        writeln!(out, "{:width$}  {:5}  {:8}  {:20}  PUBLIC ID", "EMAIL", "ADMIN", "DISABLED", "REGISTERED (UTC)")?;
        let yes = |is| if is { "yes" } else { "no" };
        for user in &users {
            let (date, time) = (user.registered_on.date(), user.registered_on.time());
            let registered = format!("{date} {:02}:{:02}:{:02}", time.hour(), time.minute(), time.second());
            let (admin, disabled) = (yes(user.admin), yes(user.disabled));
            writeln!(
                out,
                "{:width$}  {admin:5}  {disabled:8}  {registered:20}  {}",
                user.email.as_str(),
                user.public_id
            )?;
        }
        out.flush()
    };
    match print() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()), // `| head` has seen enough
        printed => printed.context("cannot print"),
    }
}
