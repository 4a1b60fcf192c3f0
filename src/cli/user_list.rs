//! `latchkey user list`: all users as a table or as lines of JSON.
//!
//! Guarantees: users are printed while they are read, so that memory does not grow with their number and `| head` ends the command early.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;

use super::{
    client::Client,
    table::{Column, Fit, Table, terminal_width},
};
use crate::{config::Config, model::UserFilter};

/// Which users.
#[derive(Args)]
pub(super) struct UserList {
    /// Only users whose email begins with this, in the order of emails
    #[arg(long, value_name = "BEGINNING")]
    search: Option<String>,

    /// Only administrators
    #[arg(long)]
    admin: bool,

    /// Only disabled users
    #[arg(long)]
    disabled: bool,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

impl UserList {
    pub(super) fn run(self, config: &Config) -> anyhow::Result<()> {
        let mut client = Client::connect_existing(config)?;
        let filter = UserFilter {
            email_prefix: self.search,
            admin: self.admin.then_some(true),
            disabled: self.disabled.then_some(true),
        };
        let mut out = io::BufWriter::new(io::stdout().lock());
        let mut users = UserTable { table: None };
        let printed = client.for_each_user_lines(filter, |lines| {
            let printed = if self.json { out.write_all(lines) } else { users.print(&mut out, lines) };
            is_open(printed.and_then(|()| out.flush()))
        });
        printed?;
        client.close()?;
        if !self.json && users.table.is_none() {
            is_open(users.print(&mut out, b"").and_then(|()| out.flush()))?;
        }
        Ok(())
    }
}

/// Whether more can be printed. A closed pipe, as after `| head`, is not a failure.
fn is_open(printed: io::Result<()>) -> anyhow::Result<bool> {
    match printed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot print"),
    }
}

/// The number of characters of a moment, such as `2026-11-28T00:48:10Z`.
const MOMENT_CHARS: usize = 20;
/// The number of characters of a public id.
const PUBLIC_ID_CHARS: usize = 36;

/// A line of JSON.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    email: Cow<'a, str>,
    admin: bool,
    disabled: bool,
    registered_on_iso8601: &'a str,
    public_id: &'a str,
}

const COLUMNS: [Column; 5] = [
    Column { head: "EMAIL", fit: Fit::Shorten },
    Column { head: "ADMIN", fit: Fit::Whole },
    Column { head: "DISABLED", fit: Fit::Whole },
    Column { head: "REGISTERED", fit: Fit::Whole },
    Column { head: "PUBLIC ID", fit: Fit::LeaveOut },
];

struct UserTable {
    /// Laid out by the first users. `None` before the head of the table was printed.
    table: Option<Table>,
}

impl UserTable {
    fn print(&mut self, out: &mut impl Write, lines: &[u8]) -> io::Result<()> {
        let rows =
            lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice::<Row>);
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        let table = if let Some(table) = &self.table {
            table
        } else {
            let email = rows.iter().map(|row| row.email.chars().count()).max().unwrap_or(0);
            let table = Table::new(&COLUMNS, &[email, 0, 0, MOMENT_CHARS, PUBLIC_ID_CHARS], terminal_width());
            out.write_all(table.head().as_bytes())?;
            self.table.insert(table)
        };
        let yes = |flag| if flag { "yes" } else { "no" };
        for Row { email, admin, disabled, registered_on_iso8601, public_id } in rows {
            let cells = [&*email, yes(admin), yes(disabled), registered_on_iso8601, public_id];
            out.write_all(table.lines_of(&cells).as_bytes())?;
        }
        Ok(())
    }
}
