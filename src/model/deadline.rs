//! The deadline of a widget, parsed from common date formats.

use time::{
    Date, OffsetDateTime, Time, UtcOffset, format_description::well_known::Rfc3339, macros::format_description,
};

/// A time in UTC and whole seconds. Its date was not in the past when it was parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline(OffsetDateTime);

/// The text is not a valid deadline.
#[derive(Debug, thiserror::Error)]
pub enum DeadlineError {
    /// The text has none of the accepted formats.
    #[error(
        "could not be read as a date; write it like 2027-05-13, 2027-05-13T18:30:00Z (RFC 3339), 05/13/2027, 05/13/27, May 13 2027, May 13, 2027 or 13 May 2027"
    )]
    Unreadable,
    /// The date has passed.
    #[error("must be today or later: {given} is before {today} (today, UTC)")]
    Past {
        /// The date that was given, in UTC.
        given: Date,
        /// The date of today, in UTC.
        today: Date,
    },
}

/// The last second of a day. A deadline without a time is due then.
const END_OF_DAY: Time = time::macros::time!(23:59:59);

impl Deadline {
    /// Parses a deadline. Its date in UTC must not be before the date of `now`; the time of day does not matter.
    ///
    /// # Errors
    /// [`DeadlineError`] names the accepted formats, or the two dates that were compared.
    pub fn parse(text: &str, now: OffsetDateTime) -> Result<Self, DeadlineError> {
        let moment = read(text.trim()).ok_or(DeadlineError::Unreadable)?;
        let (given, today) = (moment.date(), now.to_offset(UtcOffset::UTC).date());
        if given < today { Err(DeadlineError::Past { given, today }) } else { Ok(Self(moment)) }
    }

    /// Takes a deadline that [`Deadline::parse`] accepted before it was stored.
    #[must_use]
    pub fn from_stored(moment: OffsetDateTime) -> Self {
        Self(moment)
    }

    /// Returns the time the deadline is due, in UTC.
    #[must_use]
    pub fn moment(self) -> OffsetDateTime {
        self.0
    }
}

fn read(text: &str) -> Option<OffsetDateTime> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        // Near the ends of the calendar another offset has no date: checked, so that it cannot panic.
        return moment.checked_to_offset(UtcOffset::UTC)?.replace_nanosecond(0).ok();
    }
    if let Some(moment) = as_answered(text) {
        return Some(moment);
    }
    let formats = [
        format_description!(version = 2, "[year]-[month]-[day]"),
        format_description!(version = 2, "[month padding:none]/[day padding:none]/[year]"),
        format_description!(
            version = 2,
            "[month repr:long case_sensitive:false] [day padding:none][optional [,]] [year]"
        ),
        format_description!(
            version = 2,
            "[month repr:short case_sensitive:false] [day padding:none][optional [,]] [year]"
        ),
        format_description!(version = 2, "[day padding:none] [month repr:long case_sensitive:false] [year]"),
        format_description!(version = 2, "[day padding:none] [month repr:short case_sensitive:false] [year]"),
    ];
    let date = formats.iter().find_map(|format| Date::parse(text, format).ok()).or_else(|| two_digit_year(text))?;
    Some(date.with_time(END_OF_DAY).assume_utc())
}

/// `05/13/27 11:59:59 PM UTC`, as our own answers have it: what was read can be sent back.
fn as_answered(text: &str) -> Option<OffsetDateTime> {
    let (date, time) = text.split_once(' ')?;
    let format = format_description!(version = 2, "[hour repr:12]:[minute]:[second] [period] UTC");
    Some(two_digit_year(date)?.with_time(Time::parse(time, format).ok()?).assume_utc())
}

/// `05/13/27`: the years 2000 to 2099, since a deadline is never in the last century.
fn two_digit_year(text: &str) -> Option<Date> {
    let (rest, year) = text.rsplit_once('/')?;
    let full = format!("{rest}/20{year}");
    let two_digits = year.len() == 2 && year.bytes().all(|b| b.is_ascii_digit());
    let format = format_description!(version = 2, "[month padding:none]/[day padding:none]/[year]");
    two_digits.then(|| Date::parse(&full, format).ok())?
}
