//! Every setting: its flag, its variable, its default, its unit and its check.
//!
//! Guarantees: an unusable value stops the start with an error that names the setting (`ConfigError`, exit code 2). So does a `LATCHKEY_`
//! variable that is no setting, because a typing error must not silently mean the default. A secret comes from a file or a variable and
//! never from argv, where every user of the machine can read it.
//!
//! Outside `cli`, only this folder uses clap, so that each setting is defined once.

mod address;
mod backups;
mod environment;
mod guessing;
mod tokens;
mod values;

use std::{
    env,
    num::NonZero,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
    str::FromStr as _,
    thread,
    time::Duration,
};

use clap::{Args, ValueEnum, builder::BoolValueParser};
use tracing_subscriber::filter::Targets;
use zeroize::Zeroizing;

use crate::{
    auth::{
        key_ring::KeyRingSettings,
        passwords::{
            policy::{Password, PasswordPolicy},
            scrypt_cost::ScryptCost,
        },
    },
    http::{ConnectionLimits, CorsOrigins, Tls, TlsError},
    model::Email,
    store::read_secret,
};

use values::trimmed;

pub use address::ListenAddress;
pub use backups::{BackupSchedule, BackupSettings};
pub use environment::{SECRET_VARIABLE, check_environment, without_empty_variables};
pub use guessing::Guessing;
pub use tokens::{KeyAgeMax, TokenArgs};
pub use values::{ConfigError, trim_value};

/// The shortest secret, in bytes: as long as the output of SHA-256 (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;

/// Every setting.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address and port to listen on, such as 127.0.0.1:5282 or localhost:5282; :5282 is every address, 5282 this machine alone. Port
    /// 0 takes a free one.
    #[arg(long, global = true, env = "LATCHKEY_LISTEN", help_heading = "Network", value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5282", value_parser = trimmed(ListenAddress::from_str))]
    pub listen: ListenAddress,

    /// Address and port to serve Prometheus metrics on, at /metrics. By default there are none. Whoever can reach it can read it.
    #[arg(long, global = true, env = "LATCHKEY_METRICS_LISTEN", help_heading = "Network", value_name = "ADDRESS:PORT", value_parser = trimmed(ListenAddress::from_str))]
    pub metrics_listen: Option<ListenAddress>,

    /// File with the certificate to speak TLS with, and behind it those that lead to its issuer, as PEM. Needs --tls-key. Both are
    /// read again when they change.
    #[arg(long, global = true, env = "LATCHKEY_TLS_CERT", help_heading = "Network", value_name = "FILE", value_parser = values::path())]
    pub tls_cert: Option<PathBuf>,

    /// File with the private key of the certificate, as PEM, not encrypted.
    #[arg(long, global = true, env = "LATCHKEY_TLS_KEY", help_heading = "Network", value_name = "FILE", value_parser = values::path())]
    pub tls_key: Option<PathBuf>,

    /// The most connections at the same time. Each takes 32 KiB of memory, and of the system's up to 400 KiB where the client does not
    /// take its answers.
    #[arg(long, global = true, env = "LATCHKEY_CONNECTIONS", help_heading = "Network", value_name = "CONNECTIONS", default_value_t = 3_000,
          value_parser = trimmed(clap::value_parser!(u32).range(1..=1_000_000)))]
    pub connections: u32,

    /// The most connections of one client at the same time: of an address of IPv4, of a /64 of IPv6. Trusted
    /// proxies are not limited.
    #[arg(long, global = true, env = "LATCHKEY_CONNECTIONS_PER_CLIENT", help_heading = "Network", value_name = "CONNECTIONS", default_value_t = 1_000,
          value_parser = trimmed(clap::value_parser!(u32).range(1..=1_000_000)))]
    pub connections_per_client: u32,

    /// How long a client may take to send the header of a request, and to connect with TLS.
    #[arg(long, global = true, env = "LATCHKEY_HEADER_TIMEOUT", help_heading = "Network", value_name = "DURATION", default_value = "10s",
          value_parser = trimmed(values::timeout))]
    pub header_timeout: Duration,

    /// How long a client may take to send the body of a request.
    #[arg(long, global = true, env = "LATCHKEY_BODY_TIMEOUT", help_heading = "Network", value_name = "DURATION", default_value = "30s",
          value_parser = trimmed(values::timeout))]
    pub body_timeout: Duration,

    /// How long a request may take from the end of its header until the client has taken the answer.
    #[arg(long, global = true, env = "LATCHKEY_REQUEST_TIMEOUT", help_heading = "Network", value_name = "DURATION", default_value = "1m",
          value_parser = trimmed(values::timeout))]
    pub request_timeout: Duration,

    /// How long a connection stays open between requests.
    #[arg(long, global = true, env = "LATCHKEY_IDLE_TIMEOUT", help_heading = "Network", value_name = "DURATION", default_value = "75s",
          value_parser = trimmed(values::timeout))]
    pub idle_timeout: Duration,

    /// Directory that holds the database and the signing key; the server makes it where it is missing.
    #[arg(long, global = true, env = "LATCHKEY_DATA_DIR", help_heading = "Data", value_name = "DIR", default_value = "./latchkey-data", value_parser = values::path())]
    pub data_dir: PathBuf,

    /// Tokens and their keys.
    #[command(flatten)]
    pub tokens: TokenArgs,

    /// Whether strangers may register.
    #[arg(long, global = true, env = "LATCHKEY_SIGNUP", help_heading = "Users and passwords", value_name = "WHO", default_value = "open", value_parser = trimmed(clap::value_parser!(Signup)))]
    pub signup: Signup,

    /// Email of an administrator who is made at the start where there is no such user; one that exists is never touched. Needs
    /// --admin-password-file.
    #[arg(long, global = true, env = "LATCHKEY_ADMIN_EMAIL", help_heading = "Users and passwords", value_name = "EMAIL", value_parser = trimmed(values::admin_email))]
    pub admin_email: Option<Email>,

    /// File with the password of that administrator; one line end behind it is not part of it.
    #[arg(long, global = true, env = "LATCHKEY_ADMIN_PASSWORD_FILE", help_heading = "Users and passwords", value_name = "FILE", value_parser = values::path())]
    pub admin_password_file: Option<PathBuf>,

    /// How often expired entries are purged from the blacklist, such as 30s or 10m.
    #[arg(long, global = true, env = "LATCHKEY_PURGE_INTERVAL", help_heading = "Data", value_name = "DURATION", default_value = "1m",
          value_parser = trimmed(values::purge_interval))]
    pub purge_interval: Duration,

    /// How much memory the database may take, in MiB; the operating system keeps the rest of the file as long as it has room.
    #[arg(long, global = true, env = "LATCHKEY_CACHE_MIB", help_heading = "Data", value_name = "MIB", default_value_t = 128,
          value_parser = trimmed(clap::value_parser!(u16).range(1..)))]
    pub cache_mib: u16,

    /// Cost of a password hash: log2 of N, r and p of scrypt. A hash takes 128 · 2^ln · r bytes of memory.
    #[arg(long, global = true, env = "LATCHKEY_SCRYPT", help_heading = "Users and passwords", value_name = "COST", default_value = "ln=15,r=8,p=3", value_parser = trimmed(ScryptCost::from_str))]
    pub scrypt: ScryptCost,

    /// How many passwords are hashed at the same time, each with the memory of a hash. By default as many as there are cores.
    #[arg(long, global = true, env = "LATCHKEY_HASH_THREADS", help_heading = "Users and passwords", value_name = "THREADS",
          value_parser = trimmed(clap::value_parser!(u16).range(1..=256)))]
    pub hash_threads: Option<u16>,

    /// The fewest characters of a new password.
    #[arg(long, global = true, env = "LATCHKEY_PASSWORD_MIN_LENGTH", help_heading = "Users and passwords", value_name = "CHARACTERS", default_value_t = 8,
          value_parser = trimmed(clap::value_parser!(u16).range(1..=1000)))]
    pub password_min_length: u16,

    /// The most characters of a new password.
    #[arg(long, global = true, env = "LATCHKEY_PASSWORD_MAX_LENGTH", help_heading = "Users and passwords", value_name = "CHARACTERS", default_value_t = 128,
          value_parser = trimmed(clap::value_parser!(u16).range(8..=1000)))]
    pub password_max_length: u16,

    /// Allow passwords that are among the most commonly used ones.
    #[arg(long, global = true, env = "LATCHKEY_ALLOW_COMMON_PASSWORDS", help_heading = "Users and passwords", value_parser = trimmed(BoolValueParser::new()))]
    pub allow_common_passwords: bool,

    /// Against guessing.
    #[command(flatten)]
    pub guessing: Guessing,

    /// The server makes backups by itself.
    #[command(flatten)]
    pub backups: BackupSettings,

    /// Origin of web pages that may call the API from a browser, such as `https://app.example.com`, or * for any. Can be repeated; in
    /// the variable, separate with commas.
    #[arg(long = "cors-origin", global = true, env = "LATCHKEY_CORS_ORIGIN", help_heading = "Network", value_name = "ORIGIN", default_value = "*",
          value_delimiter = ',', value_parser = trimmed(values::cors_origin))]
    pub cors_origins: Vec<String>,

    /// What is logged to stderr: off, error, warn, info, debug or trace; or by part, such as warn,latchkey=debug. By default the
    /// server logs info, every other command warn.
    #[arg(long, global = true, env = "LATCHKEY_LOG", help_heading = "Log", value_name = "FILTER",
          value_parser = trimmed(values::log_filter))]
    pub log: Option<Targets>,

    /// How a line of the log looks.
    #[arg(long, global = true, env = "LATCHKEY_LOG_FORMAT", help_heading = "Log", value_name = "FORMAT", default_value = "text", value_parser = trimmed(clap::value_parser!(LogFormat)))]
    pub log_format: LogFormat,
}

/// Whether strangers may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Signup {
    /// Whoever has an email may register.
    Open,
    /// Administrators make the users.
    Closed,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Checks settings that depend on each other.
    ///
    /// # Errors
    /// [`ConfigError`] names the settings that contradict each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (min, max) = (self.password_min_length, self.password_max_length);
        if min > max {
            let text = format!("--password-min-length {min} is more than --password-max-length {max}");
            return Err(ConfigError(text));
        }
        if self.tokens.secret_key_file.is_some() && env::var_os(SECRET_VARIABLE).is_some() {
            let is_empty = env::var_os(SECRET_VARIABLE).is_some_and(|secret| secret.is_empty());
            let note = if is_empty { " (an empty one)" } else { "" };
            return Err(ConfigError(format!("--secret-key-file and {SECRET_VARIABLE}{note} are both given; give one")));
        }
        if self.admin_email.is_some() != self.admin_password_file.is_some() {
            return Err(ConfigError("--admin-email and --admin-password-file go together; give both".to_owned()));
        }
        self.tokens.check().map_err(ConfigError)
    }

    /// Returns how the signing keys are chosen. `secret_is_given` says whether there is a secret of the operator's.
    #[must_use]
    pub fn key_ring(&self, secret_is_given: bool) -> KeyRingSettings {
        KeyRingSettings {
            algorithm: self.tokens.signing_algorithm,
            secret_is_given,
            rotation: self.tokens.key_rotation.0,
        }
    }

    /// Returns the email and password of the administrator who is created at the start, or `None` if none is configured.
    ///
    /// # Errors
    /// [`ConfigError`] if the password cannot be read, is not text, or does not meet the policy.
    pub fn first_admin(&self) -> Result<Option<(Email, Password)>, ConfigError> {
        let (Some(email), Some(path)) = (&self.admin_email, &self.admin_password_file) else { return Ok(None) };
        let wrong = |why: String| ConfigError(format!("--admin-password-file {}: {why}", path.display()));
        let bytes = read_secret(path).map_err(|error| wrong(error.to_string()))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("is not text".to_owned()))?;
        let password = Password::new(Zeroizing::new(text.to_owned()));
        let checked = self.password_policy().check(&password, Some(email));
        checked.map_err(|weak| wrong(format!("the password {weak}")))?;
        Ok(Some((email.clone(), password)))
    }

    /// Returns the configured signing secret, from the file or the variable, or `None` if neither is set.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read or is shorter than RFC 7518 §3.2 requires.
    pub fn secret_key(&self) -> Result<Option<Zeroizing<Vec<u8>>>, ConfigError> {
        let (secret, source) = if let Some(path) = &self.tokens.secret_key_file {
            let secret = read_secret(path)
                .map_err(|error| ConfigError(format!("--secret-key-file: cannot read {}: {error}", path.display())))?;
            (secret, format!("--secret-key-file {}", path.display()))
        } else if let Some(secret) = env::var_os(SECRET_VARIABLE) {
            (Zeroizing::new(secret.into_vec()), SECRET_VARIABLE.to_owned())
        } else {
            return Ok(None);
        };
        check_key_length(&secret, &source).map(|()| Some(secret))
    }

    /// Reads the certificate and its key. Returns `None` if neither is set.
    ///
    /// # Errors
    /// [`ConfigError`] if only one is set, or they are unusable.
    pub fn tls(&self) -> Result<Option<Tls>, ConfigError> {
        match (&self.tls_cert, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(_), None) => Err(ConfigError("--tls-cert needs --tls-key".to_owned())),
            (None, Some(_)) => Err(ConfigError("--tls-key needs --tls-cert".to_owned())),
            (Some(certificate), Some(key)) => Tls::read(certificate, key).map(Some).map_err(|error| {
                let settings = match error {
                    TlsError::Certificate(..) => "--tls-cert",
                    TlsError::Key(..) => "--tls-key",
                    TlsError::Pair(_) => "--tls-cert and --tls-key",
                };
                ConfigError(format!("{settings}: {error}"))
            }),
        }
    }

    /// Returns the requirements for new passwords.
    #[must_use]
    pub fn password_policy(&self) -> PasswordPolicy {
        PasswordPolicy {
            chars_min: self.password_min_length.into(),
            chars_max: self.password_max_length.into(),
            allow_common: self.allow_common_passwords,
        }
    }

    /// Returns how much memory the database may take, in bytes.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        usize::from(self.cache_mib) * 1024 * 1024
    }

    /// Returns the number of hashing threads.
    #[must_use]
    pub fn hash_threads(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        self.hash_threads.map_or_else(cores, usize::from)
    }

    /// Returns how long a request may wait for an event, so that it is answered before its connection is cut off.
    #[must_use]
    pub fn wait_max(&self) -> Duration {
        self.request_timeout.min(self.idle_timeout) * 9 / 10
    }

    /// Returns the limits on connections.
    #[must_use]
    pub fn limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            connections: self.connections as usize,
            per_client: self.connections_per_client as usize,
            trusted_proxies: self.guessing.trusted_proxies.clone(),
            header: self.header_timeout,
            body: self.body_timeout,
            request: self.request_timeout,
            idle: self.idle_timeout,
        }
    }

    /// Returns the origins whose web pages may call the API.
    #[must_use]
    pub fn cors(&self) -> CorsOrigins {
        if self.cors_origins.iter().any(|origin| origin == "*") {
            CorsOrigins::Any
        } else {
            CorsOrigins::Only(self.cors_origins.clone())
        }
    }
}

/// Checks that a signing key is long enough.
///
/// # Errors
/// [`ConfigError`] names `source` and both lengths.
pub fn check_key_length(key: &[u8], source: &str) -> Result<(), ConfigError> {
    if key.len() >= SECRET_BYTES_MIN {
        return Ok(());
    }
    let has = if key.is_empty() { "is empty".to_owned() } else { format!("has {} bytes", key.len()) };
    Err(ConfigError(format!(
        "{source} {has}; the secret must have at least {SECRET_BYTES_MIN} bytes (try: openssl rand -base64 32)"
    )))
}

/// Returns the absolute form of a path, for messages.
#[must_use]
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
