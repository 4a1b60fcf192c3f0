//! The times that other systems write.

use serde_json::Value;
use time::{OffsetDateTime, PrimitiveDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// Numbers above this are milliseconds: as seconds, this is the year 5138.
const SECONDS_MAX: i64 = 100_000_000_000;

/// Returns the time in a JSON value as RFC 3339. `None` if there is none; a text that is no time is returned as it is, to be refused by name.
pub(super) fn read(value: Option<&Value>) -> Option<String> {
    match value? {
        // A fraction of a second is cut off.
        Value::Number(number) => read_text(number.to_string().split('.').next()?),
        Value::String(text) => read_text(text),
        Value::Object(object) => read(object.get("$date").or_else(|| object.get("$numberLong"))),
        _ => None,
    }
}

/// Like [`read`], of a text.
pub(super) fn read_text(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let moment = moment(text).and_then(|moment| moment.format(&Rfc3339).ok());
    Some(moment.unwrap_or_else(|| text.to_owned()))
}

/// Parses RFC 3339, also with a blank for the `T` and with the offset of `PostgreSQL` (`+00`) or none (UTC), and seconds or milliseconds
/// since 1970.
pub(super) fn moment(text: &str) -> Option<OffsetDateTime> {
    if let Ok(number) = text.parse::<i64>() {
        let seconds = if number > SECONDS_MAX { number / 1000 } else { number };
        return OffsetDateTime::from_unix_timestamp(seconds).ok();
    }
    let text = text.replacen(' ', "T", 1);
    let with_offset = [text.clone(), format!("{text}:00")]; // PostgreSQL writes +00
    if let Some(moment) = with_offset.iter().find_map(|text| OffsetDateTime::parse(text, &Rfc3339).ok()) {
        return Some(moment);
    }
    let (without_fraction, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None; // an offset in a form that is not known, which must not be taken for UTC
    }
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    PrimitiveDateTime::parse(without_fraction, format).ok().map(PrimitiveDateTime::assume_utc)
}
