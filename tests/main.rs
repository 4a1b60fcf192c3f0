//! All integration tests in one binary, which links once. They speak through the doors: HTTP and argv.

mod api;
mod tidy;
mod upgrade;
