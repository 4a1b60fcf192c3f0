//! Passwords: the requirements for new ones, and how and when they are hashed and verified.
//!
//! [`policy`] decides which passwords are accepted, [`scrypt_cost`] makes new hashes, [`stored_hash`] reads and verifies stored hashes,
//! our own and those of other systems, and [`hasher`] runs the work on threads of its own (`queue`). [`scheduler`] decides which jobs are
//! queued and which are refused, [`fair_queue`] which of them runs next, by what each client used lately (`usage`).
//!
//! Guarantees: a password exists in clear only in a [`policy::Password`], which is wiped when it is dropped.

pub mod fair_queue;
pub mod hasher;
pub mod policy;
mod queue;
pub mod scheduler;
pub mod scrypt_cost;
pub mod stored_hash;
mod usage;
