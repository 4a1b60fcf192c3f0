//! `latchkey config`: every setting, its value and where that came from.
//!
//! Guarantees: a value is the one in force, also where the program chooses it. A secret is never shown, only its source. The data is not opened.

use std::{any::TypeId, env, ffi::OsStr, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, CommandFactory, builder::ValueParser, parser::ValueSource};
use serde_json::{Value, json};

use super::{
    stdout::print,
    table::{Column, Fit, Table, terminal_width},
};
use crate::config::{self, Config, SECRET_VARIABLE};

const COLUMNS: [Column; 3] = [
    Column { head: "SETTING", fit: Fit::Whole },
    Column { head: "VALUE", fit: Fit::Shorten },
    Column { head: "FROM", fit: Fit::Whole },
];

/// A setting in force.
struct Setting {
    name: String,
    /// `null` if it is off.
    value: Value,
    source: String,
}

/// Prints every setting, its value and where that came from.
pub(super) fn config<C: CommandFactory>(config: &Config, matches: &ArgMatches, as_json: bool) -> anyhow::Result<()> {
    config.check()?;
    config.secret_key()?; // reports an unusable one
    config.tls()?; // likewise
    config.first_admin()?; // likewise
    let command = C::command();
    let settings = command.get_arguments().filter_map(|arg| setting(arg, config, matches));
    let mut settings: Vec<Setting> = settings.chain([secret_key_setting(config)]).collect();
    settings.sort_by(|one, other| one.name.cmp(&other.name));
    let lines: Vec<String> = if as_json {
        let line = |Setting { name, value, source }| {
            format!("{}\n", json!({ "setting": name, "value": value, "source": source }))
        };
        settings.into_iter().map(line).collect()
    } else {
        let rows: Vec<[String; 3]> =
            settings.into_iter().map(|setting| [setting.name, text(&setting.value), setting.source]).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let table = Table::new(&COLUMNS, &[width(0), width(1), width(2)], terminal_width());
        rows.iter().map(|row| table.lines_of(&row.each_ref().map(String::as_str))).collect()
    };
    print(lines.concat().as_bytes())
}

/// Returns the setting of an argument, or `None` if the argument is not a setting.
fn setting(arg: &Arg, config: &Config, matches: &ArgMatches) -> Option<Setting> {
    let (long, variable, id) = (arg.get_long()?, arg.get_env()?, arg.get_id().as_str());
    let given = matches.get_raw(id).into_iter().flatten().map(OsStr::to_string_lossy);
    let mut given = given.map(|text| to_json(arg.get_value_parser(), &text));
    let value = match (arg.get_action(), id) {
        (ArgAction::Append, _) => Value::Array(given.collect()),
        (_, "hash_threads") => json!(config.hash_threads()),
        (_, "log") => given.next().unwrap_or_else(|| json!("info")),
        _ => given.next().unwrap_or_default(),
    };
    let source = match matches.value_source(id) {
        Some(ValueSource::CommandLine) => format!("--{long}"),
        Some(ValueSource::EnvVariable) => variable.to_string_lossy().into_owned(),
        _ => "default".to_owned(),
    };
    Some(Setting { name: long.to_owned(), value, source })
}

fn secret_key_setting(config: &Config) -> Setting {
    let (value, source) = match (&config.tokens.secret_key_file, env::var_os(SECRET_VARIABLE)) {
        (None, None) => ("kept in the data directory", "default"),
        (Some(_), _) => ("(not shown)", "--secret-key-file"),
        (None, Some(_)) => ("(not shown)", SECRET_VARIABLE),
    };
    Setting { name: "secret-key".to_owned(), value: json!(value), source: source.to_owned() }
}

/// Returns a value that `parser` has accepted as JSON: a number, a Boolean or text.
fn to_json(parser: &ValueParser, text: &str) -> Value {
    let kind = parser.type_id();
    let text = if kind == TypeId::of::<PathBuf>() { text } else { config::trim_value(text) };
    let number = text.parse::<u64>().ok().filter(|_| kind == TypeId::of::<u16>() || kind == TypeId::of::<u32>());
    let flag = text.parse::<bool>().ok().filter(|_| kind == TypeId::of::<bool>());
    number.map(Value::from).or(flag.map(Value::from)).unwrap_or_else(|| json!(text))
}

/// Returns a value as the command line takes it, and `-` for one that is off or empty.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Array(values) if values.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
