//! Reads the accounts of a JSON file one by one.

use std::io::{BufRead, Read};

use serde::{
    Deserializer as _,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use super::error::ConversionError;

/// The longest line in bytes that is read.
const LINE_BYTES_MAX: u64 = 1024 * 1024;

type Object = Map<String, Value>;

/// Calls `each` with every object of the array in `reader`, or of its member `users`.
pub(super) fn for_each(
    reader: impl Read,
    mut each: impl FnMut(Object) -> Result<(), ConversionError>,
) -> Result<(), ConversionError> {
    let mut failed = None;
    let mut json = serde_json::Deserializer::from_reader(reader);
    let users = Users { each: &mut each, failed: &mut failed };
    let read = json.deserialize_any(users).and_then(|()| json.end());
    match (failed, read) {
        (Some(error), _) => Err(error),
        (None, Err(error)) if error.is_io() => Err(ConversionError::Io(error.into())),
        (None, Err(error)) => Err(ConversionError::Format(format!("it is not the JSON that was expected: {error}"))),
        (None, Ok(())) => Ok(()),
    }
}

struct Users<'a> {
    each: &'a mut dyn FnMut(Object) -> Result<(), ConversionError>,
    /// The error of `each`, which serde cannot carry.
    failed: &'a mut Option<ConversionError>,
}

impl<'de> Visitor<'de> for Users<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of objects, or an object with such an array as `users`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element::<Object>()? {
            if let Err(error) = (self.each)(item) {
                *self.failed = Some(error);
                return Err(de::Error::custom("stopped"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut found = false;
        let Self { each, failed } = self;
        while let Some(name) = members.next_key::<String>()? {
            if name == "users" {
                found = true;
                members.next_value_seed(Users { each: &mut *each, failed: &mut *failed })?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(de::Error::custom("it has no `users`")) }
    }
}

impl<'de> DeserializeSeed<'de> for Users<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

/// Calls `each` with the object in every line of `reader`.
pub(super) fn for_each_line(
    mut reader: impl BufRead,
    mut each: impl FnMut(Option<Object>) -> Result<(), ConversionError>,
) -> Result<(), ConversionError> {
    let mut text = String::new();
    for number in 1.. {
        text.clear();
        if (&mut reader).take(LINE_BYTES_MAX + 1).read_line(&mut text)? == 0 {
            break;
        }
        if text.len() as u64 > LINE_BYTES_MAX {
            let message = format!("line {number} has more than {LINE_BYTES_MAX} bytes; it should be one account");
            return Err(ConversionError::Format(message));
        }
        let line = text.trim();
        let object = if line.is_empty() {
            None
        } else {
            let object = serde_json::from_str(line);
            Some(
                object
                    .map_err(|error| ConversionError::Format(format!("line {number} is not a JSON object: {error}")))?,
            )
        };
        each(object)?;
    }
    Ok(())
}
