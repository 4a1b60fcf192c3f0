//! latchkey, the login server in one file: the floor plan.
//!
//! # Floors
//!
//! A floor uses floors further down this list, never further up. `tests/tidy.rs` holds that, and which floor may name which crate.
//!
//! | floor | what it does | the only one that knows |
//! | --- | --- | --- |
//! | `main.rs` | passes argv to [`cli`] and exits with its code | |
//! | [`cli`] | the command line: one file per command with its flags, terminal output, exit codes (`cli/mod.rs`), format and levels of the log (`cli/log.rs`) | the terminal |
//! | [`server`] | opens the data, binds, serves, drains, stops | |
//! | [`supervisor`] | the service manager's protocol: socket activation, readiness, watchdog | sd-notify, listenfd |
//! | [`purge`] | when and in which batches expired blacklist entries, rows of the revocation feed and known devices are removed | |
//! | [`key_rotation`] | when signing keys are replaced and removed |
//! | [`scheduled_backups`] | when the server copies the database into a directory by itself, and which copies it keeps | |
//! | [`config`] | every setting: flag, variable, default, unit, check (`mod.rs`; limits on guessing in `guessing.rs`, scheduled backups in `backups.rs`), addresses as people write them (`address.rs`), which variables are settings (`environment.rs`) | |
//! | [`http`] | HTTP: see the table below | poem, hyper, rustls |
//! | [`auth`] | decides who may enter: `passwords/` (policy, hashing, `fair_queue.rs` for whose password is hashed next, `stored_hash.rs` for hash formats), `tokens/` (claims, keys, signatures), `key_ring/` (which keys sign and verify), `throttle.rs` (limits on guessing), `known_devices.rs` (from where an account logged in), `network.rs` (which addresses are one client), `service_accounts.rs` (programs that ask about tokens), `transfer/` (import and export of users), `error.rs` (reasons of a refusal) | jsonwebtoken, scrypt, hash formats |
//! | [`store`] | remembers: `store/mod.rs` has one method per thing that happens (`service_accounts.rs` those about services, `revocations.rs` those about logged-out tokens, `key_ring.rs` those about signing keys); `redb/` is the engine (`tables.rs` defines tables, `record.rs` is the codec of rows with their columns, `schema.rs` migrates, `blacklist.rs` and `known_devices.rs` purge); `reader_pool.rs` runs long reads; `data_dir.rs` has the other files, `file_access.rs` their owners | redb, bincode |
//! | [`metrics`] | every metric, and its text for Prometheus | |
//! | [`model`] | plain data, parsed once: email, user, service, widget, deadline, ids | |
//! | [`clock`], [`random`], [`thread_priority`], [`unicode`] | the only readers of wall-clock time and of the system's random numbers; the priority of threads with long work; normalisation of text | `icu_normalizer` |
//!
//! # Folders of `http`
//!
//! | folder | what it does |
//! | --- | --- |
//! | `connection/` | accept loop (`acceptor.rs`), connection limits and deadlines (`limits.rs`), TLS (`tls.rs`), request heads (`head_validator.rs`), networks of proxies (`trusted_proxy.rs`) |
//! | `middleware/` | `stack.rs` (the order; headers of every response; fields of the access log), `request_id.rs`, `request_limits.rs` (sizes of a request), `cors.rs`, `router.rs`, `guard.rs` and `service_guard.rs` (who is the caller), `extract.rs` (body, path, query), `client_address.rs` (proxy headers), `error.rs` (status, message and headers of every error), `paging.rs`, `json.rs`, `openapi.rs` (details of the document; `openapi_examples.rs` has its examples), `audit.rs` |
//! | `api/` | the operations, one file or folder per resource: `auth.rs`, `users/`, `service_accounts/`, `token/`, `widgets/`; time formats (`timestamp.rs`) |
//! | `pages/` | start page, Swagger UI, document (`mod.rs`; the texts are in `static/`), health and metrics (`health.rs`) |
//! | `operator/` | the admin socket (`mod.rs`), whole files over it (`transfer.rs`), the list of users as a stream (`user_list.rs`) |
//!
//! # The path of a request
//!
//! ```text
//! POST /auth/login    http::api::auth  form or JSON -> Email, Password: the only place with a 400
//!                     auth::Auth       too often? (throttle), find the user, known device?, verify the password (a decoy if there is none), sign
//!                     store            two reads; a write if the device is new or its stored login is a day old
//! GET /auth/user      http::…::guard   header -> token text
//!                     auth::Auth       signature and expiry first: garbage never reaches the disk
//!                     store            recent callers, else a snapshot: blacklisted? still a user? -> Caller; the handler does no I/O
//! POST /auth/logout   guard, then Auth::log_out(Caller) -> store: durable, then 200
//! ```
//!
//! Lookups in the store run on the thread that answers the request, in the snapshot of the last commit or in the cache of recent callers,
//! which each commit keeps true (`store/redb/caller_cache.rs`); each takes microseconds. Pages of a
//! list are read by the threads of the reader pool. Writes go to one thread, which commits all queued writes together (group commit).
//! Hashes go to hashing threads. A request that waits for any of them holds no thread.
//!
//! # Invariants
//!
//! Cited in the code as `I1` where they are kept.
//!
//! 1. An answer that says something was stored is sent after the disk has it.
//! 2. A blacklist entry goes only after its token has expired.
//! 3. A token whose blacklist entry was purged never lives again, also where the clock is set back: how far the purge went is
//!    stored with it, and no token that expired by then is taken.
//! 4. One email is one account, whatever its letter case, also for two registrations at once.
//! 5. One thing that happens is one transaction: it is there wholly or not at all.
//! 6. A file that is being made has another name until it is complete and synced.
//! 7. Unknown email, wrong password and disabled user get the same answer, and where the stored hash is of the cost that is set
//!    today, after the same work.
//! 8. What a caller may do is read from the store at each request, never from the token; and a `Caller` exists only where a
//!    token was good.
//! 9. Once there was an enabled administrator there always is one.
//!
//! # Errors
//!
//! `store::StoreError -> auth::AuthError -> http::ApiError -> bytes`, each mapped variant by variant. `cli`, `server` and
//! `scheduled_backups` collect causes with `anyhow`. A text that goes to a client reveals nothing internal; its cause goes to the log.

pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod key_rotation;
pub mod metrics;
pub mod model;
pub mod purge;
pub mod random;
pub mod scheduled_backups;
pub mod server;
pub mod store;
pub mod supervisor;
pub mod thread_priority;
pub mod unicode;
