//! Deadlines: one that is taken is of today or later, and is taken again as it is stored.
#![no_main]

use latchkey::model::Deadline;
use libfuzzer_sys::fuzz_target;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

fuzz_target!(|text: &str| {
    let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
    if let Ok(deadline) = Deadline::parse(text, now) {
        assert!(deadline.moment().date() >= now.date());
        let again = Deadline::parse(&deadline.moment().format(&Rfc3339).unwrap(), now).unwrap();
        assert_eq!(again, deadline);
    }
});
