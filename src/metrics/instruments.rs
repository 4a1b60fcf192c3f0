//! Counters, gauges and histograms, and their lines of text.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A sum is stored in millionths, so that it is an integer.
const MILLION: f64 = 1e6;

/// A counter: it only increases.
pub struct Counter(pub(super) AtomicU64);

impl Counter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }
}

/// A gauge: it increases and decreases.
pub struct Gauge(pub(super) AtomicI64);

impl Gauge {
    pub(super) const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Adds one, until the returned value is dropped.
    pub fn hold(&'static self) -> GaugeGuard {
        self.0.fetch_add(1, Relaxed);
        GaugeGuard(self)
    }
}

/// A guard that subtracts one from its [`Gauge`] when it is dropped.
pub struct GaugeGuard(&'static Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// A histogram: the number of values up to each of `N` upper bounds.
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    buckets: [AtomicU64; N],
    beyond: AtomicU64,
    sum_millionths: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    pub(super) const fn new(bounds: &'static [f64; N]) -> Self {
        let buckets = [const { AtomicU64::new(0) }; N];
        Self { bounds, buckets, beyond: AtomicU64::new(0), sum_millionths: AtomicU64::new(0) }
    }

    pub(super) fn count(&self, value: f64, millionths: u64) {
        let place = self.bounds.iter().position(|bound| value <= *bound);
        place.map_or(&self.beyond, |place| &self.buckets[place]).fetch_add(1, Relaxed);
        self.sum_millionths.fetch_add(millionths, Relaxed);
    }

    pub(super) fn count_duration(&self, took: Duration) {
        self.count(took.as_secs_f64(), u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Writes the series. Each of `labels` ends with a comma.
    #[expect(clippy::cast_precision_loss, reason = "a sum beyond 2^53 millionths may be rounded")]
    pub(super) fn write(&self, text: &mut String, name: &str, labels: &str) {
        let mut below = 0;
        for (bound, bucket) in self.bounds.iter().zip(&self.buckets) {
            below += bucket.load(Relaxed);
            line(text, &format!("{name}_bucket"), &format!("{labels}le=\"{bound}\""), below);
        }
        let all = below + self.beyond.load(Relaxed);
        line(text, &format!("{name}_bucket"), &format!("{labels}le=\"+Inf\""), all);
        let labels = labels.trim_end_matches(',');
        line(text, &format!("{name}_sum"), labels, self.sum_millionths.load(Relaxed) as f64 / MILLION);
        line(text, &format!("{name}_count"), labels, all);
    }
}

/// Writes the two lines about a metric that come before its series.
pub(super) fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("BUG: writing to memory does not fail");
}

/// Writes one series.
pub(super) fn line(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    writeln!(text, "{name}{labels} {value}").expect("BUG: writing to memory does not fail");
}
