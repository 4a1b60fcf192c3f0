//! The command line: parses arguments, runs the command, prints to the terminal.
//!
//! Guarantees: exit code 0 means done, 1 means failed, 2 means a wrong call or a wrong setting. Results go to stdout, everything else to
//! stderr. A password is never an argument.

mod backup;
mod check;
mod client;
mod documents;
mod health;
mod import;
mod log;
mod output_file;
mod password;
mod progress;
mod restore;
mod runtime;
mod serve;
mod service;
mod settings;
mod socket;
mod stdout;
mod table;
mod token;
mod transfer;
mod usage_error;
mod user;
mod user_list;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{
    Arg, ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::config::{self, Config, ConfigError};
use usage_error::UsageError;

/// The login server in one file: users, passwords, and JWTs that really die at logout.
///
/// Without a command it serves.
#[derive(Parser)]
#[command(name = "latchkey", version, max_term_width = 120, args_conflicts_with_subcommands = false)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    config: Config,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API and its pages (the default)
    Serve,
    /// Ask the running server whether it is ready
    Health(health::Health),
    /// Make and manage users
    #[command(subcommand)]
    User(user::UserCommand),
    /// Make and manage services: programs that ask about tokens
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Show the settings of a server started here, each with its source
    Config {
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Print the OpenAPI document as JSON
    Openapi,
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page, or write those of all commands
    Man {
        /// The directory to write to
        dir: Option<PathBuf>,
    },
    /// End tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Copy the database as of one moment
    Backup(backup::Backup),
    /// Say whether a database or a backup is sound
    Check(check::Check),
    /// Write all users as lines of JSON, with their password hashes
    Export(import::Export),
    /// Add users from lines of JSON, such as export writes
    Import(import::Import),
    /// Put a backup in the place of the database of a stopped server
    Restore(restore::Restore),
}

/// The help of the program, which fits on a screen of 24 lines.
const HELP: &str =
    "The login server in one file; `latchkey serve --help` lists its settings\n{usage-heading} {usage}\n{all-args}";

/// The command line. Every command takes every setting, and only the help of `serve` shows them all.
fn command() -> clap::Command {
    let command = config::without_empty_variables(Cli::command());
    let settings: Vec<Arg> = command.get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect();
    let quiet = |arg: Arg| {
        let shown = arg.get_env().is_none() || arg.get_id() == "data_dir";
        let arg = arg.hide(!shown).help_heading(None);
        let is_data_dir = arg.get_id() == "data_dir";
        if is_data_dir { arg.help("Directory of the data").long_help(None).hide_env(true) } else { arg }
    };
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).help("Print help").global(true);
    let long_help = Arg::new("help").short('h').long("help").action(ArgAction::Help).help("Print help");
    command.help_template(HELP).disable_help_flag(true).mut_args(quiet).arg(help).mut_subcommands(|command| {
        match command.get_name() {
            "serve" => command.args(&settings).arg(&long_help),
            "import" => command.args(settings.iter().cloned().map(quiet)).arg(&long_help), // it explains the systems
            _ => command.args(settings.iter().cloned().map(quiet)),
        }
    })
}

/// The command line as completions and man pages show it: each setting at `serve` alone, but for the data directory.
fn documented_command() -> clap::Command {
    let whole = Cli::command();
    let settings = whole.get_arguments().filter(|arg| arg.get_env().is_some()).cloned();
    let (data_dir, others): (Vec<Arg>, Vec<Arg>) = settings.partition(|arg| arg.get_id() == "data_dir");
    let command = clap::Command::new("latchkey").version(env!("CARGO_PKG_VERSION")).args(data_dir);
    let command = command
        .about(whole.get_about().cloned().unwrap_or_default())
        .long_about(whole.get_long_about().cloned().unwrap_or_default());
    Command::augment_subcommands(command).mut_subcommands(|command| {
        let is_serve = command.get_name() == "serve";
        if is_serve { command.args(others.iter().map(|arg| arg.clone().global(false))) } else { command }
    })
}

/// Runs the command that `args` name and returns the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let (cli, matches) = match parse(&args) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print(); // a failure of stderr cannot be reported
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let program = args.first().map_or_else(|| "latchkey".into(), |program| program.to_string_lossy().into_owned());
    let done =
        config::check_environment(&Cli::command()).map_err(Into::into).and_then(|left_alone| match cli.command {
            None | Some(Command::Serve) => serve::run(cli.config, &program, &left_alone),
            Some(Command::Health(health)) => {
                let source = |id| matches.value_source(id).filter(|source| *source != ValueSource::DefaultValue);
                let given = health::GivenSettings {
                    listen_flag: source("listen") == Some(ValueSource::CommandLine),
                    listen: source("listen").is_some(),
                    data_dir: source("data_dir").is_some(),
                };
                health.run(&cli.config, &given)
            }
            Some(Command::User(command)) => quietly(&cli.config, |config| user::run(command, config)),
            Some(Command::Service(command)) => quietly(&cli.config, |config| service::run(command, config)),
            Some(Command::Config { json }) => settings::config::<Cli>(&cli.config, &matches, json),
            Some(Command::Openapi) => documents::openapi(&cli.config),
            Some(Command::Completions { shell }) => documents::completions(documented_command(), shell),
            Some(Command::Man { dir }) => documents::man(documented_command(), dir.as_deref()),
            Some(Command::Token(command)) => quietly(&cli.config, |config| token::run(&command, config)),
            Some(Command::Backup(backup)) => quietly(&cli.config, |config| backup.run(config)),
            Some(Command::Check(check)) => quietly(&cli.config, |config| check.run(config)),
            Some(Command::Export(export)) => quietly(&cli.config, |config| export.run(config)),
            Some(Command::Import(import)) => quietly(&cli.config, |config| import.run(config)),
            Some(Command::Restore(restore)) => quietly(&cli.config, |config| restore.run(config)),
        });
    let Err(error) = done else { return ExitCode::SUCCESS };
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    stdout::remark(format_args!("error: {}", causes.join(": ")));
    if error.is::<ConfigError>() || error.is::<UsageError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn parse(args: &[OsString]) -> Result<(Cli, ArgMatches), clap::Error> {
    let matches = command().try_get_matches_from(args);
    let parsed = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    parsed.map_err(|error| name_the_variable(error, args))
}

/// Names the environment variable in an error about its value. clap names the flag instead.
fn name_the_variable(error: clap::Error, args: &[OsString]) -> clap::Error {
    let wrong_value = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
    let Some(ContextValue::String(culprit)) = error.get(ContextKind::InvalidArg).filter(|_| wrong_value) else {
        return error;
    };
    let flag = culprit.split([' ', '=']).next().unwrap_or_default().to_owned();
    if args.iter().any(|arg| arg.to_string_lossy().split('=').next() == Some(flag.as_str())) {
        return error;
    }
    let command = Cli::command();
    let variable = command
        .get_arguments()
        .find(|arg| arg.get_long().is_some_and(|long| flag.strip_prefix("--") == Some(long)))
        .and_then(|arg| arg.get_env().map(|name| name.to_string_lossy().into_owned()));
    match variable {
        None => error,
        Some(variable) => {
            let text = error.render().to_string();
            let text = text.trim_start_matches("error: ");
            clap::Error::raw(error.kind(), format!("in the variable {variable}: {text}"))
        }
    }
}

/// Runs a command that is not the server. It logs warnings and errors only, unless `--log` is set.
fn quietly(config: &Config, command: impl FnOnce(&Config) -> anyhow::Result<()>) -> anyhow::Result<()> {
    // The command prints the store's error itself, so that the store need not log it.
    let _log = log::start(
        config,
        Targets::new().with_default(LevelFilter::WARN).with_target("latchkey::store", LevelFilter::OFF),
    );
    command(config)
}
