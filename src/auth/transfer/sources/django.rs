//! Django: `manage.py dumpdata`, of the model of users or of everything.

use serde_json::{Map, Value};

use super::{
    account::{Account, ConversionWriter, text},
    error::ConversionError,
    timestamp,
};

const USED: [&str; 5] = ["email", "password", "is_superuser", "is_active", "date_joined"];

/// Converts an object of any model. A model of users is one with the fields of Django's `AbstractBaseUser`.
pub(super) fn convert(
    mut object: Map<String, Value>,
    conversion: &mut ConversionWriter<'_>,
) -> Result<(), ConversionError> {
    let model = text(&object, "model");
    let Some(Value::Object(fields)) = object.get_mut("fields") else {
        return Err(ConversionError::Format("it is not the output of dumpdata: an object has no `fields`".to_owned()));
    };
    if !fields.get("password").is_some_and(Value::is_string) || !fields.contains_key("last_login") {
        conversion.unused(&format!("objects of {model}"));
        return Ok(conversion.skip_line()?);
    }
    conversion.unused_fields(fields, &USED);
    let username = text(fields, "username");
    // A project may use the email as the username and have no other field for it.
    let email = if fields.contains_key("email") { text(fields, "email") } else { username.clone() };
    let password_hash = text(fields, "password");
    let account = Account {
        email,
        // `!` marks an unusable password.
        password_hash: if password_hash.starts_with('!') { String::new() } else { password_hash },
        admin: fields.get("is_superuser") == Some(&Value::Bool(true)),
        disabled: fields.get("is_active") == Some(&Value::Bool(false)),
        registered_on: timestamp::read(fields.get("date_joined")),
        public_id: None,
    };
    Ok(conversion.add(&account, Some(&username).filter(|name| !name.is_empty()).map(String::as_str))?)
}
