//! A table as CSV (RFC 4180) with a header, also with semicolons or tabs, as spreadsheets write it.

use std::io::BufRead;

use time::OffsetDateTime;

use super::{
    account::{Account, ConversionWriter},
    error::ConversionError,
    timestamp,
};

/// The fields of a user that a column can give.
const FIELDS: [&str; 6] = ["email", "password_hash", "admin", "disabled", "registered_on", "public_id"];

/// The column that each field is read from. A field whose column has an empty name is not read.
pub struct ColumnMap(Vec<(&'static str, String)>);

/// A map that cannot be used. Has the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ColumnMapError(String);

impl ColumnMap {
    /// Parses `email=COLUMN,password_hash=COLUMN,…`. A field that is not named has the column of its own name.
    ///
    /// # Errors
    /// [`ColumnMapError`] if a field is unknown or a column has no name.
    pub fn parse(text: &str) -> Result<Self, ColumnMapError> {
        let mut map: Vec<(&'static str, String)> = FIELDS.map(|field| (field, field.to_owned())).into();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (field, column) = pair.split_once('=').unwrap_or((pair, ""));
            let entry = map.iter_mut().find(|(known, _)| *known == field.trim());
            let Some((_, mapped)) = entry.filter(|_| !column.trim().is_empty()) else {
                let fields = FIELDS.join(", ");
                return Err(ColumnMapError(format!("write it like email=COLUMN; the fields are {fields}, not {pair}")));
            };
            column.trim().clone_into(mapped);
        }
        Ok(Self(map))
    }

    pub(super) fn supabase() -> Self {
        let columns = ["email", "encrypted_password", "", "banned_until", "created_at", "id"];
        Self(FIELDS.into_iter().zip(columns.map(str::to_owned)).collect())
    }
}

/// Converts a table. A row's line has the number of the row; the header is row 1.
pub(super) fn convert(
    mut reader: impl BufRead,
    map: &ColumnMap,
    now: OffsetDateTime,
    conversion: &mut ConversionWriter<'_>,
) -> Result<(), ConversionError> {
    let delimiter = delimiter(reader.fill_buf()?);
    let mut rows = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(reader);
    let header = rows.headers().map_err(failed)?.clone();
    conversion.skip_line()?;
    let place = |field: &str| {
        let column = map.0.iter().find(|(known, _)| *known == field).map(|(_, column)| column.as_str());
        // A field without a column must not match a column without a name, as spreadsheets write for the number of a row.
        let column = column.filter(|column| !column.is_empty())?;
        header.iter().position(|name| name.trim().eq_ignore_ascii_case(column))
    };
    let places = FIELDS.map(place);
    for ((field, column), place) in map.0.iter().zip(places).take(2) {
        if place.is_none() {
            let columns = header.iter().collect::<Vec<_>>().join(", ");
            let message =
                format!("there is no column {column} for {field}; name it with --map; the columns are {columns}");
            return Err(ConversionError::Format(message));
        }
    }
    let mut row = csv::StringRecord::new();
    while rows.read_record(&mut row).map_err(failed)? {
        let value = |field: usize| places[field].and_then(|place| row.get(place)).unwrap_or_default().trim();
        let number = row.position().map_or(0, |position| position.record() + 1);
        let wrong = |field: &str, value: &str| {
            ConversionError::Format(format!(
                "row {number}: the column for {field} has {value}, which is neither true nor false"
            ))
        };
        let account = Account {
            email: value(0).to_owned(),
            password_hash: value(1).to_owned(),
            admin: is_true(value(2)).ok_or_else(|| wrong("admin", value(2)))?,
            disabled: is_true(value(3))
                .or_else(|| is_in_future(value(3), now))
                .ok_or_else(|| wrong("disabled", value(3)))?,
            registered_on: timestamp::read_text(value(4)),
            public_id: Some(value(5).to_owned()).filter(|id| !id.is_empty()),
        };
        for (column, name) in header.iter().enumerate() {
            if !places.contains(&Some(column)) && row.get(column).is_some_and(|value| !value.trim().is_empty()) {
                conversion.unused(name);
            }
        }
        conversion.add(&account, None)?;
    }
    Ok(())
}

/// Whether a value says yes. `None` if it says neither yes nor no.
fn is_true(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "" | "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// Whether a time, such as that of `banned_until`, is in the future.
fn is_in_future(text: &str, now: OffsetDateTime) -> Option<bool> {
    if text == "infinity" { Some(true) } else { Some(timestamp::moment(text)? > now) }
}

/// Returns which of comma, semicolon and tab the first line has most of.
fn delimiter(start: &[u8]) -> u8 {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let count = |delimiter: &u8| line.split(|byte| byte == delimiter).count();
    [b',', b';', b'\t'].into_iter().rev().max_by_key(count).unwrap_or(b',')
}

fn failed(error: csv::Error) -> ConversionError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => ConversionError::Io(error),
        csv::ErrorKind::Utf8 { pos, .. } => {
            let row = pos.map_or(0, |pos| pos.record() + 1);
            ConversionError::Format(format!("row {row} is not UTF-8; save the table as UTF-8"))
        }
        other => ConversionError::Format(format!("it is not a table: {other:?}")),
    }
}
