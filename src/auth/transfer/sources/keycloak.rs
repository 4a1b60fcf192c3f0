//! Keycloak: the export of a realm, or of its users.

use serde_json::{Map, Value};

use super::{
    account::{Account, ConversionWriter, text},
    error::ConversionError,
    timestamp,
};

const USED: [&str; 5] = ["id", "email", "enabled", "createdTimestamp", "credentials"];

/// Converts a user. The id is kept; roles are not.
pub(super) fn convert(
    object: &Map<String, Value>,
    conversion: &mut ConversionWriter<'_>,
) -> Result<(), ConversionError> {
    conversion.unused_fields(object, &USED);
    let credentials = object.get("credentials").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let is_password = |credential: &&Value| credential["type"] == "password";
    for credential in credentials.iter().filter(|credential| !is_password(credential)) {
        conversion.unused(&format!("credentials of type {}", credential["type"].as_str().unwrap_or("unknown")));
    }
    let account = Account {
        email: text(object, "email"),
        password_hash: credentials.iter().find(is_password).map(password_hash).unwrap_or_default(),
        disabled: object.get("enabled") == Some(&Value::Bool(false)),
        registered_on: timestamp::read(object.get("createdTimestamp")),
        public_id: Some(text(object, "id")).filter(|id| !id.is_empty()),
        ..Account::default()
    };
    Ok(conversion.add(&account, object.get("username").and_then(Value::as_str))?)
}

/// Returns the hash of a credential as a PHC string. What is unknown in it is refused by name when the line is read.
fn password_hash(credential: &Value) -> String {
    let inner = |field: &str| {
        let text = credential[field].as_str().unwrap_or_default();
        serde_json::from_str::<Value>(text).unwrap_or_default()
    };
    let (secret, data) = (inner("secretData"), inner("credentialData"));
    let plain = |base64: &Value| base64.as_str().unwrap_or_default().trim_end_matches('=').to_owned();
    let (salt, hash) = (plain(&secret["salt"]), plain(&secret["value"]));
    let (algorithm, rounds) = (data["algorithm"].as_str().unwrap_or("unknown"), data["hashIterations"].as_u64());
    let rounds = rounds.unwrap_or_default();
    // Keycloak 7 and older have everything in the credential itself.
    if let Some(hash) = credential["hashedSaltedValue"].as_str() {
        let algorithm = credential["algorithm"].as_str().unwrap_or("pbkdf2");
        let (salt, rounds) = (plain(&credential["salt"]), credential["hashIterations"].as_u64().unwrap_or_default());
        return format!("${algorithm}$i={rounds}${salt}${}", hash.trim_end_matches('='));
    }
    if algorithm == "argon2" {
        let parameter = |name: &str| data["additionalParameters"][name][0].as_str().unwrap_or_default().to_owned();
        let version = if parameter("version") == "1.0" { 16 } else { 19 };
        let (kind, memory, lanes) = (parameter("type"), parameter("memory"), parameter("parallelism"));
        return format!("$argon2{kind}$v={version}$m={memory},t={rounds},p={lanes}${salt}${hash}");
    }
    format!("${algorithm}$i={rounds}${salt}${hash}")
}
