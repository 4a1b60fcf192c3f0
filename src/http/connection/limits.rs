//! Limits on connections: how many may be open, and a deadline for each phase of a request.
//!
//! Guarantees: no client holds more than its share of the connections. A client that sends its header or body slowly, reads its
//! response slowly, or stays idle is disconnected at a deadline. Connections leave enough file descriptors for the server's own
//! files. A request costs a few atomic stores: one periodic sweep checks all deadlines, so that no request needs a timer.

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

use crate::{
    http::connection::{head_validator::Refusal, trusted_proxy::TrustedProxy},
    metrics::{GaugeGuard, METRICS},
};

/// File descriptors that connections leave to the database, the pages of a backup, and other listeners.
const DESCRIPTORS_RESERVED: u64 = 64;
/// How much of an answer the system may keep that the client did not take yet; it would be 4 MiB and more.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: usize = 32 * 1024;
/// How much all connections together may keep of large requests that are not complete, in bytes as received. It takes up to three
/// times that of memory, and has to fit into a machine of 256 MiB beside all the rest.
const INCOMPLETE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How much of a request is not counted there, so that ordinary ones are taken also where large ones have taken all the room.
const INCOMPLETE_BYTES_FREE: u64 = 4 * 1024;
/// What a request counts for at most: of a larger one, no more is kept.
const INCOMPLETE_BYTES_EACH_MAX: u64 = 64 * 1024;
/// How often deadlines are looked at: as often as the shortest of them needs, within these bounds.
const SWEEP_MIN: Duration = Duration::from_millis(5);
const SWEEP_MAX: Duration = Duration::from_millis(500);

/// The limits of the connections of one listener.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The most connections at the same time.
    pub connections: usize,
    /// The most of one client: one address of IPv4, a /64 of IPv6.
    pub per_client: usize,
    /// Proxies, which are exempt from the per-client limit.
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

/// Limits how many connections are open, and aborts those whose deadline has passed.
pub(in crate::http) struct ConnectionLimiter {
    limits: ConnectionLimits,
    connections: usize,
    sweep_every: Duration,
    started: Instant,
    /// When the last sweep began, in milliseconds since `started`: the clock of all deadlines.
    now_ms: AtomicU64,
    stopping: AtomicBool,
    /// How much is kept of large requests that are not complete.
    incomplete_bytes: AtomicU64,
    open: Mutex<OpenConnections>,
    watched: Mutex<Vec<(Weak<ConnectionState>, AbortHandle)>>,
}

#[derive(Default)]
struct OpenConnections {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl ConnectionLimiter {
    pub(in crate::http) fn new(limits: ConnectionLimits) -> Arc<Self> {
        let shortest = limits.header.min(limits.body).min(limits.request).min(limits.idle);
        Arc::new(Self {
            connections: raise_descriptor_limit(limits.connections),
            limits,
            sweep_every: (shortest / 8).clamp(SWEEP_MIN, SWEEP_MAX),
            started: Instant::now(),
            now_ms: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            incomplete_bytes: AtomicU64::new(0),
            open: Mutex::default(),
            watched: Mutex::default(),
        })
    }

    /// Counts a new connection until its state is dropped. Returns `None` if the limit is reached.
    pub(in crate::http) fn enter(self: &Arc<Self>, peer: SocketAddr) -> Option<Arc<ConnectionState>> {
        let client = client(peer.ip());
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = open.by_client.get(&client).copied().unwrap_or(0);
        let is_one = || !TrustedProxy::is_among(&self.limits.trusted_proxies, peer.ip().to_canonical());
        if open.all >= self.connections || of_client >= self.limits.per_client && is_one() {
            METRICS.connections_refused.inc();
            return None;
        }
        open.all += 1;
        open.by_client.insert(client, of_client + 1);
        drop(open);
        let connection_state = ConnectionState {
            limiter: Arc::clone(self),
            client,
            deadline_ms: AtomicU64::new(self.in_ms(self.limits.header)),
            head_ended_ms: AtomicU64::new(0),
            heads: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            refused: OnceLock::new(),
            incomplete_bytes: AtomicU64::new(0),
            _counted: METRICS.connections.hold(),
        };
        Some(Arc::new(connection_state))
    }

    /// Ends `task` when the time of `connection_state` is up.
    pub(in crate::http) fn watch(&self, connection_state: Weak<ConnectionState>, task: AbortHandle) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push((connection_state, task));
    }

    /// Never returns.
    pub(in crate::http) async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(self.sweep_every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = millis(self.started.elapsed());
            self.now_ms.store(now, Relaxed);
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            watched.retain(|(connection_state, task)| {
                let Some(connection_state) = connection_state.upgrade() else { return false };
                let in_time = connection_state.deadline_ms.load(Relaxed) > now;
                if !in_time {
                    METRICS.connections_timed_out.inc();
                    tracing::debug!(client = %connection_state.client, "a connection was cut off: its time was up");
                    task.abort();
                }
                in_time
            });
        }
    }

    /// From now on answers are the last of their connections.
    pub(in crate::http) fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// One sweep later than asked for, since the clock is one behind: nobody is cut off early.
    fn in_ms(&self, limit: Duration) -> u64 {
        self.now_ms.load(Relaxed) + millis(limit + self.sweep_every)
    }
}

/// State of one connection: its current deadline and how many requests it has read and answered.
pub(in crate::http) struct ConnectionState {
    limiter: Arc<ConnectionLimiter>,
    client: IpAddr,
    deadline_ms: AtomicU64,
    head_ended_ms: AtomicU64,
    /// Heads that were read, and requests that were answered.
    heads: AtomicU64,
    answers: AtomicU64,
    /// Which head is not taken, and why.
    refused: OnceLock<(u64, Refusal)>,
    /// Its share of what is kept.
    incomplete_bytes: AtomicU64,
    _counted: GaugeGuard,
}

impl ConnectionState {
    /// A header began. That gives no time beyond what there was: an empty line may stand before it, and again and again.
    pub(in crate::http) fn head_began(&self) {
        if !self.is_busy() {
            self.deadline_ms.fetch_min(self.limiter.in_ms(self.limiter.limits.header), Relaxed);
        }
    }

    /// `heads` headers were read to their ends.
    pub(in crate::http) fn heads_ended(&self, heads: u64) {
        self.heads.fetch_add(heads, Relaxed);
        self.asked();
    }

    /// The header being read is not taken.
    pub(in crate::http) fn head_is_refused(&self, why: Refusal) {
        let _ = self.refused.set((self.heads.load(Relaxed), why)); // nothing is read after the first
    }

    /// So many bytes came of a request that is not complete. Returns whether there is room for them.
    pub(in crate::http) fn keep(&self, bytes: u64) -> bool {
        let bytes = bytes.min(INCOMPLETE_BYTES_EACH_MAX).saturating_sub(INCOMPLETE_BYTES_FREE);
        let before = self.incomplete_bytes.load(Relaxed); // one task at a time reads from a connection
        if bytes == before {
            return true;
        }
        self.incomplete_bytes.store(bytes, Relaxed);
        let all = &self.limiter.incomplete_bytes;
        if bytes < before {
            all.fetch_sub(before - bytes, Relaxed);
            return true;
        }
        let more = bytes - before;
        let has_room = all.fetch_add(more, Relaxed) + more <= INCOMPLETE_BYTES_MAX;
        if !has_room {
            METRICS.connections_refused.inc();
            tracing::debug!(client = %self.client, "a connection was closed: too many large requests are incomplete");
        }
        has_room
    }

    /// A request begins that has a body.
    pub(in crate::http) fn body_began(&self) {
        let limits = &self.limiter.limits;
        self.must_within(limits.body.min(limits.request));
    }

    /// The body was read, or what was read of it is enough.
    pub(in crate::http) fn body_ended(&self) {
        let deadline =
            self.head_ended_ms.load(Relaxed) + millis(self.limiter.limits.request + self.limiter.sweep_every);
        self.deadline_ms.store(deadline, Relaxed);
    }

    /// Why the request to be answered now is refused for its header, where it is.
    pub(in crate::http) fn refusal(&self) -> Option<Refusal> {
        self.refused.get().filter(|(head, _)| self.answers.load(Relaxed) >= *head).map(|(_, why)| *why)
    }

    /// There is an answer; the client does not have it yet.
    pub(in crate::http) fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
    }

    pub(in crate::http) fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }

    /// The client took the answer. `between` is whether nothing of another request is there.
    pub(in crate::http) fn settled(&self, between: bool) {
        if self.is_busy() {
            self.asked(); // the next was sent before
        } else {
            let limits = &self.limiter.limits;
            self.must_within(if between { limits.idle } else { limits.header });
        }
    }

    /// Whether a request is being answered.
    pub(in crate::http) fn is_busy(&self) -> bool {
        self.heads.load(Relaxed) > self.answers.load(Relaxed)
    }

    /// Whether the server stops.
    pub(in crate::http) fn is_last(&self) -> bool {
        self.limiter.stopping.load(Relaxed)
    }

    fn asked(&self) {
        self.head_ended_ms.store(self.limiter.now_ms.load(Relaxed), Relaxed);
        self.must_within(self.limiter.limits.request);
    }

    fn must_within(&self, limit: Duration) {
        self.deadline_ms.store(self.limiter.in_ms(limit), Relaxed);
    }
}

impl Drop for ConnectionState {
    fn drop(&mut self) {
        self.limiter.incomplete_bytes.fetch_sub(*self.incomplete_bytes.get_mut(), Relaxed);
        let mut open = self.limiter.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(count) = open.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.by_client.remove(&self.client);
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
pub(in crate::http) fn limit_unsent(listener: &tokio::net::TcpListener) {
    if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(listener, UNSENT_BYTES_MAX) {
        tracing::debug!(%error, "cannot limit what the system keeps to be sent");
    }
}

/// Elsewhere the system's own limits hold.
#[cfg(not(target_os = "linux"))]
pub(in crate::http) fn limit_unsent(_: &tokio::net::TcpListener) {}

/// As many of the `wanted` connections as there are file descriptors for, once this process may have as many as it can get.
#[cfg(target_os = "linux")]
fn raise_descriptor_limit(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = wanted as u64 + DESCRIPTORS_RESERVED;
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
    let left = usize::try_from(files.saturating_sub(DESCRIPTORS_RESERVED).max(files / 2)).unwrap_or(wanted);
    tracing::warn!(wanted, connections = left, "there are too few file descriptors for --connections");
    left
}

/// Elsewhere who runs the server sees to it.
#[cfg(not(target_os = "linux"))]
fn raise_descriptor_limit(wanted: usize) -> usize {
    wanted
}
