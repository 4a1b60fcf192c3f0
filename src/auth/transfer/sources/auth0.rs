//! Auth0: its export with password hashes, one JSON object per line.

use serde_json::{Map, Value};

use super::{
    account::{Account, ConversionWriter, text},
    error::ConversionError,
    timestamp,
};

const USED: [&str; 6] = ["email", "identifiers", "passwordHash", "blocked", "created_at", "_id"];

/// Converts one line. `None` is an empty line.
pub(super) fn convert(
    object: Option<Map<String, Value>>,
    conversion: &mut ConversionWriter<'_>,
) -> Result<(), ConversionError> {
    let Some(object) = object else { return Ok(conversion.skip_line()?) };
    conversion.unused_fields(&object, &USED);
    let account = Account {
        email: email(&object),
        password_hash: text(&object, "passwordHash"),
        disabled: object.get("blocked") == Some(&Value::Bool(true)),
        registered_on: timestamp::read(object.get("created_at")),
        ..Account::default()
    };
    let name = object.get("user_id").or_else(|| object.get("_id")?.get("$oid")).and_then(Value::as_str);
    Ok(conversion.add(&account, name)?)
}

/// Returns the email, which is among the identifiers where a connection has several.
fn email(object: &Map<String, Value>) -> String {
    let is_email = |identifier: &&Value| identifier["type"] == "email";
    let identifier = object.get("identifiers").and_then(Value::as_array).and_then(|all| all.iter().find(is_email));
    let email = text(object, "email");
    if email.is_empty() {
        identifier.and_then(|found| found["value"].as_str()).unwrap_or_default().to_owned()
    } else {
        email
    }
}
