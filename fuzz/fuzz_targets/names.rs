//! Names of widgets, URLs and ids: what is taken is kept to the byte, and has none that ends a header or a line.
#![no_main]

use latchkey::model::{InfoUrl, PublicId, TokenId, WidgetName};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(name) = WidgetName::parse(text) {
        assert_eq!(name.as_str(), text);
        assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    if let Ok(url) = InfoUrl::parse(text) {
        assert_eq!(url.as_str(), text);
        assert!(!text.contains(char::is_control) && text[..4].eq_ignore_ascii_case("http"));
    }
    if let Some(id) = PublicId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
    if let Some(id) = TokenId::parse(text) {
        assert_eq!(id.to_string(), text);
    }
});
