//! All integration tests in one binary, which links once. They speak through the doors: HTTP and argv.

#![allow(clippy::unwrap_used, reason = "in a test it is an assertion")]

mod api;
mod browser;
mod cli;
mod stopping;
mod tidy;
mod upgrade;
