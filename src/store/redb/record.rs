//! The codec of rows. Only this file uses bincode, so that it can be replaced here.
//!
//! Guarantees: the first byte of a record identifies its codec. Bytes that no codec wrote are an error. Row structs are used in this folder
//! only and never change: a new row format is a new struct, a new table version and a migration.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::store::error::StoreError;

/// bincode 2, its standard configuration: little endian, integers of variable length.
const BINCODE_2: u8 = 1;
/// The maximum size of a record, so that an altered length on disk cannot make the program allocate more.
const RECORD_BYTES_MAX: usize = 64 * 1024;

fn codec() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<RECORD_BYTES_MAX>()
}

#[derive(Serialize, Deserialize)]
pub(in crate::store) struct UserRow {
    pub(in crate::store) email: String,
    pub(in crate::store) password_hash: String,
    pub(in crate::store) admin: bool,
    pub(in crate::store) disabled: bool,
    pub(in crate::store) epoch: u64,
    pub(in crate::store) registered_on_s: i64,
}

#[derive(Serialize, Deserialize)]
pub(in crate::store) struct WidgetRow {
    /// The place in the order of creation.
    pub(in crate::store) sequence: u64,
    pub(in crate::store) info_url: String,
    pub(in crate::store) created_at_s: i64,
    pub(in crate::store) deadline_s: i64,
    pub(in crate::store) owner: [u8; 16],
}

#[derive(Serialize, Deserialize)]
pub(in crate::store) struct ServiceRow {
    pub(in crate::store) name: String,
    pub(in crate::store) secret_hash: [u8; 32],
    /// The hash of the secret before, and until when it is valid, in seconds since 1970.
    pub(in crate::store) replaced_secret: Option<([u8; 32], i64)>,
    pub(in crate::store) disabled: bool,
    pub(in crate::store) created_at_s: i64,
    pub(in crate::store) rotated_at_s: i64,
}

/// Returns a key or value of `table` that has a fixed length.
pub(in crate::store) fn fixed<const N: usize>(table: &'static str, bytes: &[u8]) -> Result<[u8; N], StoreError> {
    let wrong = |_| StoreError::Record { table, cause: format!("it has {} bytes, not {N}", bytes.len()) };
    bytes.try_into().map_err(wrong)
}

/// Returns a number of `table`, which is stored in big endian.
pub(in crate::store) fn number(table: &'static str, bytes: &[u8]) -> Result<u64, StoreError> {
    fixed(table, bytes).map(u64::from_be_bytes)
}

/// Returns a key or value of `table` that is text.
pub(in crate::store) fn text<'a>(table: &'static str, bytes: &'a [u8]) -> Result<&'a str, StoreError> {
    std::str::from_utf8(bytes).map_err(|error| StoreError::Record { table, cause: error.to_string() })
}

pub(in crate::store) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let mut bytes = vec![BINCODE_2];
    let body = bincode::serde::encode_to_vec(row, codec()).expect("BUG: rows are plain data of bounded size");
    bytes.extend(body);
    bytes
}

pub(in crate::store) fn decode<T: DeserializeOwned>(table: &'static str, bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |cause: String| StoreError::Record { table, cause };
    let (version, body) = bytes.split_first().ok_or_else(|| damaged("it is empty".to_owned()))?;
    if *version != BINCODE_2 {
        return Err(damaged(format!("its codec is {version}")));
    }
    let (row, read) = bincode::serde::decode_from_slice(body, codec()).map_err(|error| damaged(error.to_string()))?;
    if read == body.len() { Ok(row) } else { Err(damaged("it is too long".to_owned())) }
}
