//! `latchkey user`: manages users, beside a running server or without one.
//!
//! Guarantees: a user is named by email, in any letter case, or by public id. The result is one line, or JSON with `--json`.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{client::Client, password::PasswordSource, usage_error::UsageError, user_list::UserList};
use crate::{
    config::Config,
    http::operator::user_list,
    model::{Email, PublicId, UserFilter},
};

/// What to do with users.
#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Make a user; asks for the password unless told where to get it
    Add(Add),
    /// List the users in order of registration
    List(UserList),
    /// Show a user
    Show(UserArgument),
    /// Keep a user out and end all sessions of that user
    Disable(UserArgument),
    /// Let a disabled user in again
    Enable(UserArgument),
    /// Make a user an administrator
    Promote(UserArgument),
    /// Take the administrator's rights away
    Demote(UserArgument),
    /// Give a user a new password and end all sessions of that user
    SetPassword(SetPassword),
    /// End all sessions of a user
    EndSessions(UserArgument),
    /// Delete a user; widgets of the user stay, without an owner
    Remove(UserArgument),
}

/// Who, and where the password comes from.
#[derive(Args)]
pub(super) struct Add {
    #[command(flatten)]
    one: UserArgument,

    /// Make the user an administrator
    #[arg(long)]
    admin: bool,

    #[command(flatten)]
    password: PasswordSource,
}

/// Who, and where the new password comes from.
#[derive(Args)]
pub(super) struct SetPassword {
    #[command(flatten)]
    one: UserArgument,

    #[command(flatten)]
    password: PasswordSource,
}

/// The user that a command acts on.
#[derive(Args)]
pub(super) struct UserArgument {
    /// The email the user logs in with; for a user who is there, also the public id
    #[arg(value_name = "EMAIL")]
    who: String,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `command` on the data that `config` names.
pub(super) fn run(command: UserCommand, config: &Config) -> anyhow::Result<()> {
    match command {
        UserCommand::Add(add) => add.run(config),
        UserCommand::List(list) => list.run(config),
        UserCommand::Show(one) => one.with(config, |_, _, user| Ok(user)),
        UserCommand::Disable(one) => one.change(config, "disabled", &json!({ "disabled": true })),
        UserCommand::Enable(one) => one.change(config, "enabled", &json!({ "disabled": false })),
        UserCommand::Promote(one) => one.change(config, "promoted", &json!({ "admin": true })),
        UserCommand::Demote(one) => one.change(config, "demoted", &json!({ "admin": false })),
        UserCommand::SetPassword(set) => set.run(config),
        UserCommand::EndSessions(one) => one.with(config, |client, id, user| {
            client.call("POST", &format!("/users/{id}/end-sessions"), None)?;
            Ok(said("ended all sessions of", user))
        }),
        UserCommand::Remove(one) => one.with(config, |client, id, user| {
            client.call("DELETE", &format!("/users/{id}"), None)?;
            Ok(said("removed", user))
        }),
    }
}

/// Adds to `user` what was done, which [`UserArgument::with`] prints.
fn said(done: &str, mut user: Value) -> Value {
    user["done"] = done.into();
    user
}

impl UserArgument {
    fn email(&self) -> anyhow::Result<Email> {
        Ok(Email::parse(&self.who).map_err(|error| UsageError(error.to_string()))?)
    }

    /// Finds the user by public id or email.
    fn find(&self, client: &mut Client) -> anyhow::Result<Value> {
        if let Some(id) = PublicId::parse(&self.who) {
            return client.call("GET", &format!("/users/{id}"), None);
        }
        let email = self.email()?;
        let query = user_list::query(&UserFilter { email_prefix: Some(email.to_string()), ..UserFilter::default() });
        // In the order of emails, the whole email comes before all that start with it.
        let page = client.call("GET", &format!("/users?per_page=5&{query}"), None)?;
        let user = &page["items"][0];
        let found = user["email"].as_str().and_then(|found| Email::parse(found).ok());
        if found.is_some_and(|found| found.key() == email.key()) {
            Ok(user.clone())
        } else {
            Err(anyhow!("there is no user {email}"))
        }
    }

    /// Fails if it is neither an email nor a public id.
    fn check(&self) -> anyhow::Result<()> {
        if PublicId::parse(&self.who).is_none() { self.email().map(drop) } else { Ok(()) }
    }

    fn with(
        self,
        config: &Config,
        act: impl FnOnce(&mut Client, &str, Value) -> anyhow::Result<Value>,
    ) -> anyhow::Result<()> {
        self.check()?;
        let mut client = Client::connect_existing(config)?;
        let user = self.find(&mut client)?;
        let id = user["public_id"].as_str().unwrap_or_default().to_owned();
        let user = act(&mut client, &id, user)?;
        client.close()?;
        self.print(&user);
        Ok(())
    }

    fn change(self, config: &Config, done: &str, change: &Value) -> anyhow::Result<()> {
        self.with(config, |client, id, _| Ok(said(done, client.call("PATCH", &format!("/users/{id}"), Some(change))?)))
    }

    fn print(&self, user: &Value) {
        let text = |name: &str| user[name].as_str().unwrap_or_default();
        if self.json {
            println!("{user}");
        } else if let Some(done) = user["done"].as_str() {
            println!("{done} {} ({})", text("email"), text("public_id"));
        } else {
            let yes = |name: &str| if user[name] == true { "yes" } else { "no" };
            println!("email       {}\npublic id   {}", text("email"), text("public_id"));
            println!("admin       {}\ndisabled    {}", yes("admin"), yes("disabled"));
            println!("registered  {}", text("registered_on_iso8601"));
            if let Some(format) = user["foreign_password_hash"].as_str() {
                println!("password    {format}, until the next login replaces it");
            }
        }
    }
}

impl Add {
    fn run(self, config: &Config) -> anyhow::Result<()> {
        let email = self.one.email()?;
        // This comes before the prompt for the password, because data that cannot be opened is the more common failure.
        let mut client = Client::connect(config)?;
        let password = self.password.read()?;
        let body = json!({ "email": email.as_str(), "password": password.as_str(), "admin": self.admin });
        let mut user = client.call("POST", "/users", Some(&body))?;
        client.close()?;
        if self.password.generate {
            user["password"] = password.as_str().into();
        }
        self.one.print(&said(if self.admin { "added administrator" } else { "added user" }, user));
        self.password.print(&password, self.one.json);
        Ok(())
    }
}

impl SetPassword {
    fn run(self, config: &Config) -> anyhow::Result<()> {
        self.one.check()?;
        let mut client = Client::connect_existing(config)?;
        let user = self.one.find(&mut client)?;
        let password = self.password.read()?;
        let path = format!("/users/{}", user["public_id"].as_str().unwrap_or_default());
        let mut user = client.call("PATCH", &path, Some(&json!({ "password": password.as_str() })))?;
        client.close()?;
        if self.password.generate {
            user["password"] = password.as_str().into();
        }
        self.one.print(&said("set the password of", user));
        self.password.print(&password, self.one.json);
        Ok(())
    }
}
