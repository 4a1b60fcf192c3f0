//! Bytes and records. bincode lives here and nowhere else, so that it can be replaced in one file.
//!
//! Guarantees: the first byte of a record names its codec; bytes that no codec wrote are an error, never a guess. Row structs
//! never leave the cellar and never change: a new shape is a new struct, a new table version and a migration.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::StoreError;

/// bincode 2, its standard configuration: little endian, integers of variable length.
const BINCODE_2: u8 = 1;
/// No record is larger: a length that was altered on disk cannot ask for more memory than this.
const RECORD_BYTES_MAX: usize = 64 * 1024;

fn codec() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<RECORD_BYTES_MAX>()
}

#[derive(Serialize, Deserialize)]
pub(super) struct UserRow {
    pub(super) email: String,
    pub(super) password_hash: String,
    pub(super) admin: bool,
    pub(super) disabled: bool,
    pub(super) epoch: u64,
    pub(super) registered_on_s: i64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct WidgetRow {
    /// The place in the order of creation.
    pub(super) sequence: u64,
    pub(super) info_url: String,
    pub(super) created_at_s: i64,
    pub(super) deadline_s: i64,
    pub(super) owner: [u8; 16],
}

pub(super) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let mut bytes = vec![BINCODE_2];
    let body = bincode::serde::encode_to_vec(row, codec()).expect("BUG: rows are plain data of bounded size");
    bytes.extend(body);
    bytes
}

pub(super) fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |cause: String| StoreError::Record { table, cause };
    let (version, body) = bytes.split_first().ok_or_else(|| damaged("it is empty".to_owned()))?;
    if *version != BINCODE_2 {
        return Err(damaged(format!("its codec is {version}")));
    }
    let (row, read) = bincode::serde::decode_from_slice(body, codec()).map_err(|error| damaged(error.to_string()))?;
    if read == body.len() { Ok(row) } else { Err(damaged("it is too long".to_owned())) }
}
