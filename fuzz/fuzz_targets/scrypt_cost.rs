//! The setting of the cost of scrypt: one that is taken stays within the bounds.
#![no_main]

use latchkey::auth::passwords::scrypt_cost::ScryptCost;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(cost) = text.parse::<ScryptCost>() {
        assert!(cost.memory_bytes() <= 512 << 20);
    }
});
