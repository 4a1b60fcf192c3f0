//! Stored hashes: any text is read or refused, without running it.
#![no_main]

use latchkey::{auth::passwords::stored_hash::StoredHash, model::PasswordHash};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = StoredHash::read(&PasswordHash::new(text.to_owned()));
});
