//! The settings of the limits on guessing, and which proxies are trusted to report a client's address.

use std::{str::FromStr as _, time::Duration};

use clap::Args;

use super::values::{duration, trimmed};
use crate::{
    auth::throttle::{GuessingLimits, Limit},
    http::TrustedProxy,
};

/// The settings against guessing.
#[derive(Debug, Clone, Args)]
pub struct Guessing {
    /// How many logins, other calls that check a password, and wrong secrets of services one address may send: 60/1m is 60 at once and 60
    /// more a minute; off for any number. An address of IPv6 is counted by its first 64 bits.
    #[arg(long, global = true, env = "LATCHKEY_LOGIN_LIMIT", help_heading = "Guessing", value_name = "LIMIT", default_value = "60/1m",
          value_parser = trimmed(limit))]
    pub login_limit: Limit,

    /// How many registrations one address may make, written like --login-limit.
    #[arg(long, global = true, env = "LATCHKEY_REGISTER_LIMIT", help_heading = "Guessing", value_name = "LIMIT", default_value = "60/1h",
          value_parser = trimmed(limit))]
    pub register_limit: Limit,

    /// How many wrong passwords for one account from one address cost no wait, and how long the wait grows, from 1s, doubled by each
    /// further one: 5/15m; off for no wait. The right password ends it, and it never keeps out who comes from another address.
    #[arg(long, global = true, env = "LATCHKEY_FAILURE_LIMIT", help_heading = "Guessing", value_name = "LIMIT", default_value = "5/15m",
          value_parser = trimmed(limit))]
    pub failure_limit: Limit,

    /// Address or network of a proxy in front, such as 10.0.0.0/8, whose X-Forwarded-For is believed. Without one, that header changes
    /// nothing. Can be repeated; in the variable, separate with commas.
    #[arg(
        long = "trusted-proxy",
        global = true,
        env = "LATCHKEY_TRUSTED_PROXY", help_heading = "Network",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = trimmed(TrustedProxy::from_str)
    )]
    pub trusted_proxies: Vec<TrustedProxy>,
}

impl Guessing {
    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> GuessingLimits {
        GuessingLimits { logins: self.login_limit, registrations: self.register_limit, failures: self.failure_limit }
    }
}

fn limit(text: &str) -> Result<Limit, String> {
    if text == "off" {
        return Ok(Limit::Off);
    }
    let (count, period) = text.split_once('/').ok_or("must be off or like 60/1m")?;
    let count = count.parse().ok().filter(|count| (1..=1_000_000).contains(count));
    let count = count.ok_or("must begin with a number from 1 to 1000000, such as 60/1m")?;
    let period = duration(period, Duration::from_secs(1), Duration::from_hours(24), "must end with 1s to 24h")?;
    Ok(Limit::Of { count, period })
}
