//! New passwords: one that is taken has the length that was asked for.
#![no_main]

use latchkey::auth::passwords::policy::{Password, PasswordPolicy};
use libfuzzer_sys::fuzz_target;
use zeroize::Zeroizing;

fuzz_target!(|text: &str| {
    let policy = PasswordPolicy { chars_min: 8, chars_max: 128, allow_common: false };
    if policy.check(&Password::new(Zeroizing::new(text.to_owned())), None).is_ok() {
        assert!((8..=128).contains(&text.chars().count()));
    }
});
