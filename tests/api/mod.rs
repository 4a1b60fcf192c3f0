//! Black box over HTTP against the real server on a free port. The files mirror the URLs.

pub(crate) mod harness;
mod raw;

mod bearer;
mod document;
mod forgery;
mod ground_rules;
mod http;
mod login;
mod logout;
mod register;
mod secrets;
mod user;
mod widgets;
mod widgets_deadlines;
mod widgets_rules;
