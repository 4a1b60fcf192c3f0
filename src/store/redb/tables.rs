//! The definitions of all tables: their names, keys and values.
//!
//! Guarantees: every other file of this folder takes a table from here. Deliberately absent: reading and writing; `users`,
//! `blacklist`, `known_devices`, `widgets` and `schema` each own the rows of their tables.

use redb::{ReadOnlyTable, TableDefinition};

/// Public id to `record::UserRow`. The order of ids is the order of registration.
pub(in crate::store) const USERS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("users_1");
/// [`USERS`], open for reading.
pub(in crate::store) type Users = ReadOnlyTable<[u8; 16], &'static [u8]>;
/// `Email::key` to public id.
pub(in crate::store) const USERS_BY_EMAIL: TableDefinition<&str, [u8; 16]> = TableDefinition::new("users_by_email_1");

/// Flags (1 byte) and public id (16 bytes) of every user. No value. See `user_index`.
pub(in crate::store) const USERS_BY_FLAGS: TableDefinition<[u8; 17], ()> = TableDefinition::new("users_by_flags_1");
/// First key of a range of [`USERS_BY_FLAGS`] to the number of users in the range.
pub(in crate::store) const USER_COUNTS: TableDefinition<[u8; 17], u64> =
    TableDefinition::new("users_by_flags_counts_1");

/// Public ids of the enabled administrators, in schema 2. [`USERS_BY_FLAGS`] replaces it.
pub(in crate::store) const ADMINS: TableDefinition<[u8; 16], ()> = TableDefinition::new("admins_1");

/// Expiry in seconds since 1970 (8 bytes, big endian, so that the order of keys is the order of time) and token id (16 bytes). No value.
pub(in crate::store) const BLACKLIST: TableDefinition<[u8; 24], ()> = TableDefinition::new("blacklist_1");

/// Public id (16 bytes) and hash of a client's network (16 bytes) to the time of the last login, in seconds since 1970.
pub(in crate::store) const KNOWN_DEVICES: TableDefinition<[u8; 32], u64> = TableDefinition::new("known_devices_1");
/// Time of the last login (8 bytes, big endian) and key of [`KNOWN_DEVICES`]. No value.
pub(in crate::store) const KNOWN_DEVICES_BY_TIME: TableDefinition<[u8; 40], ()> =
    TableDefinition::new("known_devices_by_time_1");

/// Name to `record::WidgetRow`.
pub(in crate::store) const WIDGETS: TableDefinition<&str, &[u8]> = TableDefinition::new("widgets_1");
/// Place in the order of creation to name.
pub(in crate::store) const WIDGETS_BY_SEQUENCE: TableDefinition<u64, &str> =
    TableDefinition::new("widgets_by_sequence_1");

/// Place in the order of creation, divided by 4,096, to the number of widgets whose place has this quotient.
pub(in crate::store) const WIDGET_COUNTS: TableDefinition<u64, u64> = TableDefinition::new("widgets_counts_1");

/// Named numbers about the file itself. A redb file without this table is not a latchkey database.
pub(in crate::store) const META: TableDefinition<&str, u64> = TableDefinition::new("latchkey");

/// Key in [`META`]: the latest expiry among purged entries of the blacklist, in seconds since 1970.
pub(in crate::store) const PURGED_THROUGH_S: &str = "blacklist_purged_through_s";
