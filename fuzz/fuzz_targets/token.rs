//! Tokens: none is taken but the one that was signed, and the claims of a payload that the key signs are those it says.
#![no_main]

use std::sync::LazyLock;

use latchkey::{
    auth::tokens::{NewToken, Ring, TokenSettings, Tokens, key::Key},
    model::PublicId,
};
use libfuzzer_sys::fuzz_target;

static TOKENS: LazyLock<(Tokens, String)> = LazyLock::new(|| {
    let settings = TokenSettings { lifetime_s: 3600, ..TokenSettings::default() };
    let tokens = Tokens::new(settings, Ring::of_key(Key::of_secret(&[7; 32], None), 3600));
    let token = tokens.sign(&NewToken {
        issued_at_s: 1_800_000_000,
        expires_at_s: 1_800_003_600,
        subject: PublicId::from_bytes([1; 16]),
        admin: false,
        epoch: 0,
    });
    (tokens, token)
});

fuzz_target!(|text: &str| {
    let (tokens, token) = &*TOKENS;
    assert!(tokens.verify(text).is_none() || text == token);
    // Behind the header that is compared first, so that the rest is reached.
    let header = token.split('.').next().unwrap();
    let with_header = format!("{header}.{text}");
    assert!(tokens.verify(&with_header).is_none() || with_header == *token);
});
