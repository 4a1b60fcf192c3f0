//! How many connections there may be, and how long each may take for what.
//!
//! Guarantees: nobody holds more than a share of the connections; a client that is slow, with its header, its body or with
//! taking its answer, or that asks for nothing, is cut off in time; and connections leave descriptors for the files of the
//! server. A request costs a few atomic stores: one sweep looks at all the deadlines, in place of a timer for each.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

use super::{client::TrustedProxy, head::Refusal};
use crate::metrics::{Held, METRICS};

/// File descriptors that connections leave to the database, the pages of a backup, and other listeners.
const FILES_KEPT: u64 = 64;
/// How much of an answer the system may keep that the client did not take yet; it would be 4 MiB and more.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: usize = 32 * 1024;
/// How much all connections together may keep of large requests that are not complete, in bytes as received. It takes up to three
/// times that of memory, and has to fit into a machine of 256 MiB beside all the rest.
const BEGUN_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How much of a request is not counted there, so that ordinary ones are taken also where large ones have taken all the room.
const BEGUN_BYTES_FREE: u64 = 4 * 1024;
/// What a request counts for at most: of a larger one, no more is kept.
const BEGUN_BYTES_EACH_MAX: u64 = 64 * 1024;
/// How often deadlines are looked at: as often as the shortest of them needs, within these bounds.
const SWEEP_MIN: Duration = Duration::from_millis(5);
const SWEEP_MAX: Duration = Duration::from_millis(500);

/// The limits of the connections of one listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most connections at the same time.
    pub connections: usize,
    /// The most of one client: one address of IPv4, a /64 of IPv6.
    pub per_client: usize,
    /// Those in front of us, who are many clients in one.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// From connecting, or the first byte of a header, to its end. A TLS handshake is within it.
    pub header: Duration,
    /// From the end of a header to the end of the body.
    pub body: Duration,
    /// From the end of a header until the client took the answer.
    pub request: Duration,
    /// From an answer to the next request.
    pub idle: Duration,
}

/// Lets connections in, and cuts off those whose time is up.
pub(super) struct Turnstile {
    limits: Limits,
    connections: usize,
    sweep_every: Duration,
    started: Instant,
    /// When the last sweep began, in milliseconds since `started`: the clock of all deadlines.
    now_ms: AtomicU64,
    stopping: AtomicBool,
    /// How much is kept of large requests that are not complete.
    begun_bytes: AtomicU64,
    inside: Mutex<Inside>,
    watched: Mutex<Vec<(Weak<Pulse>, AbortHandle)>>,
}

#[derive(Default)]
struct Inside {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Turnstile {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        let shortest = limits.header.min(limits.body).min(limits.request).min(limits.idle);
        Arc::new(Self {
            connections: with_files(limits.connections),
            limits,
            sweep_every: (shortest / 8).clamp(SWEEP_MIN, SWEEP_MAX),
            started: Instant::now(),
            now_ms: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            begun_bytes: AtomicU64::new(0),
            inside: Mutex::default(),
            watched: Mutex::default(),
        })
    }

    /// Counts a connection until its pulse is dropped; `None` where there are too many.
    pub(super) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Option<Arc<Pulse>> {
        let client = client(peer.ip());
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = inside.by_client.get(&client).copied().unwrap_or(0);
        let is_one = || !TrustedProxy::is_among(&self.limits.trusted_proxies, peer.ip().to_canonical());
        if inside.all >= self.connections || of_client >= self.limits.per_client && is_one() {
            METRICS.connections_refused.inc();
            return None;
        }
        inside.all += 1;
        inside.by_client.insert(client, of_client + 1);
        drop(inside);
        let pulse = Pulse {
            turnstile: Arc::clone(self),
            client,
            deadline_ms: AtomicU64::new(self.in_ms(self.limits.header)),
            head_ended_ms: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            refused: OnceLock::new(),
            begun_bytes: AtomicU64::new(0),
            _counted: METRICS.connections.hold(),
        };
        Some(Arc::new(pulse))
    }

    /// Ends `task` when the time of `pulse` is up.
    pub(super) fn watch(&self, pulse: Weak<Pulse>, task: AbortHandle) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push((pulse, task));
    }

    /// Never returns.
    pub(super) async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.sweep_every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = millis(self.started.elapsed());
            self.now_ms.store(now, Relaxed);
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.retain(|(pulse, task)| {
                let Some(pulse) = pulse.upgrade() else { return false };
                let in_time = pulse.deadline_ms.load(Relaxed) > now;
                if !in_time {
                    METRICS.connections_timed_out.inc();
                    tracing::debug!(client = %pulse.client, "a connection was cut off: its time was up");
                    task.abort();
                }
                in_time
            });
        }
    }

    /// From now on answers are the last of their connections.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// One sweep later than asked for, since the clock is one behind: nobody is cut off early.
    fn in_ms(&self, limit: Duration) -> u64 {
        self.now_ms.load(Relaxed) + millis(limit + self.sweep_every)
    }
}

/// How a connection is doing: the one deadline it has, and how far it is.
pub(super) struct Pulse {
    turnstile: Arc<Turnstile>,
    client: IpAddr,
    deadline_ms: AtomicU64,
    head_ended_ms: AtomicU64,
    /// Heads that were read, and requests that were answered.
    heads: AtomicU64,
    answers: AtomicU64,
    /// Which head is not taken, and why.
    refused: OnceLock<(u64, Refusal)>,
    /// Its share of what is kept.
    begun_bytes: AtomicU64,
    _counted: Held,
}

impl Pulse {
    /// A header began. That gives no time beyond what there was: an empty line may stand before it, and again and again.
    pub(super) fn head_began(&self) {
        if !self.is_busy() {
            self.deadline_ms.fetch_min(self.turnstile.in_ms(self.turnstile.limits.header), Relaxed);
        }
    }

    /// `heads` headers were read to their ends.
    pub(super) fn heads_ended(&self, heads: u64) {
        self.heads.fetch_add(heads, Relaxed);
        self.asked();
    }

    /// The header being read is not taken.
    pub(super) fn head_is_refused(&self, why: Refusal) {
        let _ = self.refused.set((self.heads.load(Relaxed), why)); // nothing is read after the first
    }

    /// So many bytes came of a request that is not complete. Returns whether there is room for them.
    pub(super) fn keep(&self, bytes: u64) -> bool {
        let bytes = bytes.min(BEGUN_BYTES_EACH_MAX).saturating_sub(BEGUN_BYTES_FREE);
        let before = self.begun_bytes.load(Relaxed); // one task at a time reads from a connection
        if bytes == before {
            return true;
        }
        self.begun_bytes.store(bytes, Relaxed);
        let all = &self.turnstile.begun_bytes;
        if bytes < before {
            all.fetch_sub(before - bytes, Relaxed);
            return true;
        }
        let more = bytes - before;
        let has_room = all.fetch_add(more, Relaxed) + more <= BEGUN_BYTES_MAX;
        if !has_room {
            METRICS.connections_refused.inc();
            tracing::debug!(client = %self.client, "a connection was closed: too many large requests are incomplete");
        }
        has_room
    }

    /// A request begins that has a body.
    pub(super) fn body_began(&self) {
        let limits = &self.turnstile.limits;
        self.must_within(limits.body.min(limits.request));
    }

    /// The body was read, or what was read of it is enough.
    pub(super) fn body_ended(&self) {
        let deadline =
            self.head_ended_ms.load(Relaxed) + millis(self.turnstile.limits.request + self.turnstile.sweep_every);
        self.deadline_ms.store(deadline, Relaxed);
    }

    /// Why the request to be answered now is refused for its header, where it is.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refused.get().filter(|(head, _)| self.answers.load(Relaxed) >= *head).map(|(_, why)| *why)
    }

    /// There is an answer; the client does not have it yet.
    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }

    /// The client took the answer. `between` is whether nothing of another request is there.
    pub(super) fn settled(&self, between: bool) {
        if self.is_busy() {
            self.asked(); // the next was sent before
        } else {
            let limits = &self.turnstile.limits;
            self.must_within(if between { limits.idle } else { limits.header });
        }
    }

    /// Whether a request is being answered.
    pub(super) fn is_busy(&self) -> bool {
        self.heads.load(Relaxed) > self.answers.load(Relaxed)
    }

    /// Whether the server stops.
    pub(super) fn is_last(&self) -> bool {
        self.turnstile.stopping.load(Relaxed)
    }

    fn asked(&self) {
        self.head_ended_ms.store(self.turnstile.now_ms.load(Relaxed), Relaxed);
        self.must_within(self.turnstile.limits.request);
    }

    fn must_within(&self, limit: Duration) {
        self.deadline_ms.store(self.turnstile.in_ms(limit), Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.turnstile.begun_bytes.fetch_sub(*self.begun_bytes.get_mut(), Relaxed);
        let mut inside = self.turnstile.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all -= 1;
        if let Some(count) = inside.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                inside.by_client.remove(&self.client);
            }
        }
    }
}

/// Who counts as one: an address of IPv4, or all that a subscriber of IPv6 is given (RFC 6177).
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Keeps the system from holding megabytes for each client that does not take its answer. Connections inherit it.
#[cfg(target_os = "linux")]
pub(super) fn limit_unsent(listener: &tokio::net::TcpListener) {
    if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(listener, UNSENT_BYTES_MAX) {
        tracing::debug!(%error, "cannot limit what the system keeps to be sent");
    }
}

/// Elsewhere the system's own limits hold.
#[cfg(not(target_os = "linux"))]
pub(super) fn limit_unsent(_: &tokio::net::TcpListener) {}

/// As many of the `wanted` connections as there are file descriptors for, once this process may have as many as it can get.
#[cfg(target_os = "linux")]
fn with_files(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = wanted as u64 + FILES_KEPT;
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    if current >= needed {
        return wanted;
    }
    let raised = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let set = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum: limit.maximum });
    let files = if set.is_ok() { raised } else { current };
    if files >= needed {
        return wanted;
    }
    let left = usize::try_from(files.saturating_sub(FILES_KEPT).max(files / 2)).unwrap_or(wanted);
    tracing::warn!(wanted, connections = left, "there are too few file descriptors for --connections");
    left
}

/// Elsewhere who runs the server sees to it.
#[cfg(not(target_os = "linux"))]
fn with_files(wanted: usize) -> usize {
    wanted
}
