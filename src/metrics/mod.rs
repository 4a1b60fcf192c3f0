//! The metrics and their text for Prometheus (exposition format 0.0.4).
//!
//! Guarantees: counting is a few atomic additions; the number of series does not grow with traffic, since routes are those
//! that are served, methods and statuses those below, and everything else is `other`. Counts are those of this process since
//! it started; there is one set of them, as there is one process. Deliberately absent: anything about a single person.
//!
//! Why not `prometheus-client`: it writes the format `OpenMetrics` alone, not the 0.0.4 text that is served here, appends a second `_total`
//! to the names of our counters, and a counter with labels costs 33 ns to find and raise (a hash lookup under a lock) instead of 5 ns.

mod instruments;

use std::{
    collections::BTreeMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use time::OffsetDateTime;

use crate::model::KeyState;
use instruments::{Histogram, head, line};

pub use instruments::{Counter, Gauge, GaugeGuard};

/// The metrics of this process.
pub static METRICS: Metrics = Metrics::new();

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"];
const STATUSES: [u16; 20] =
    [200, 201, 204, 304, 400, 401, 403, 404, 405, 409, 411, 413, 414, 415, 429, 431, 500, 501, 503, 0];
/// The label value for a method, status or route that is not listed.
const OTHER: &str = "other";
const KEY_STATES: [&str; 3] = ["next", "current", "retired"];
const SECONDS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const WRITES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0];

/// The requests of one method on one route.
struct Requests {
    statuses: [AtomicU64; STATUSES.len()],
    duration: Histogram<{ SECONDS.len() }>,
}

impl Requests {
    const fn new() -> Self {
        Self { statuses: [const { AtomicU64::new(0) }; STATUSES.len()], duration: Histogram::new(&SECONDS) }
    }
}

type Route = [Requests; METHODS.len()];

/// Every metric.
pub struct Metrics {
    requests: RwLock<BTreeMap<String, Route>>,
    /// Logins with the right password.
    pub logins_good: Counter,
    /// Logins that were refused for what was typed.
    pub logins_bad: Counter,
    /// Logins that were turned away because too many waited, or because the store failed.
    pub logins_failed: Counter,
    /// Registrations and calls that check a password, turned away because too many came from their address.
    pub throttled_address: Counter,
    /// Calls that check a password, turned away after wrong ones for the same account from the same address.
    pub throttled_account: Counter,
    /// Passwords that are being hashed.
    pub hashes_running: Gauge,
    /// Passwords that wait to be hashed.
    pub hashes_waiting: Gauge,
    /// Access tokens that were made.
    pub tokens_issued: Counter,
    /// Access tokens that were logged out.
    pub tokens_blacklisted: Counter,
    /// Runs of the purge.
    pub purge_runs: Counter,
    /// Entries of the blacklist that the purge removed.
    pub purged: Counter,
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that were turned away because there were too many.
    pub connections_refused: Counter,
    /// Connections that were cut off because their time was up.
    pub connections_timed_out: Counter,
    /// Handlers that panicked, each answered with a 500: a defect.
    pub panics: Counter,
    /// How often the database was opened again after a disk error.
    pub database_reopened: Counter,
    backups_good: Counter,
    backups_failed: Counter,
    /// The time of the last good backup in seconds since 1970, or 0 if there is none.
    last_backup_s: AtomicU64,
    /// Runs of the key rotation task.
    pub key_checks: Counter,
    /// The number of signing keys in each of [`KEY_STATES`].
    signing_keys: [AtomicU64; KEY_STATES.len()],
    /// The time since which the current key signs, in seconds since 1970, or 0.
    signing_key_since_s: AtomicU64,
    /// Tokens with a good signature, by the state of their key.
    tokens_verified: [Counter; KEY_STATES.len()],
    commit: Histogram<{ SECONDS.len() }>,
    commit_writes: Histogram<{ WRITES.len() }>,
}

/// The sizes that are read from the store at each scrape.
pub struct DatabaseSizes {
    /// Accounts.
    pub users: u64,
    /// Accounts whose password hash another system made.
    pub foreign_password_hashes: u64,
    /// Entries of the blacklist.
    pub blacklist: u64,
    /// The length of the database file in bytes.
    pub database_bytes: u64,
}

impl Metrics {
    const fn new() -> Self {
        Self {
            requests: RwLock::new(BTreeMap::new()),
            logins_good: Counter::new(),
            logins_bad: Counter::new(),
            logins_failed: Counter::new(),
            throttled_address: Counter::new(),
            throttled_account: Counter::new(),
            hashes_running: Gauge::new(),
            hashes_waiting: Gauge::new(),
            tokens_issued: Counter::new(),
            tokens_blacklisted: Counter::new(),
            purge_runs: Counter::new(),
            purged: Counter::new(),
            connections: Gauge::new(),
            connections_refused: Counter::new(),
            connections_timed_out: Counter::new(),
            panics: Counter::new(),
            database_reopened: Counter::new(),
            backups_good: Counter::new(),
            backups_failed: Counter::new(),
            last_backup_s: AtomicU64::new(0),
            key_checks: Counter::new(),
            signing_keys: [const { AtomicU64::new(0) }; KEY_STATES.len()],
            signing_key_since_s: AtomicU64::new(0),
            tokens_verified: [const { Counter::new() }; KEY_STATES.len()],
            commit: Histogram::new(&SECONDS),
            commit_writes: Histogram::new(&WRITES),
        }
    }

    /// Counts a request. `route` is the path template that it matches, or `None` if it matches none.
    pub fn count_request(&self, route: Option<&str>, method: &str, status: u16, took: Duration) {
        let route = route.unwrap_or(OTHER);
        let count = |routes: &BTreeMap<String, Route>| {
            let route = routes.get(route)?;
            let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
            let place = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len() - 1);
            route[method].statuses[place].fetch_add(1, Relaxed);
            route[method].duration.count_duration(took);
            Some(())
        };
        if count(&self.requests.read().unwrap_or_else(PoisonError::into_inner)).is_none() {
            let mut routes = self.requests.write().unwrap_or_else(PoisonError::into_inner);
            routes.entry(route.to_owned()).or_insert_with(|| [const { Requests::new() }; METHODS.len()]);
            count(&routes);
        }
    }

    /// Counts a commit of `writes` writes that took `took`.
    #[expect(clippy::cast_precision_loss, reason = "a batch is far smaller than 2^53")]
    pub fn count_commit(&self, writes: usize, took: Duration) {
        self.commit.count_duration(took);
        self.commit_writes.count(writes as f64, writes as u64 * 1_000_000);
    }

    /// Returns all metrics as text for Prometheus. `sizes` is `None` if the store cannot be read.
    #[must_use]
    pub fn text(&self, sizes: Option<&DatabaseSizes>) -> String {
        let mut text = String::new();
        self.write_requests(&mut text);
        let counter = |counter: &Counter| Some(counter.0.load(Relaxed));
        let gauge = |gauge: &Gauge| u64::try_from(gauge.0.load(Relaxed)).ok();
        head(
            &mut text,
            "latchkey_logins_total",
            "counter",
            "Logins by outcome: good, bad (email or password), failed (503).",
        );
        for (outcome, logins) in
            [("good", &self.logins_good), ("bad", &self.logins_bad), ("failed", &self.logins_failed)]
        {
            line(&mut text, "latchkey_logins_total", &format!("outcome=\"{outcome}\""), logins.0.load(Relaxed));
        }
        let name = "latchkey_backups_total";
        head(&mut text, name, "counter", "Backups that the server made by itself, by outcome: good, failed.");
        for (outcome, backups) in [("good", &self.backups_good), ("failed", &self.backups_failed)] {
            line(&mut text, name, &format!("outcome=\"{outcome}\""), backups.0.load(Relaxed));
        }
        let name = "latchkey_signing_keys";
        head(&mut text, name, "gauge", "Signing keys by state: next, current, retired.");
        for (state, keys) in KEY_STATES.iter().zip(&self.signing_keys) {
            line(&mut text, name, &format!("state=\"{state}\""), keys.load(Relaxed));
        }
        let name = "latchkey_tokens_verified_total";
        head(&mut text, name, "counter", "Tokens with a good signature, by the state of their key.");
        for (state, tokens) in KEY_STATES.iter().zip(&self.tokens_verified) {
            line(&mut text, name, &format!("key=\"{state}\""), tokens.0.load(Relaxed));
        }
        let name = "latchkey_throttled_total";
        head(&mut text, name, "counter", "Answers of 429: by address alone, by account and address.");
        for (by, count) in [("address", &self.throttled_address), ("account", &self.throttled_account)] {
            line(&mut text, name, &format!("by=\"{by}\""), count.0.load(Relaxed));
        }
        for (name, kind, help, value) in [
            ("hashes_running", "gauge", "Passwords that are being hashed.", gauge(&self.hashes_running)),
            ("hashes_waiting", "gauge", "Passwords that wait to be hashed.", gauge(&self.hashes_waiting)),
            ("tokens_issued_total", "counter", "Access tokens made.", counter(&self.tokens_issued)),
            ("tokens_blacklisted_total", "counter", "Access tokens logged out.", counter(&self.tokens_blacklisted)),
            ("blacklist_entries", "gauge", "Entries of the blacklist.", sizes.map(|sizes| sizes.blacklist)),
            ("purge_runs_total", "counter", "Runs of the purge.", counter(&self.purge_runs)),
            ("purged_entries_total", "counter", "Entries the purge removed.", counter(&self.purged)),
            ("key_checks_total", "counter", "Runs of the check which signing keys are due.", counter(&self.key_checks)),
            ("connections", "gauge", "Connections open.", gauge(&self.connections)),
            (
                "connections_refused_total",
                "counter",
                "Connections turned away: too many, or too many large requests.",
                counter(&self.connections_refused),
            ),
            (
                "connections_timed_out_total",
                "counter",
                "Connections cut off: time was up.",
                counter(&self.connections_timed_out),
            ),
            ("panics_total", "counter", "Requests whose handler panicked: a defect.", counter(&self.panics)),
            ("users", "gauge", "Accounts.", sizes.map(|sizes| sizes.users)),
            (
                "foreign_password_hashes",
                "gauge",
                "Accounts whose password hash another system made; the next login replaces it.",
                sizes.map(|sizes| sizes.foreign_password_hashes),
            ),
            (
                "database_reopened_total",
                "counter",
                "How often it was opened again after a disk error.",
                counter(&self.database_reopened),
            ),
            (
                "last_backup_timestamp_seconds",
                "gauge",
                "Time of the last good backup that the server made.",
                Some(self.last_backup_s.load(Relaxed)).filter(|time| *time > 0),
            ),
            (
                "signing_key_since_timestamp_seconds",
                "gauge",
                "Time since which the current signing key signs.",
                Some(self.signing_key_since_s.load(Relaxed)).filter(|time| *time > 0),
            ),
            ("database_bytes", "gauge", "Length of the database file.", sizes.map(|sizes| sizes.database_bytes)),
        ] {
            let name = format!("latchkey_{name}");
            if let Some(value) = value {
                head(&mut text, &name, kind, help);
                line(&mut text, &name, "", value);
            }
        }
        let name = "latchkey_commit_duration_seconds";
        head(&mut text, name, "histogram", "How long making a batch of writes durable took.");
        self.commit.write(&mut text, name, "");
        head(&mut text, "latchkey_commit_writes", "histogram", "Writes made durable together.");
        self.commit_writes.write(&mut text, "latchkey_commit_writes", "");
        head(&mut text, "latchkey_build_info", "gauge", "Always 1; the version is a label.");
        line(&mut text, "latchkey_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
        text
    }

    /// Counts a token with a good signature, of a key in this state.
    pub fn count_token_of(&self, state: KeyState) {
        self.tokens_verified[place(state)].inc();
    }

    /// Sets the states of all signing keys.
    pub fn set_signing_keys(&self, states: impl Iterator<Item = KeyState>) {
        let mut counts = [0; KEY_STATES.len()];
        for state in states {
            counts[place(state)] += 1;
            if let KeyState::Current { since_s } = state {
                self.signing_key_since_s.store(since_s, Relaxed);
            }
        }
        self.signing_keys.iter().zip(counts).for_each(|(gauge, count)| gauge.store(count, Relaxed));
    }

    /// Counts a backup that the server made by itself, or tried to.
    pub fn count_backup(&self, good: bool) {
        if good { self.backups_good.inc() } else { self.backups_failed.inc() }
    }

    /// Sets the time of the last good backup, or that there is none.
    pub fn set_last_backup(&self, time: Option<OffsetDateTime>) {
        let seconds = time.and_then(|time| u64::try_from(time.unix_timestamp()).ok());
        self.last_backup_s.store(seconds.unwrap_or(0), Relaxed);
    }

    fn write_requests(&self, text: &mut String) {
        let routes = self.requests.read().unwrap_or_else(PoisonError::into_inner);
        let series =
            || routes.iter().flat_map(|(route, methods)| methods.iter().zip(METHODS).map(move |of| (route, of)));
        let name = "latchkey_http_requests_total";
        head(text, name, "counter", "Requests answered, by route, method and status.");
        for (route, (requests, method)) in series() {
            for (count, status) in requests.statuses.iter().zip(STATUSES) {
                let status = if status == 0 { OTHER.to_owned() } else { status.to_string() };
                let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
                match count.load(Relaxed) {
                    0 => {}
                    count => line(text, name, &labels, count),
                }
            }
        }
        let name = "latchkey_http_request_duration_seconds";
        head(text, name, "histogram", "How long answering took, by route and method.");
        for (route, (requests, method)) in series() {
            if requests.statuses.iter().any(|count| count.load(Relaxed) > 0) {
                requests.duration.write(text, name, &format!("route=\"{route}\",method=\"{method}\","));
            }
        }
    }
}

/// Returns the place of a state in [`KEY_STATES`].
fn place(state: KeyState) -> usize {
    match state {
        KeyState::Next { .. } => 0,
        KeyState::Current { .. } => 1,
        KeyState::Retired { .. } => 2,
    }
}
