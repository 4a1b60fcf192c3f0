//! Firebase Authentication: `firebase auth:export`, and the parameters of the project's password hashes.

use serde_json::{Map, Value};

use super::{
    account::{Account, Conversion, text},
    error::ConversionError,
    timestamp,
};

const USED: [&str; 5] = ["email", "passwordHash", "salt", "createdAt", "disabled"];

/// The parameters of a project's password hashes, as the console shows them under "Password hash parameters".
pub struct FirebaseHashConfig {
    signer_key: String,
    salt_separator: String,
    rounds: String,
    mem_cost: String,
}

impl FirebaseHashConfig {
    /// Parses `hash_config { algorithm: SCRYPT, base64_signer_key: …, base64_salt_separator: …, rounds: 8, mem_cost: 14, }`, also as JSON.
    ///
    /// # Errors
    /// [`ConversionError::Format`] names the parameter that is missing. It does not repeat the text, which is a secret.
    pub fn parse(text: &str) -> Result<Self, ConversionError> {
        let words: Vec<&str> = text
            .split(|c: char| c.is_whitespace() || matches!(c, ',' | ':' | '"' | '{' | '}'))
            .filter(|word| !word.is_empty())
            .collect();
        let parameter = |name: &str| {
            let value = words.iter().skip_while(|word| **word != name).nth(1).map(|value| (*value).to_owned());
            value.ok_or_else(|| ConversionError::Format(format!("the Firebase hash config has no {name}")))
        };
        Ok(Self {
            signer_key: parameter("base64_signer_key")?,
            salt_separator: parameter("base64_salt_separator")?,
            rounds: parameter("rounds")?,
            mem_cost: parameter("mem_cost")?,
        })
    }

    fn hash(&self, salt: &str, hash: &str) -> String {
        let Self { signer_key, salt_separator, rounds, mem_cost } = self;
        format!("$fbscrypt$v=1,n={mem_cost},r={rounds},p=1,ss={salt_separator},sk={signer_key}${salt}${hash}")
    }
}

pub(super) fn convert(
    object: &Map<String, Value>,
    config: &FirebaseHashConfig,
    conversion: &mut Conversion<'_>,
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
