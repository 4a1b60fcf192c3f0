//! The embedded engine: everything that knows redb and the record codec.
//!
//! | file | what it does |
//! | --- | --- |
//! | `tables` | the definitions of all tables |
//! | `record`, `user_row` | the bytes of a row; a user as a row |
//! | `users`, `blacklist`, `revocations`, `known_devices`, `service_table`, `signing_keys`, `widgets` | reads and writes of their tables |
//! | `email_index`, `user_index` | the indexes of users by email and by flags |
//! | `user_list` | pages of users |
//! | `engine` | the open engine: reads on the snapshot, writes through the commit worker |
//! | `handle` | the open database and the cached snapshot that reads share |
//! | `caller_cache` | the cache of users and live tokens that were read lately |
//! | `service_cache` | all services, in memory |
//! | `commit_worker`, `transaction` | group commit on one thread; one durable transaction |
//! | `schema` | opening, creating and migrating a file |
//! | `backend`, `copy_on_write` | where redb's bytes are kept; writes that never reach the file |
//! | `backup`, `restore`, `check` | whole files |
//! | `error` | how an error of redb becomes a `StoreError` |
//!
//! Guarantees: the rest of the program reaches these through the methods of `store/mod.rs`. Deliberately absent: the data directory
//! and its other files, which an engine does not own.

pub(super) mod backend;
pub(super) mod backup;
pub(super) mod blacklist;
mod caller_cache;
pub(super) mod check;
mod commit_worker;
mod copy_on_write;
pub(super) mod email_index;
pub(super) mod engine;
mod error;
mod handle;
pub(super) mod known_devices;
mod record;
pub(super) mod restore;
pub(super) mod revocations;
pub(super) mod schema;
pub(super) mod service_cache;
pub(super) mod service_table;
pub(super) mod signing_keys;
mod tables;
mod transaction;
mod user_index;
pub(super) mod user_list;
mod user_row;
pub(super) mod users;
pub(super) mod widgets;
