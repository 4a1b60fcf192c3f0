//! `latchkey key`: looks after the keys that sign tokens, beside a running server or without one.
//!
//! Guarantees: no output has a private part or a secret. The result is one line or a table, or JSON with `--json`.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    str::FromStr as _,
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{Client, must_exist},
    password::first_line,
    runtime::runtime,
    socket::AdminSocketClient,
    stdout::{print, print_line, remark},
    table::{Column, Fit, Table, terminal_width},
    usage_error::UsageError,
};
use crate::{
    clock::SystemClock,
    config::{self, Config},
    model::SigningAlgorithm,
    server::reset_key_ring,
    store::read_secret,
};

/// What to do with signing keys.
#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// List the signing keys
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show a signing key and its public part
    Show(KeyArgument),
    /// Add a private key of yours, which signs after ten minutes
    Add {
        /// A private key as PEM: EC of the curve P-256, Ed25519, or RSA of at least 2048 bits
        file: PathBuf,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a new key, which signs after ten minutes; no session ends
    Rotate {
        /// How it signs: ES256, RS256, HS256 or Ed25519 (`EdDSA`); by default as --signing-algorithm says
        #[arg(long, value_name = "ALGORITHM", value_parser = SigningAlgorithm::from_str)]
        algorithm: Option<SigningAlgorithm>,

        /// Sign with it at once, because the key before has leaked; then remove that one
        #[arg(long)]
        now: bool,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take back a key that does not sign yet
    Retire(KeyArgument),
    /// Remove a key; every token that it signed is invalid at once
    Remove(KeyArgument),
    /// Encrypt the keys with another secret; the server needs it from its next start on
    Reseal {
        /// The new secret, at least 32 bytes
        file: PathBuf,
    },
    /// Begin a new key ring and end all sessions, where the secret is lost or the keys have leaked
    Reset {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// The key that a command acts on.
#[derive(Args)]
pub(super) struct KeyArgument {
    /// The id of the key, as `latchkey key list` shows it
    #[arg(allow_hyphen_values = true)] // base64url has a hyphen
    kid: String,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `command` on the data that `config` names.
pub(super) fn run(command: KeyCommand, config: &Config) -> anyhow::Result<()> {
    match command {
        KeyCommand::List { json } => list(config, json),
        KeyCommand::Show(one) => one.act(config, "GET", "", |key, _| describe(key)),
        KeyCommand::Add { file, json } => {
            let pem = read_secret(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let mut client = Client::connect_with_keys(config)?;
            let added = client.call_as_operator("/keys/add", pem.to_vec());
            let key = added.with_context(|| format!("cannot use {}", file.display()))?;
            client.close()?;
            if json { print_line(key) } else { print_line(format_args!("added {}", summary(&key))) }
        }
        KeyCommand::Rotate { algorithm, now, json } => {
            let mut client = Client::connect_with_keys(config)?;
            let body = json!({ "algorithm": algorithm.map(SigningAlgorithm::name), "now": now });
            let key = client.call("POST", "/keys/rotate", Some(&body))?;
            client.close()?;
            if json { print_line(key) } else { print_line(format_args!("made {}", summary(&key))) }
        }
        KeyCommand::Retire(one) => one.act(config, "POST", "/retire", |key, kid| {
            let already = key["state"] == "retired";
            if already { format!("{kid} is retired already\n") } else { format!("took back {kid}\n") }
        }),
        KeyCommand::Remove(one) => one.act(config, "DELETE", "", |_, kid| format!("removed {kid}\n")),
        KeyCommand::Reseal { file } => reseal(config, &file),
        KeyCommand::Reset { yes } => reset(config, yes),
    }
}

impl KeyArgument {
    fn act(
        self,
        config: &Config,
        method: &str,
        path: &str,
        text: impl FnOnce(&Value, &str) -> String,
    ) -> anyhow::Result<()> {
        // An id is base64url (RFC 4648 §5), so another text is none, and cannot be put into a path.
        let is_id =
            !self.kid.is_empty() && self.kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        ensure!(is_id, "There is no such key.");
        let mut client = Client::connect_with_keys(config)?;
        let key = client.call(method, &format!("/keys/{}{path}", self.kid), None)?;
        client.close()?;
        if !self.json {
            return print(text(&key, &self.kid).as_bytes());
        }
        print_line(if key.is_null() { json!({ "kid": self.kid }) } else { key })
    }
}

const COLUMNS: [Column; 5] = [
    Column { head: "ID", fit: Fit::Shorten },
    Column { head: "ALGORITHM", fit: Fit::Whole },
    Column { head: "STATE", fit: Fit::Whole },
    Column { head: "FROM", fit: Fit::Whole },
    Column { head: "UNTIL", fit: Fit::LeaveOut },
];

fn list(config: &Config, json: bool) -> anyhow::Result<()> {
    let mut client = Client::connect_with_keys(config)?;
    let answer = client.call("GET", "/keys", None)?;
    client.close()?;
    let keys = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if json {
        return keys.iter().try_for_each(print_line);
    }
    let rows: Vec<[&str; 5]> = keys.iter().map(cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let table = Table::new(&COLUMNS, &[0, 1, 2, 3, 4].map(width), terminal_width());
    let lines = rows.iter().map(|row| table.lines_of(row));
    print((table.head() + &lines.collect::<String>()).as_bytes())
}

/// Returns the cells of a key: its id, algorithm and state, since when or from when it has the state, and when it is removed.
fn cells(key: &Value) -> [&str; 5] {
    let text = |name: &str| key[name].as_str();
    let since = text("retired_at").or(text("signs_from")).unwrap_or("-");
    let cell = |name| text(name).unwrap_or("-");
    [cell("kid"), cell("algorithm"), cell("state"), since, cell("removed_at")]
}

/// Returns a key in one line.
fn summary(key: &Value) -> String {
    let [kid, algorithm, state, since, _] = cells(key);
    if state == "current" {
        format!("{kid} ({algorithm}), which signs now")
    } else {
        format!("{kid} ({algorithm}), which signs from {since}")
    }
}

fn describe(key: &Value) -> String {
    let names = ["kid", "algorithm", "state", "created_at", "signs_from", "retired_at", "removed_at"];
    let lines =
        names.iter().filter_map(|name| Some(format!("{:11} {}\n", name.replace('_', " "), key[*name].as_str()?)));
    let jwk = if key["jwk"].is_object() { format!("{:11} {}\n", "public key", key["jwk"]) } else { String::new() };
    lines.collect::<String>() + &jwk
}

fn reseal(config: &Config, file: &std::path::Path) -> anyhow::Result<()> {
    let secret = read_secret(file).with_context(|| format!("cannot read {}", file.display()))?;
    config::check_key_length(&secret, &file.display().to_string())?;
    let mut client = Client::connect_with_keys(config)?;
    client.call_as_operator("/keys/reseal", secret.to_vec())?;
    client.close()?;
    let file = config::absolute(file);
    print_line(format_args!(
        "the keys are encrypted with the secret in {0}; start the server with --secret-key-file {0}",
        file.display()
    ))
}

fn reset(config: &Config, yes: bool) -> anyhow::Result<()> {
    must_exist(config)?;
    remark(format_args!(
        "This begins a new key ring in {}: all sessions end, and every token is refused.",
        config::absolute(&config.data_dir).display()
    ));
    if !yes {
        if !io::stdin().is_terminal() {
            return Err(UsageError("give --yes to do this without being asked".to_owned()).into());
        }
        remark("Type yes and press Enter to go on.");
        ensure!(first_line("the answer")?.trim() == "yes", "nothing was changed");
    }
    let runtime = runtime()?;
    let running = runtime.block_on(AdminSocketClient::connect(config))?.is_some();
    if running {
        let mut client = Client::connect_with_keys(config)?;
        client.call_as_operator("/keys/reset", Vec::new())?;
        client.close()?;
    } else {
        runtime.block_on(reset_key_ring(config, Arc::new(SystemClock)))?;
    }
    print_line("began a new key ring; everybody has to log in again")
}
