//! All integration tests in one binary, which links once. They speak through the doors: HTTP and argv.

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
mod module_cycles;
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
