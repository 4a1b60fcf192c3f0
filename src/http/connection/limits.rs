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
/// How much of a response the operating system may buffer per connection. Its own limit is 4 MiB or more.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: usize = 32 * 1024;
/// How much of incomplete large requests all connections together may buffer, in bytes as received. They take up to three times that in
/// memory, which must fit into a machine of 256 MiB beside everything else.
const INCOMPLETE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How much of each request is not counted in [`INCOMPLETE_BYTES_MAX`], so that ordinary requests pass when large ones have used it up.
const INCOMPLETE_BYTES_FREE: u64 = 4 * 1024;
/// The most that one request is counted with: no more of it is buffered.
const INCOMPLETE_BYTES_EACH_MAX: u64 = 64 * 1024;
/// The bounds of the interval of the sweep, which depends on the shortest deadline.
const SWEEP_MIN: Duration = Duration::from_millis(5);
const SWEEP_MAX: Duration = Duration::from_millis(500);

/// The limits of the connections of one listener.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The maximum number of open connections.
    pub connections: usize,
    /// The maximum number of open connections per client: an IPv4 address or an IPv6 /64.
    pub per_client: usize,
    /// Proxies, which are exempt from the per-client limit.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// The time from the connection, or the first byte of a head, to the end of the head. Includes the TLS handshake.
    pub header: Duration,
    /// The time from the end of the head to the end of the body.
    pub body: Duration,
    /// The time from the end of the head until the client has received the response.
    pub request: Duration,
    /// The time from a response to the next request.
    pub idle: Duration,
}

/// Limits how many connections are open, and aborts those whose deadline has passed.
pub(in crate::http) struct ConnectionLimiter {
    limits: ConnectionLimits,
    connections: usize,
    sweep_every: Duration,
    started: Instant,
    /// The start of the last sweep, in milliseconds since `started`. All deadlines are computed from it.
    now_ms: AtomicU64,
    stopping: AtomicBool,
    /// The bytes that are buffered of incomplete large requests.
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

    /// Registers the `task` of a connection, which the sweep aborts after the connection's deadline.
    pub(in crate::http) fn watch(&self, connection_state: Weak<ConnectionState>, task: AbortHandle) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push((connection_state, task));
    }

    /// Checks all deadlines periodically. Never returns.
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

    /// Makes each connection close after its current response.
    pub(in crate::http) fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Returns the deadline in `limit` from now, in the clock of `now_ms`. As that clock is up to one sweep late, one is added, so that no
    /// connection is aborted early.
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
    /// The numbers of complete heads and of answered requests.
    heads: AtomicU64,
    answers: AtomicU64,
    /// The number of the rejected head, and why it was rejected.
    refused: OnceLock<(u64, Refusal)>,
    /// Its share of [`ConnectionLimiter::incomplete_bytes`].
    incomplete_bytes: AtomicU64,
    _counted: GaugeGuard,
}

impl ConnectionState {
    /// A head began. This never extends the current deadline, because a client may send any number of empty lines first.
    pub(in crate::http) fn head_began(&self) {
        if !self.is_busy() {
            self.deadline_ms.fetch_min(self.limiter.in_ms(self.limiter.limits.header), Relaxed);
        }
    }

    /// The ends of `heads` heads have arrived.
    pub(in crate::http) fn heads_ended(&self, heads: u64) {
        self.heads.fetch_add(heads, Relaxed);
        self.asked();
    }

    /// The current head is rejected.
    pub(in crate::http) fn head_is_refused(&self, why: Refusal) {
        let _ = self.refused.set((self.heads.load(Relaxed), why)); // nothing is parsed after the first
    }

    /// `bytes` bytes of an incomplete request have arrived. Returns whether they may be buffered.
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

    /// The body of a request begins.
    pub(in crate::http) fn body_began(&self) {
        let limits = &self.limiter.limits;
        self.must_within(limits.body.min(limits.request));
    }

    /// The body was read, or as much of it as is needed.
    pub(in crate::http) fn body_ended(&self) {
        let deadline =
            self.head_ended_ms.load(Relaxed) + millis(self.limiter.limits.request + self.limiter.sweep_every);
        self.deadline_ms.store(deadline, Relaxed);
    }

    /// Returns why the head of the current request was rejected, or `None` if it was not.
    pub(in crate::http) fn refusal(&self) -> Option<Refusal> {
        self.refused.get().filter(|(head, _)| self.answers.load(Relaxed) >= *head).map(|(_, why)| *why)
    }

    /// A response is about to be sent.
    pub(in crate::http) fn answered(&self) {
        self.answers.fetch_add(1, Relaxed);
    }

    pub(in crate::http) fn answers(&self) -> u64 {
        self.answers.load(Relaxed)
    }

    /// The response was handed to the operating system. `between` is whether no byte of a next request has arrived.
    pub(in crate::http) fn settled(&self, between: bool) {
        if self.is_busy() {
            self.asked(); // the next request arrived before
        } else {
            let limits = &self.limiter.limits;
            self.must_within(if between { limits.idle } else { limits.header });
        }
    }

    /// Whether a request is being answered.
    pub(in crate::http) fn is_busy(&self) -> bool {
        self.heads.load(Relaxed) > self.answers.load(Relaxed)
    }

    /// Whether the server is stopping, so that the current response is the last.
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

/// Returns what is counted as one client: an IPv4 address, or the /64 of an IPv6 subscriber (RFC 6177).
fn client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Limits the send buffer of the listener, which its connections inherit. Otherwise the operating system buffers megabytes for each client
/// that does not read its response.
#[cfg(target_os = "linux")]
pub(in crate::http) fn limit_unsent(listener: &tokio::net::TcpListener) {
    if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(listener, UNSENT_BYTES_MAX) {
        tracing::debug!(%error, "cannot limit what the system keeps to be sent");
    }
}

/// On other systems, their own limits apply.
#[cfg(not(target_os = "linux"))]
pub(in crate::http) fn limit_unsent(_: &tokio::net::TcpListener) {}

/// Raises the limit of file descriptors of this process as far as allowed, and returns how many of the `wanted` connections fit.
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

/// On other systems, the limit of file descriptors is left to the administrator of the machine.
#[cfg(not(target_os = "linux"))]
fn raise_descriptor_limit(wanted: usize) -> usize {
    wanted
}
