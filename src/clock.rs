//! The only reader of wall-clock time, so that a test can decide what time it is.
//!
//! Guarantees: no other file asks the system for the date (`clippy.toml` bans the calls). Deliberately absent: monotonic
//! time; measuring a duration with `Instant` needs no clock to be passed in.

use std::sync::atomic::{AtomicI64, Ordering};

use time::OffsetDateTime;

/// A source of wall-clock time.
pub trait Clock: Send + Sync + 'static {
    /// Returns the current time in UTC.
    fn now(&self) -> OffsetDateTime;

    /// Returns the current time as a `NumericDate` (RFC 7519 §2): whole seconds since 1970-01-01T00:00:00Z, or 0 if the clock is before
    /// that.
    fn unix_s(&self) -> u64 {
        u64::try_from(self.now().unix_timestamp()).unwrap_or(0)
    }
}

/// The clock of the operating system.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        #[expect(clippy::disallowed_methods, reason = "this is the one place that may ask")]
        OffsetDateTime::now_utc()
    }
}

/// A clock for tests, which changes only when it is set.
#[derive(Debug)]
pub struct ManualClock {
    unix_s: AtomicI64,
}

impl ManualClock {
    /// Creates a clock at `unix_s` seconds since 1970.
    #[must_use]
    pub fn at(unix_s: i64) -> Self {
        Self { unix_s: AtomicI64::new(unix_s) }
    }

    /// Moves the clock by `seconds`, backwards if negative.
    pub fn advance(&self, seconds: i64) {
        self.unix_s.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.unix_s.load(Ordering::SeqCst)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}
