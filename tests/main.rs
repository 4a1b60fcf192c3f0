//! All integration tests in one binary, which is linked only once. Most of them use only the external interfaces: HTTP and the command
//! line.

mod api;
mod backup;
mod browser;
mod bulk;
mod cli;
mod disk;
mod fairness;
mod full_disk;
mod hashes;
mod import;
mod log;
mod mailboxes;
mod module_cycles;
mod moving;
mod operator;
mod readme;
mod recorded;
mod restore;
mod stopping;
mod supervised;
mod swagger_ui;
mod tidy;
mod tls;
mod upgrade;
mod user_pages;
