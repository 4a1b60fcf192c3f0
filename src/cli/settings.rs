//! `latchkey config`: every setting, its value and where that came from.
//!
//! Guarantees: a secret is never shown, only its source. The data is not opened.

use std::{env, ffi::OsStr};

use clap::{ArgMatches, CommandFactory, parser::ValueSource};
use serde_json::json;

use super::stdout::print;
use crate::config::{Config, SECRET_VARIABLE};

/// Prints every setting, its value and where that came from.
pub(super) fn config<C: CommandFactory>(config: &Config, matches: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    config.check()?;
    config.secret_key()?; // reports an unusable one
    config.tls()?; // likewise
    config.first_admin()?; // likewise
    let mut rows = Vec::new();
    for arg in C::command().get_arguments() {
        let (Some(long), Some(variable)) = (arg.get_long(), arg.get_env()) else { continue };
        let id = arg.get_id().as_str();
        let raw = matches.get_raw(id).into_iter().flatten().map(OsStr::to_string_lossy);
        let value = raw.collect::<Vec<_>>().join(",");
        let value = if value.is_empty() { "-".to_owned() } else { value };
        let source = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => format!("--{long}"),
            Some(ValueSource::EnvVariable) => variable.to_string_lossy().into_owned(),
            _ => "default".to_owned(),
        };
        rows.push((long.to_owned(), value, source));
    }
    let secret = match (&config.secret_key_file, env::var_os(SECRET_VARIABLE)) {
        (None, None) => ("made at the first start, kept in the data directory", "default"),
        (Some(_), _) => ("(not shown)", "--secret-key-file"),
        (None, Some(_)) => ("(not shown)", SECRET_VARIABLE),
    };
    rows.push(("secret-key".to_owned(), secret.0.to_owned(), secret.1.to_owned()));
    rows.sort();
    let width = |of: fn(&(String, String, String)) -> &String| rows.iter().map(|row| of(row).chars().count()).max();
    let (names, values) = (width(|row| &row.0).unwrap_or(0), width(|row| &row.1).unwrap_or(0));
    let line = |(name, value, source): &(String, String, String)| {
        if as_json {
            format!("{}\n", json!({ "setting": name, "value": value, "source": source }))
        } else {
            format!("{name:names$}  {value:values$}  {source}\n")
        }
    };
    let text: Vec<String> = rows.iter().map(line).collect();
    print(text.concat().as_bytes())
}
