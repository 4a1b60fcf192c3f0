//! `latchkey service`: manages services, beside a running server or without one.
//!
//! Guarantees: a service is named by its name, in any letter case, or by its id. A secret is printed once. One that cannot be printed is
//! not made, or is replaced again. The result is lines, or JSON with `--json`.

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{Client, InitFlag},
    stdout,
    table::{Column, Fit, Table, terminal_width},
    usage_error::UsageError,
};
use crate::{
    auth::service_accounts::parse_keep_old,
    config::Config,
    model::{ServiceId, ServiceName},
};

/// What to do with services.
#[derive(Subcommand)]
pub(super) enum ServiceCommand {
    /// Make a service and print its id and its secret, once
    Add(Add),
    /// List the services in order of creation
    List {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show a service
    Show(ServiceArgument),
    /// Give a service a new secret and print it, once
    Rotate(Rotate),
    /// Refuse a service
    Disable(ServiceArgument),
    /// Let a disabled service in again
    Enable(ServiceArgument),
    /// Delete a service
    Remove(ServiceArgument),
}

/// The name of the new service.
#[derive(Args)]
pub(super) struct Add {
    /// 1 to 64 letters of ASCII, digits, dots, underscores and hyphens
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    make: InitFlag,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The service, and what happens to its secret.
#[derive(Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    one: ServiceArgument,

    /// How long the secret before stays valid, such as 90s, 15m, 24h or 7d; without it, it is refused at once
    #[arg(long, value_name = "DURATION", value_parser = keep_old)]
    keep_old: Option<String>,
}

/// The service that a command acts on.
#[derive(Args)]
pub(super) struct ServiceArgument {
    /// The name of the service, or its id
    #[arg(value_name = "NAME")]
    which: String,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `command` on the data that `config` names.
pub(super) fn run(command: ServiceCommand, config: &Config) -> anyhow::Result<()> {
    match command {
        ServiceCommand::Add(add) => add.run(config),
        ServiceCommand::List { json } => list(json, config),
        ServiceCommand::Show(one) => one.with(config, |_, _, service| Ok(service)),
        ServiceCommand::Rotate(rotate) => rotate.run(config),
        ServiceCommand::Disable(one) => one.set_disabled(config, "disabled", true),
        ServiceCommand::Enable(one) => one.set_disabled(config, "enabled", false),
        ServiceCommand::Remove(one) => one.with(config, |client, id, service| {
            client.call("DELETE", &format!("/services/{id}"), None)?;
            Ok(said("removed", service))
        }),
    }
}

/// Checks a duration and returns its text, which the server parses again.
fn keep_old(text: &str) -> Result<String, String> {
    parse_keep_old(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// Adds to `service` what was done, which [`text`] prints.
fn said(done: &str, mut service: Value) -> Value {
    service["done"] = done.into();
    service
}

/// Returns the lines about `service`, and about what was done.
fn text(service: &Value, json: bool) -> String {
    if json {
        return format!("{service}\n");
    }
    let text = |name: &str| service[name].as_str().unwrap_or_default();
    let (name, id) = (text("name"), text("id"));
    if let Some(done) = service["done"].as_str() {
        return format!("{done} {name} ({id})\n{}", secret_lines(service));
    }
    let disabled = if service["disabled"] == true { "yes" } else { "no" };
    let (created, rotated) = (text("created_at_iso8601"), text("rotated_at_iso8601"));
    let old = service["old_secret_valid_until_iso8601"].as_str();
    let old = old.map(|until| format!("old secret  valid until {until}\n")).unwrap_or_default();
    format!(
        "name        {name}\nid          {id}\ndisabled    {disabled}\ncreated     {created}\nrotated     {rotated}\n{old}"
    )
}

/// Returns the lines about a new secret, or nothing if there is none.
fn secret_lines(service: &Value) -> String {
    let secret = service["secret"].as_str().map(|secret| format!("secret: {secret}\n")).unwrap_or_default();
    let old = service["old_secret_valid_until_iso8601"].as_str().filter(|_| !secret.is_empty());
    secret + &old.map(|until| format!("the secret before is valid until {until}\n")).unwrap_or_default()
}

impl Add {
    fn run(self, config: &Config) -> anyhow::Result<()> {
        ServiceName::parse(&self.name).map_err(|error| UsageError(format!("the name {error}")))?;
        let mut client = Client::connect_or_make(&self.make, config)?;
        let service = client.call("POST", "/services", Some(&json!({ "name": self.name })))?;
        let id = service["id"].as_str().unwrap_or_default().to_owned();
        // A service whose secret nobody has seen is of no use, so it is taken back.
        let printed = stdout::try_print(text(&said("added service", service), self.json).as_bytes());
        let printed = printed.or_else(|error| {
            client
                .call("DELETE", &format!("/services/{id}"), None)
                .context("cannot print the secret, and cannot remove the service")?;
            Err(error).context("cannot print the secret, so the service was not added")
        });
        printed.and(client.close())
    }
}

impl Rotate {
    fn run(self, config: &Config) -> anyhow::Result<()> {
        let mut client = Client::connect_existing(config)?;
        let service = self.one.find(&mut client)?;
        let (id, name) = (service["id"].as_str().unwrap_or_default(), service["name"].as_str().unwrap_or_default());
        // Something is printed before, so that a secret is not replaced by one that cannot be printed. JSON may begin with a blank.
        let first = if self.one.json { " ".to_owned() } else { format!("service {name} ({id})\n") };
        stdout::try_print(first.as_bytes()).context("cannot print, so the secret was not replaced")?;
        let path = format!("/services/{id}/rotate");
        let rotated = client.call("POST", &path, Some(&json!({ "keep_old": self.keep_old })))?;
        let lines = if self.one.json { text(&said("rotated", rotated), true) } else { secret_lines(&rotated) };
        let printed = stdout::try_print(lines.as_bytes()).or_else(|error| {
            // Another rotation would end the secret before too, which the service still uses.
            if self.keep_old.is_none() {
                client
                    .call("POST", &path, None)
                    .context("cannot print the new secret, and cannot replace it; rotate again")?;
            }
            Err(error).context("cannot print the new secret; rotate again")
        });
        printed.and(client.close())
    }
}

impl ServiceArgument {
    /// Finds the service by name or id.
    fn find(&self, client: &mut Client) -> anyhow::Result<Value> {
        let mut services = client.call("GET", "/services", None)?;
        let is = |service: &Value, member: &str| {
            service[member].as_str().is_some_and(|text| text.eq_ignore_ascii_case(&self.which))
        };
        let items = services["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        let by_id = ServiceId::parse(&self.which).is_some() && !items.iter().any(|service| is(service, "name"));
        let found = items.into_iter().find(|service| is(service, if by_id { "id" } else { "name" }));
        found.ok_or_else(|| anyhow!("there is no service {}", self.which.escape_debug()))
    }

    fn with(
        self,
        config: &Config,
        act: impl FnOnce(&mut Client, &str, Value) -> anyhow::Result<Value>,
    ) -> anyhow::Result<()> {
        let mut client = Client::connect_existing(config)?;
        let service = self.find(&mut client)?;
        let id = service["id"].as_str().unwrap_or_default().to_owned();
        let service = act(&mut client, &id, service)?;
        client.close()?;
        stdout::print(text(&service, self.json).as_bytes())
    }

    /// Disables or enables the service. Says so if it is so already.
    fn set_disabled(self, config: &Config, done: &str, disabled: bool) -> anyhow::Result<()> {
        self.with(config, |client, id, service| {
            if service["disabled"] == disabled {
                return Ok(said(&format!("was {done} already:"), service));
            }
            let change = json!({ "disabled": disabled });
            Ok(said(done, client.call("PATCH", &format!("/services/{id}"), Some(&change))?))
        })
    }
}

const COLUMNS: [Column; 5] = [
    Column { head: "NAME", fit: Fit::Shorten },
    Column { head: "DISABLED", fit: Fit::Whole },
    Column { head: "CREATED", fit: Fit::Whole },
    Column { head: "ROTATED", fit: Fit::LeaveOut },
    Column { head: "ID", fit: Fit::LeaveOut },
];

fn list(json: bool, config: &Config) -> anyhow::Result<()> {
    let mut client = Client::connect_existing(config)?;
    let services = client.call("GET", "/services", None)?;
    client.close()?;
    let items = services["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if json {
        let lines: Vec<String> = items.iter().map(|service| text(service, true)).collect();
        return stdout::print(lines.concat().as_bytes());
    }
    let cells = |service: &'_ Value| {
        let text = |name: &str| service[name].as_str().unwrap_or_default().to_owned();
        let disabled = if service["disabled"] == true { "yes" } else { "no" };
        [text("name"), disabled.to_owned(), text("created_at_iso8601"), text("rotated_at_iso8601"), text("id")]
    };
    let rows: Vec<[String; 5]> = items.iter().map(cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let table = Table::new(&COLUMNS, &[0, 1, 2, 3, 4].map(width), terminal_width());
    let lines = rows.iter().map(|row| table.lines_of(&row.each_ref().map(String::as_str)));
    stdout::print((table.head() + &lines.collect::<String>()).as_bytes())
}
