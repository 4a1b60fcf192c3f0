//! The variables of the environment: which are settings, and which are left alone.
//!
//! Guarantees: a variable with our prefix that is no setting stops the start, because a typing error must not silently mean the default.
//! Only variables that Kubernetes and Docker set for a service or a container named after latchkey are left alone. An empty variable counts
//! as not given, because Compose passes `${X:-}` like that; an empty secret is an error of its own (`Config::secret_key`).

use std::{collections::HashSet, env, ffi::OsString};

use clap::{Command, builder::Resettable};

use super::values::ConfigError;

/// The variable that holds the signing secret itself. It has no flag.
pub const SECRET_VARIABLE: &str = "LATCHKEY_SECRET_KEY";
const PREFIX: &str = "LATCHKEY_";

/// Returns `command` without the variables that are empty.
#[must_use]
pub fn without_empty_variables(command: Command) -> Command {
    command.mut_args(|arg| {
        let is_empty = arg.get_env().and_then(env::var_os).is_some_and(|value| value.is_empty());
        if is_empty { arg.env(Resettable::Reset) } else { arg }
    })
}

/// Refuses variables with the prefix `LATCHKEY_` that are no settings of `command`. Returns the names of those that are left alone.
///
/// # Errors
/// [`ConfigError`] names the first of them.
pub fn check_environment(command: &Command) -> Result<Vec<String>, ConfigError> {
    let mut left_alone = Vec::new();
    let known: HashSet<OsString> =
        command.get_arguments().filter_map(|arg| arg.get_env().map(ToOwned::to_owned)).collect();
    for (name, value) in env::vars_os() {
        let text = name.to_string_lossy();
        let Some(rest) = text.strip_prefix(PREFIX) else { continue };
        if *name == *SECRET_VARIABLE || known.contains(&name) {
            continue;
        }
        if !is_of_a_service(rest, &value.to_string_lossy()) {
            return Err(ConfigError(format!(
                "{text} is not a setting of latchkey; `latchkey serve --help` lists them"
            )));
        }
        left_alone.push(text.into_owned());
    }
    Ok(left_alone)
}

/// Whether a variable, without our prefix, is one that Kubernetes sets for a service, or Docker for a linked container, whose name is
/// latchkey or begins with it: `…SERVICE_HOST`, `…SERVICE_PORT`, `…SERVICE_PORT_NAME`, `…PORT` with a URL, `…PORT_5282_TCP`,
/// `…PORT_5282_TCP_ADDR`, and with Docker `NAME` with a path and `ENV_…`.
fn is_of_a_service(name: &str, value: &str) -> bool {
    let of_service = |name: &str| {
        let is_port = |text: &str| text.parse::<u16>().is_ok();
        let is_url = |text: &str| {
            let url = text.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once(':')?.1)));
            url.is_some_and(|(scheme, port)| ["tcp", "udp", "sctp"].contains(&scheme) && is_port(port))
        };
        let is_of_port = |rest: &str| {
            let mut parts = rest.splitn(3, '_');
            let port = parts.next().is_some_and(is_port);
            let protocol = parts.next().is_some_and(|protocol| ["TCP", "UDP", "SCTP"].contains(&protocol));
            let what = parts.next().is_none_or(|what| ["ADDR", "PORT", "PROTO"].contains(&what));
            port && protocol && what
        };
        name == "SERVICE_HOST"
            || name == "SERVICE_PORT" && is_port(value)
            || name.starts_with("SERVICE_PORT_") && is_port(value)
            || name == "PORT" && is_url(value)
            || name.strip_prefix("PORT_").is_some_and(is_of_port)
    };
    // The name of the service may go on: `latchkey-metrics` gives LATCHKEY_METRICS_SERVICE_HOST.
    let ends = name.match_indices('_').map(|(underscore, _)| &name[underscore + 1..]);
    ends.chain([name]).any(of_service) || name == "NAME" && value.starts_with('/') || name.starts_with("ENV_")
}
