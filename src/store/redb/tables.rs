//! The definitions of all tables: their names, keys and values.
//!
//! Guarantees: every other file of this folder takes a table from here. Deliberately absent: reading and writing; `users`,
//! `email_index`, `user_index`, `blacklist`, `known_devices`, `widgets`, `signing_keys`, `service_table`, `revocations` and `schema` each own the
//! rows of their tables.

use redb::{ReadOnlyTable, Table, TableDefinition};

/// A table with keys and values of any length. A table with other types takes some 100 KB of the program, because redb is compiled for
/// each pair of types.
pub(in crate::store) type BytesDefinition = TableDefinition<'static, &'static [u8], &'static [u8]>;
/// Such a table, open for reading.
pub(in crate::store) type ReadOnlyBytesTable = ReadOnlyTable<&'static [u8], &'static [u8]>;
/// Such a table, open for writing.
pub(in crate::store) type BytesTable<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// Public id to `record::UserRow`. The order of ids is the order of registration.
pub(in crate::store) const USERS: TableDefinition<[u8; 16], &[u8]> = TableDefinition::new("users_1");
/// [`USERS`], open for reading.
pub(in crate::store) type Users = ReadOnlyTable<[u8; 16], &'static [u8]>;
/// `Email::key` to public id.
pub(in crate::store) const USERS_BY_EMAIL: BytesDefinition = TableDefinition::new("users_by_email_2");

/// `Email::key`, a zero byte, time of registration and public id of each user whose mailbox has an older account. No value. See `email_index`.
pub(in crate::store) const MAILBOX_DUPLICATES: BytesDefinition = TableDefinition::new("users_mailbox_duplicates_1");

/// Flags (1 byte) and public id (16 bytes) of every user. No value. See `user_index`.
pub(in crate::store) const USERS_BY_FLAGS: BytesDefinition = TableDefinition::new("users_by_flags_2");
/// First key of a range of [`USERS_BY_FLAGS`] to the number of users in the range (8 bytes, big endian).
pub(in crate::store) const USER_COUNTS: BytesDefinition = TableDefinition::new("users_by_flags_counts_2");

/// Expiry in seconds since 1970 (8 bytes, big endian, so that the order of keys is the order of time) and token id (16 bytes). No value.
pub(in crate::store) const BLACKLIST: TableDefinition<[u8; 24], ()> = TableDefinition::new("blacklist_1");

/// Public id (16 bytes) and hash of a client's network (16 bytes) to the time of the last login, in seconds since 1970 (8 bytes, big
/// endian).
pub(in crate::store) const KNOWN_DEVICES: BytesDefinition = TableDefinition::new("known_devices_2");
/// Time of the last login (8 bytes, big endian) and key of [`KNOWN_DEVICES`]. No value.
pub(in crate::store) const KNOWN_DEVICES_BY_TIME: BytesDefinition = TableDefinition::new("known_devices_by_time_2");

/// Name to `record::WidgetRow`.
pub(in crate::store) const WIDGETS: BytesDefinition = TableDefinition::new("widgets_2");
/// Place in the order of creation (8 bytes, big endian) to name.
pub(in crate::store) const WIDGETS_BY_SEQUENCE: BytesDefinition = TableDefinition::new("widgets_by_sequence_2");

/// Place in the order of creation, divided by 4,096, to the number of widgets whose place has this quotient (8 bytes each, big endian).
pub(in crate::store) const WIDGET_COUNTS: BytesDefinition = TableDefinition::new("widgets_counts_2");

/// `kid` of a signing key to `record::SigningKeyRow`. See `signing_keys`.
pub(in crate::store) const SIGNING_KEYS: BytesDefinition = TableDefinition::new("signing_keys_1");

/// Id of a service (16 bytes) to `record::ServiceRow`. See `service_table`.
pub(in crate::store) const SERVICES: BytesDefinition = TableDefinition::new("services_1");

/// Number of a commit that revoked tokens (8 bytes, big endian) to what it revoked. See `revocations`.
pub(in crate::store) const REVOCATIONS: BytesDefinition = TableDefinition::new("revocations_1");
/// The latest expiry among the tokens that a row of [`REVOCATIONS`] is about (8 bytes, big endian) and the key of the row. No value.
pub(in crate::store) const REVOCATIONS_BY_EXPIRY: BytesDefinition = TableDefinition::new("revocations_by_expiry_1");

/// [`USERS_BY_EMAIL`] before schema 6.
pub(in crate::store) const USERS_BY_EMAIL_1: TableDefinition<&str, [u8; 16]> = TableDefinition::new("users_by_email_1");
/// [`WIDGETS`] before schema 6.
pub(in crate::store) const WIDGETS_1: TableDefinition<&str, &[u8]> = TableDefinition::new("widgets_1");
/// The tables before schema 6 that others replace.
pub(in crate::store) const SUPERSEDED: [&str; 9] = [
    "users_by_email_1",
    "widgets_1",
    "widgets_by_sequence_1",
    "admins_1",
    "users_by_flags_1",
    "users_by_flags_counts_1",
    "widgets_counts_1",
    "known_devices_1",
    "known_devices_by_time_1",
];

/// Named numbers about the file itself. A redb file without this table is not a latchkey database.
pub(in crate::store) const META: TableDefinition<&str, u64> = TableDefinition::new("latchkey");

/// Key in [`META`]: the number of users with a password hash of another system (`PasswordHash::is_foreign`).
pub(in crate::store) const FOREIGN_HASH_COUNT: &str = "foreign_password_hashes";
/// Key in [`META`]: the latest expiry among purged entries of the blacklist, in seconds since 1970.
pub(in crate::store) const PURGED_THROUGH_S: &str = "blacklist_purged_through_s";
/// Key in [`META`]: the algorithm of the first key of a key ring, where there was a signing key before: in a file from before schema 8, and
/// after a restore. See `signing_keys`.
pub(in crate::store) const NEXT_RING_ALGORITHM: &str = "next_ring_algorithm";
/// Key in [`META`]: a random number that names the revocation feed. A cursor of another feed is refused.
pub(in crate::store) const REVOCATION_FEED: &str = "revocation_feed";
/// Key in [`META`]: no row of [`REVOCATIONS`] that is written from now on has a lower number. Absent until the first purge.
pub(in crate::store) const REVOCATIONS_NEXT_MIN: &str = "revocations_from";
