//! `/token`: what services ask about tokens.

pub(in crate::http) mod revocations;
