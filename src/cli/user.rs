//! `latchkey user`: manages users, beside a running server or without one.
//!
//! Guarantees: a user is named by email, in any letter case, or by public id. The result is one line, or JSON with `--json`.

use std::env;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::{Client, InitFlag},
    password::PasswordSource,
    serve::data_dir_flag,
    stdout,
    usage_error::UsageError,
    user_list::UserList,
};
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
    make: InitFlag,

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
        UserCommand::Disable(one) => one.change(config, "disabled", "disabled", true),
        UserCommand::Enable(one) => one.change(config, "enabled", "disabled", false),
        UserCommand::Promote(one) => one.change(config, "promoted", "admin", true),
        UserCommand::Demote(one) => one.change(config, "demoted", "admin", false),
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

fn find_by_email(client: &mut Client, email: &Email) -> anyhow::Result<Option<Value>> {
    let query = user_list::query(&UserFilter { email_prefix: Some(email.to_string()), ..UserFilter::default() });
    // In the order of emails, the whole email comes before all that start with it.
    let page = client.call("GET", &format!("/users?per_page=5&{query}"), None)?;
    let user = &page["items"][0];
    let found = user["email"].as_str().and_then(|found| Email::parse(found).ok());
    Ok(found.is_some_and(|found| found.key() == email.key()).then(|| user.clone()))
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
        find_by_email(client, &email)?.ok_or_else(|| anyhow!("there is no user {email}"))
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
        stdout::print(self.text(&user).as_bytes())
    }

    /// Sets a flag of the user. Says so if it is set already.
    fn change(self, config: &Config, done: &str, flag: &str, value: bool) -> anyhow::Result<()> {
        self.with(config, |client, id, user| {
            if user[flag] == value {
                return Ok(said(&format!("was {done} already:"), user));
            }
            Ok(said(done, client.call("PATCH", &format!("/users/{id}"), Some(&json!({ flag: value })))?))
        })
    }

    /// Returns the lines about `user`, and about what was done.
    fn text(&self, user: &Value) -> String {
        let text = |name: &str| user[name].as_str().unwrap_or_default();
        if self.json {
            return format!("{user}\n");
        }
        let (email, id) = (text("email"), text("public_id"));
        if let Some(done) = user["done"].as_str() {
            let password = user["password"].as_str().map(|password| format!("password: {password}\n"));
            return format!("{done} {email} ({id})\n{}", password.unwrap_or_default());
        }
        let yes = |name: &str| if user[name] == true { "yes" } else { "no" };
        let (admin, disabled, registered) = (yes("admin"), yes("disabled"), text("registered_on_iso8601"));
        let foreign = user["foreign_password_hash"].as_str();
        let password = foreign.map(|format| format!("password    {format}, until the next login replaces it\n"));
        format!(
            "email       {email}\npublic id   {id}\nadmin       {admin}\ndisabled    {disabled}\nregistered  {registered}\n{}",
            password.unwrap_or_default()
        )
    }
}

impl Add {
    fn run(self, config: &Config) -> anyhow::Result<()> {
        let email = self.one.email()?;
        // This comes before the prompt for the password, because data that cannot be opened is the more common failure.
        let mut client = Client::connect_or_make(&self.make, config)?;
        if let Some(user) = find_by_email(&mut client, &email)? {
            let advice = match (self.admin, user["admin"] == true) {
                (true, true) => ", as an administrator".to_owned(),
                (true, false) => {
                    let program = env::args().next().unwrap_or_else(|| "latchkey".to_owned());
                    let flag = data_dir_flag(config);
                    format!("; to make that user an administrator: {program} user promote {email}{flag}")
                }
                (false, _) => String::new(),
            };
            bail!("{email} is already registered{advice}");
        }
        let password = self.password.read(config)?;
        let body = json!({ "email": email.as_str(), "password": password.as_str(), "admin": self.admin });
        let user = client.call("POST", "/users", Some(&body))?;
        let id = user["public_id"].as_str().unwrap_or_default().to_owned();
        let mut user = said(if self.admin { "added administrator" } else { "added user" }, user);
        if !self.password.generate {
            client.close()?;
            return stdout::print(self.one.text(&user).as_bytes());
        }
        user["password"] = password.as_str().into();
        // An account whose password nobody has seen is of no use, so it is taken back.
        let printed = stdout::try_print(self.one.text(&user).as_bytes()).or_else(|error| {
            client
                .call("DELETE", &format!("/users/{id}"), None)
                .context("cannot print the password, and cannot remove the user")?;
            Err(error).context("cannot print the password, so the user was not added")
        });
        printed.and(client.close())
    }
}

impl SetPassword {
    fn run(self, config: &Config) -> anyhow::Result<()> {
        self.one.check()?;
        let mut client = Client::connect_existing(config)?;
        let user = self.one.find(&mut client)?;
        let password = self.password.read(config)?;
        let path = format!("/users/{}", user["public_id"].as_str().unwrap_or_default());
        let change = json!({ "password": password.as_str() });
        if self.password.generate {
            // Nobody could log in with a password that was not printed, so it is printed before it is set.
            let mut said = said("set the password of", user);
            said.as_object_mut().map(|user| user.remove("foreign_password_hash")); // of the old password
            said["password"] = password.as_str().into();
            let printed = stdout::try_print(self.one.text(&said).as_bytes());
            printed.context("cannot print the password, so it was not set")?;
            client.call("PATCH", &path, Some(&change)).context("the password was not set")?;
            return client.close();
        }
        let user = client.call("PATCH", &path, Some(&change))?;
        client.close()?;
        stdout::print(self.one.text(&said("set the password of", user)).as_bytes())
    }
}
