//! Users as other systems export them, converted to the lines that an import reads.
//!
//! Guarantees: memory grows with the largest account, not with their number. The number of a line is the number of the account in the source, or the row
//! of a table, so that messages about lines lead there. An account becomes an
//! administrator only if the source marks it as one with all rights: Django's superusers, and a column that `--map` names or that is called
//! `admin`.
//! Deliberately absent: checks of emails and hashes; the import makes them.

mod account;
mod auth0;
mod django;
mod error;
mod firebase;
mod json;
mod keycloak;
mod table;
mod text;
mod timestamp;

use std::io::{BufRead as _, BufReader, Read, Write};

use time::OffsetDateTime;

use account::ConversionWriter;
pub use account::{ConversionReport, LeftOutAccounts};
pub use error::ConversionError;
pub use firebase::FirebaseHashConfig;
pub use table::{ColumnMap, ColumnMapError};
pub use text::TranscodingReader;

/// A system whose export is converted.
pub enum ImportSource {
    /// `manage.py dumpdata`, as JSON.
    Django,
    /// `firebase auth:export --format=JSON`, with the parameters of the project's password hashes.
    Firebase(FirebaseHashConfig),
    /// The export of a realm or of its users.
    Keycloak,
    /// The export with password hashes, one JSON object per line.
    Auth0,
    /// The table `auth.users` of Supabase, as CSV.
    Supabase,
    /// Any table as CSV with a header.
    Csv(ColumnMap),
}

/// Converts `file`, which may be UTF-8 or UTF-16, and writes one line per account to `out`. A line without an account is empty. `now`
/// decides whether a time in the file has passed.
///
/// # Errors
/// [`ConversionError`].
pub fn convert(
    source: &ImportSource,
    file: impl Read,
    out: &mut dyn Write,
    now: OffsetDateTime,
) -> Result<ConversionReport, ConversionError> {
    let mut reader = BufReader::new(TranscodingReader::new(file)?);
    if reader.fill_buf()?.is_empty() {
        return Err(ConversionError::Format("the file is empty".to_owned()));
    }
    let mut conversion = ConversionWriter::new(out);
    match source {
        ImportSource::Django => json::for_each(reader, |value| django::convert(value, &mut conversion))?,
        ImportSource::Firebase(config) => {
            json::for_each(reader, |value| firebase::convert(&value, config, &mut conversion))?;
        }
        ImportSource::Keycloak => json::for_each(reader, |value| keycloak::convert(&value, &mut conversion))?,
        ImportSource::Auth0 => json::for_each_line(reader, |value| auth0::convert(value, &mut conversion))?,
        ImportSource::Supabase => table::convert(reader, &ColumnMap::supabase(), now, &mut conversion)?,
        ImportSource::Csv(map) => table::convert(reader, map, now, &mut conversion)?,
    }
    Ok(conversion.finish())
}
