//! One account of a source, and what is reported about all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use serde::Serialize;
use serde_json::{Map, Value};

/// The maximum number of accounts that are named for one reason.
const NAMED_MAX: usize = 20;
/// The maximum number of unused fields that are named.
const FIELDS_MAX: usize = 100;

/// An account as an import reads it.
#[derive(Default, Serialize)]
pub(super) struct Account {
    pub(super) email: String,
    pub(super) password_hash: String,
    pub(super) admin: bool,
    pub(super) disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) registered_on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) public_id: Option<String>,
}

/// Accounts that are not imported, for one reason.
#[derive(Debug, Default, Serialize)]
pub struct LeftOutAccounts {
    /// How many.
    pub accounts: u64,
    /// The first of them: an email, another name, or the number of the account in the file.
    pub named: Vec<String>,
}

/// What was not converted.
#[derive(Debug, Default, Serialize)]
pub struct ConversionReport {
    /// Accounts that are not imported, by the reason, such as `no password`.
    pub left_out: BTreeMap<&'static str, LeftOutAccounts>,
    /// The fields that are not used, and in how many accounts each has a value.
    pub unused_fields: BTreeMap<String, u64>,
}

/// Writes the lines and collects the report.
pub(super) struct ConversionWriter<'a> {
    out: &'a mut dyn Write,
    report: ConversionReport,
    number: u64,
}

impl<'a> ConversionWriter<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, report: ConversionReport::default(), number: 0 }
    }

    pub(super) fn finish(self) -> ConversionReport {
        self.report
    }

    /// Writes an account. One without an email or a password is left out; `name` is what it is called if it has no email.
    pub(super) fn add(&mut self, account: &Account, name: Option<&str>) -> io::Result<()> {
        self.number += 1;
        let reason = if account.email.is_empty() {
            Some("no email")
        } else if account.password_hash.is_empty() {
            Some("no password")
        } else {
            None
        };
        if let Some(reason) = reason {
            let left_out = self.report.left_out.entry(reason).or_default();
            left_out.accounts += 1;
            if left_out.named.len() < NAMED_MAX {
                let email = Some(account.email.as_str()).filter(|email| !email.is_empty());
                left_out.named.push(email.or(name).map_or_else(|| format!("number {}", self.number), str::to_owned));
            }
        } else {
            serde_json::to_writer(&mut *self.out, account).map_err(io::Error::from)?;
        }
        self.out.write_all(b"\n")
    }

    /// Writes an empty line for a row that is no account, such as a header.
    pub(super) fn skip_line(&mut self) -> io::Result<()> {
        self.number += 1;
        self.out.write_all(b"\n")
    }

    /// Counts a field that is not used and has a value.
    pub(super) fn unused(&mut self, field: &str) {
        let fields = &mut self.report.unused_fields;
        if let Some(count) = fields.get_mut(field) {
            *count += 1;
        } else if fields.len() < FIELDS_MAX {
            fields.insert(field.to_owned(), 1);
        }
    }

    /// Counts the fields of an object that are not in `used`.
    pub(super) fn unused_fields(&mut self, object: &Map<String, Value>, used: &[&str]) {
        let used: BTreeSet<&str> = used.iter().copied().collect();
        for (field, value) in object {
            let is_empty = match value {
                Value::Null => true,
                Value::String(text) => text.is_empty(),
                Value::Array(items) => items.is_empty(),
                Value::Object(fields) => fields.is_empty(),
                _ => false,
            };
            if !is_empty && !used.contains(field.as_str()) {
                self.unused(field);
            }
        }
    }
}

/// Returns the text of a field, or an empty one.
pub(super) fn text(object: &Map<String, Value>, field: &str) -> String {
    object.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
