//! latchkey, the login server in one file: the floor plan.
//!
//! # Rooms
//!
//! Two doors, a heart and a cellar. A room uses rooms further down this list, never further up.
//!
//! | room | what lives there | alone knows |
//! | --- | --- | --- |
//! | `main.rs` | hands argv to the first door | |
//! | [`cli`] | door 1, argv: the server, and commands that reach it over a socket or open the data; exit codes | the terminal |
//! | [`server`] | the frame: open, bind, serve, drain, stop; [`purge`], the janitor | |
//! | [`supervisor`] | what systemd hands in and is told | sd-notify, listenfd |
//! | [`config`] | every setting, checked once | |
//! | [`http`] | door 2, HTTP: routes, guard, fields, errors, pages | poem |
//! | [`auth`] | the heart: decides who may enter; users out and in | jsonwebtoken, scrypt, the hashes of others |
//! | [`store`] | the cellar: tables, transactions, the schema, the data directory | redb, bincode |
//! | [`model`] | the nouns: plain data, parsed once | |
//! | [`metrics`] | what is counted, and its text for Prometheus | |
//! | [`clock`], [`random`] | the only readers of wall-clock time and of the system's random numbers | |
//!
//! # The path of a request
//!
//! ```text
//! POST /auth/login    http::auth       form or JSON -> Email, Password: the only place with a 400
//!                     auth::Auth       too often? (throttle), find the user, verify the password (a decoy if there is none), sign
//!                     store            one read
//! GET /auth/user      http::guard      header -> token text
//!                     auth::Auth       signature and expiry first: garbage never reaches the disk
//!                     store            ONE snapshot: blacklisted? still a user? -> Caller; the handler does no I/O
//! POST /auth/logout   guard, then Auth::log_out(Caller) -> store: durable, then 200
//! ```
//!
//! Reads of the store run on the thread that answers the request, in the snapshot of the last commit: a lookup takes
//! microseconds. Writes go to one writing thread, where those that wait share a commit; hashes go to hashing threads; the
//! request waits without holding a thread.
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
//! `store::StoreError -> auth::AuthError -> http::ApiError -> bytes`, each mapped variant by variant. The doors of argv
//! collect causes with `anyhow`. A text that goes to a client says nothing about the inside; its cause goes to the log.

pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod http;
pub mod metrics;
pub mod model;
pub mod purge;
pub mod random;
pub mod server;
pub mod store;
pub mod supervisor;
