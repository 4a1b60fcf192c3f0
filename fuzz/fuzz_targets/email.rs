//! Emails: one that is taken is taken again in its own spelling, and its key is that of its lowercase.
#![no_main]

use latchkey::model::Email;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Email::parse(text) {
        Ok(email) => {
            assert_eq!(email.as_str(), text);
            assert!(text.len() <= 254 && !text.contains(char::is_control) && !text.contains(char::is_whitespace));
            assert!(text.contains('@'));
        }
        Err(error) => assert!(error.to_string().len() < 1200),
    }
});
