//! Text formats of times and durations in responses.
//!
//! Guarantees: a time is always in UTC and says so. Deliberately absent: parsing; only `model::Deadline` reads dates.

use time::{
    OffsetDateTime,
    format_description::{
        StaticFormatDescription,
        well_known::{Rfc2822, Rfc3339},
    },
    macros::format_description,
};

const US: StaticFormatDescription =
    format_description!("[month]/[day]/[year repr:last_two] [hour repr:12]:[minute]:[second] [period] UTC");
const EXPECT: &str = "BUG: moments are stored in UTC with a year of four digits";
const DAY_S: u64 = 24 * 60 * 60;

/// `02/28/20 11:38:53 PM UTC`
pub fn us(moment: OffsetDateTime) -> String {
    moment.format(US).expect(EXPECT)
}

/// `2020-02-28T23:38:53Z` (ISO 8601, RFC 3339)
pub fn iso8601(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).expect(EXPECT)
}

/// `Fri, 28 Feb 2020 23:38:53 +0000` (RFC 822 with the year of four digits of RFC 2822)
pub fn rfc822(moment: OffsetDateTime) -> String {
    moment.format(&Rfc2822).expect(EXPECT)
}

/// `00:14:42`, with days `2 days, 00:14:42`
pub fn clock_span(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY_S, seconds % DAY_S);
    let clock = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days == 0 { clock } else { format!("{}, {clock}", counted(days, "day")) }
}

/// `2 days 3 hours 4 minutes 5 seconds` without the parts that are zero; `None` for nothing at all
pub fn word_span(seconds: u64) -> Option<String> {
    let parts = [
        (seconds / DAY_S, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let words: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| counted(*n, unit)).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

fn counted(n: u64, unit: &str) -> String {
    if n == 1 { format!("1 {unit}") } else { format!("{n} {unit}s") }
}
