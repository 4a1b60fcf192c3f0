//! Black box over HTTP against the real server on a free port. The files mirror the URLs.

pub(crate) mod ambiguous;
pub(crate) mod harness;
pub(crate) mod log;
pub(crate) mod raw;

mod account;
mod bearer;
mod busy;
mod disk;
mod document;
mod forgery;
mod ground_rules;
mod guessing;
mod house_rules;
mod http;
mod login;
mod logout;
mod matrix;
mod metrics;
mod mutations;
mod naughty;
mod ops;
mod origin;
mod panics;
mod proxied;
mod races;
mod register;
mod secrets;
mod signup;
mod small;
mod user;
mod users;
mod widgets;
mod widgets_deadlines;
mod widgets_rules;
mod wire;
mod wire_held;
