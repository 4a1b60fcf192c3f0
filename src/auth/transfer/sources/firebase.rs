//! Firebase Authentication: `firebase auth:export`, and the parameters of the project's password hashes.

use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    account::{Account, ConversionWriter, text},
    error::ConversionError,
    timestamp,
};

const SALT_SEPARATOR: &str = "base64_salt_separator";
/// The fields that are converted.
const USED: [&str; 5] = ["email", "passwordHash", "salt", "createdAt", "disabled"];

/// The parameters of a project's password hashes, as the console shows them under "Password hash parameters".
pub struct FirebaseHashConfig {
    signer_key: Zeroizing<String>,
    salt_separator: Zeroizing<String>,
    rounds: Zeroizing<String>,
    mem_cost: Zeroizing<String>,
}

impl FirebaseHashConfig {
    /// Parses `hash_config { algorithm: SCRYPT, base64_signer_key: …, base64_salt_separator: …, rounds: 8, mem_cost: 14, }`, also as JSON.
    ///
    /// # Errors
    /// [`ConversionError::Format`] names the parameter that is missing. It does not repeat the text, which is a secret.
    pub fn parse(text: &str) -> Result<Self, ConversionError> {
        let parameter = |name: &str| {
            let missing = || ConversionError::Format(format!("the Firebase hash config has no {name}"));
            let (_, rest) = text.split_once(name).ok_or_else(missing)?;
            let value = rest.trim_start_matches('"').trim_start().strip_prefix(':').ok_or_else(missing)?.trim_start();
            let end = |c: char| c == '"' || c == ',' || c == '}' || c.is_whitespace();
            let value = value.strip_prefix('"').unwrap_or(value).split(end).next().unwrap_or_default();
            // Only the separator may be empty.
            let is_there = !value.is_empty() || name == SALT_SEPARATOR;
            if is_there { Ok(Zeroizing::new(value.to_owned())) } else { Err(missing()) }
        };
        Ok(Self {
            signer_key: parameter("base64_signer_key")?,
            salt_separator: parameter(SALT_SEPARATOR)?,
            rounds: parameter("rounds")?,
            mem_cost: parameter("mem_cost")?,
        })
    }

    fn hash(&self, salt: &str, hash: &str) -> String {
        let Self { signer_key, salt_separator, rounds, mem_cost } = self;
        let [n, r, ss, sk] = [mem_cost, rounds, salt_separator, signer_key].map(|parameter| parameter.as_str());
        format!("$fbscrypt$v=1,n={n},r={r},p=1,ss={ss},sk={sk}${salt}${hash}")
    }
}

pub(super) fn convert(
    object: &Map<String, Value>,
    config: &FirebaseHashConfig,
    conversion: &mut ConversionWriter<'_>,
) -> Result<(), ConversionError> {
    conversion.unused_fields(object, &USED);
    let (hash, salt) = (text(object, "passwordHash"), text(object, "salt"));
    let account = Account {
        email: text(object, "email"),
        password_hash: if hash.is_empty() { hash } else { config.hash(&salt, &hash) },
        disabled: object.get("disabled") == Some(&Value::Bool(true)),
        registered_on: timestamp::read(object.get("createdAt")),
        ..Account::default()
    };
    Ok(conversion.add(&account, object.get("localId").and_then(Value::as_str))?)
}
