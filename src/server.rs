//! The lifecycle of the server: open the store, bind, start the purge and the watchdog, serve, drain, close.
//!
//! Guarantees: nothing is served before the store is open and verified. The database is closed after the last response, so that the
//! next start needs no repair. Deliberately absent: signals and argv, which `cli` handles.

use std::{
    future::Future,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{net::TcpListener, sync::watch};
use zeroize::Zeroizing;

use crate::{
    auth::{
        Auth, AuthError, key_ring::KeyRing, known_devices::KnownDevices, passwords::hasher::Hasher, throttle::Throttle,
    },
    clock::Clock,
    config::{self, Config, ListenAddress, SECRET_BYTES_MIN, Signup},
    http::{
        self,
        operator::{
            AdminSocket,
            transfer::{OperatorRoutes, TransferLimit},
        },
    },
    key_rotation,
    model::UserFilter,
    purge, random, scheduled_backups,
    store::{DataDir, Store, UsersFrom},
    supervisor,
};

/// How long requests in flight may take to finish when the server stops.
const DRAIN: Duration = Duration::from_secs(10);
/// How long scrapes of the metrics in flight may take to finish when the server stops.
const METRICS_DRAIN: Duration = Duration::from_secs(1);

/// Whether the signing keys are needed. A command that only manages users leaves them alone, because it may not have the server's secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningKeys {
    /// Tokens are made or read, or the keys themselves are managed.
    Needed,
    /// Neither.
    NotNeeded,
}

/// Application state over an open data directory: what the HTTP server and the command line share.
pub struct ApplicationState {
    /// Registration, login, tokens, and the rights of users.
    pub auth: Arc<Auth>,
    /// The open database.
    pub store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// Becomes `true` when the server stops, which ends waiting requests.
    stopping: watch::Sender<bool>,
    dir: DataDir,
}

impl ApplicationState {
    /// Opens the data directory that `config` names and locks it for this process. Creates what is missing in it.
    ///
    /// # Errors
    /// [`config::ConfigError`] if a setting is unusable; another error if the data directory, its key or its database is.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>, keys: SigningKeys) -> anyhow::Result<Self> {
        config.check()?;
        let given = config.secret_key()?;
        let settings = config.key_ring(given.is_some());
        let dir = DataDir::take(&config.data_dir)?;
        let store = Arc::new(Store::open(&dir, config.cache_bytes())?);
        for duplicate in store.mailbox_duplicates()? {
            tracing::warn!("{duplicate}");
        }
        let key = if let Some(key) = given {
            key
        } else {
            // Another secret than that of the key ring would be of no use, and would hide that the right one is missing.
            let is_missing = !dir.has_signing_key()? && !store.signing_keys()?.is_empty();
            if is_missing && keys == SigningKeys::Needed {
                let path = dir.path().join("signing.key");
                bail!(
                    "{} is missing, and the signing keys are encrypted with it; put it back, or begin a new key ring with `latchkey key \
                     reset`, which ends all sessions",
                    path.display()
                );
            }
            let key = if is_missing {
                Zeroizing::new(random::bytes::<SECRET_BYTES_MIN>().to_vec())
            } else {
                dir.signing_key(|| {
                    let bytes = Zeroizing::new(random::bytes::<SECRET_BYTES_MIN>());
                    Zeroizing::new(BASE64_STANDARD.encode(bytes.as_slice()))
                })?
            };
            config::check_key_length(&key, &dir.path().join("signing.key").display().to_string())?;
            key
        };
        let hasher = Hasher::start(config.scrypt, config.hash_threads());
        let (policy, devices) = (config.password_policy(), KnownDevices::new(&key));
        let (ring_store, ring_clock, says) = (Arc::clone(&store), Arc::clone(&clock), config.tokens.settings());
        let key_ring = match keys {
            SigningKeys::NotNeeded => KeyRing::detached(ring_store, ring_clock, settings, says)?,
            SigningKeys::Needed => {
                let opened = KeyRing::open(ring_store, ring_clock, key, settings, says).await;
                opened.with_context(|| format!("cannot use {}", dir.path().display()))?
            }
        };
        let throttle = Throttle::new(config.guessing.limits());
        let auth = Auth::new(Arc::clone(&store), Arc::clone(&clock), hasher, policy, key_ring, throttle, devices);
        Ok(Self { auth: Arc::new(auth), store, clock, stopping: watch::Sender::new(false), dir })
    }

    /// Builds all routes over this state.
    #[must_use]
    pub fn routes(&self, config: &Config) -> http::Routes {
        http::routes(http::RouteDependencies {
            auth: Arc::clone(&self.auth),
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            cors: config.cors(),
            trusted_proxies: config.guessing.trusted_proxies.clone(),
            https: config.tls_cert.is_some(),
            domain: config.tokens.domain.clone(),
            signup: config.signup == Signup::Open,
            wait_max: config.wait_max(),
            stopping: self.stopping.subscribe(),
        })
    }

    /// Builds the routes of the admin socket over `routes`. `address` is the URL of the API over TCP.
    #[must_use]
    pub fn operator_routes(&self, routes: http::Routes, address: String) -> OperatorRoutes {
        OperatorRoutes {
            routes,
            auth: Arc::clone(&self.auth),
            store: Arc::clone(&self.store),
            clock: Arc::clone(&self.clock),
            dir: self.dir.path().to_owned(),
            address,
            transfers: TransferLimit::default(),
        }
    }

    /// Closes the database.
    ///
    /// # Errors
    /// If it cannot be closed cleanly. Every acknowledged write is on disk nevertheless.
    pub fn close(self) -> anyhow::Result<()> {
        drop(self.auth);
        match Arc::into_inner(self.store) {
            Some(store) => store.close().context("cannot close the database"),
            // An aborted request still holds a reference. The file is closed when that is dropped.
            None => Ok(()),
        }
    }
}

/// Begins a new key ring and a new data generation in the data directory that `config` names, which no server uses. All tokens are invalid
/// afterwards. The secret need not open the key ring from before.
///
/// # Errors
/// As [`ApplicationState::open`].
pub async fn reset_key_ring(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<()> {
    config.check()?;
    config.secret_key()?; // an unusable one is reported before anything is changed
    let dir = DataDir::take(&config.data_dir)?;
    let store = Store::open(&dir, config.cache_bytes())?;
    store.invalidate_all_tokens().await?;
    store.close()?;
    drop(dir);
    ApplicationState::open(config, clock, SigningKeys::Needed).await?.close()
}

/// Resolves when the sender of `stopping` is dropped.
async fn wait_for(mut stopping: watch::Receiver<()>) {
    while stopping.changed().await.is_ok() {}
}

/// A server whose data is open and whose address is bound.
pub struct Server {
    state: ApplicationState,
    listeners: Vec<TcpListener>,
    metrics: Option<Vec<TcpListener>>,
    tls: Option<http::Tls>,
    socket: Option<AdminSocket>,
    config: Config,
}

impl Server {
    /// Opens the data and binds the address, or takes over the listener that the service manager passed.
    ///
    /// # Errors
    /// Those of [`ApplicationState::open`], or if the address cannot be bound or the passed listener is unusable.
    pub async fn bind(config: Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        // This comes first, while there are few threads, because it removes variables from the environment.
        let given = supervisor::listener().context("cannot use the passed socket (LISTEN_FDS)")?;
        let tls = config.tls()?;
        let state = ApplicationState::open(&config, clock, SigningKeys::Needed).await?;
        if !config.scrypt.is_strong() {
            tracing::warn!(cost = %config.scrypt, "password hashes are cheap to guess; this is for tests");
        }
        if let Some((email, password)) = config.first_admin()? {
            match state.auth.add_user(email, password, true, None).await {
                Ok(user) => tracing::info!(email = %user.email, "made the first administrator"),
                Err(AuthError::EmailTaken(_)) => {} // later changes of the account are kept
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(schedule) = config.backups.schedule() {
            scheduled_backups::prepare(&schedule)?;
        }
        let listeners = if let Some(given) = given {
            tracing::info!("a socket was passed; --listen is not used");
            vec![TcpListener::from_std(given).context("cannot use the passed socket (LISTEN_FDS)")?]
        } else {
            listen(&config.listen, "--listen").await?
        };
        let metrics = match &config.metrics_listen {
            Some(address) => Some(listen(address, "--metrics-listen").await?),
            None => None,
        };
        let path = state.dir.admin_socket();
        let socket = AdminSocket::bind(&path).inspect_err(|error| {
            let path = path.display();
            tracing::warn!(%error, %path, "no admin socket; commands need the server to be stopped");
        });
        Ok(Self { state, listeners, metrics, tls, socket: socket.ok(), config })
    }

    /// Returns the bound address, the first if there are several. If port 0 was requested, it has the port that the operating system chose.
    ///
    /// # Errors
    /// If the operating system does not report the address.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listeners[0].local_addr().context("cannot tell the address")
    }

    /// Returns the bound address of the metrics, or `None` if metrics are off.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listeners| listeners[0].local_addr().ok())
    }

    /// Returns `https` if TLS is configured, else `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Returns the absolute path of the data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.state.dir.path().to_owned()
    }

    /// Whether there is an enabled administrator.
    ///
    /// # Errors
    /// [`crate::store::StoreError`] if the database cannot be read.
    pub async fn has_administrator(&self) -> anyhow::Result<bool> {
        let filter = UserFilter { admin: Some(true), disabled: Some(false), ..UserFilter::default() };
        let first = self.state.store.user_page(filter, UsersFrom::Skip(0), 1).await?;
        Ok(!first.items.is_empty())
    }

    /// Serves until `stop` resolves, then finishes the requests in flight and closes the database.
    ///
    /// # Errors
    /// If the database cannot be closed cleanly.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let address = self.address()?;
        let url = format!("{}://{address}", self.scheme());
        let Self { state, listeners, metrics, tls, socket, config } = self;
        let purging = purge::run(Arc::clone(&state.store), Arc::clone(&state.clock), config.purge_interval);
        let purging = tokio::spawn(purging);
        let rotating = tokio::spawn(key_rotation::run(Arc::clone(&state.auth), config.purge_interval));
        let backing_up = config.backups.schedule().map(|schedule| {
            tokio::spawn(scheduled_backups::run(Arc::clone(&state.store), Arc::clone(&state.clock), schedule))
        });
        let routes = state.routes(&config);
        let (asked_to_stop, asked) = watch::channel(());
        let (stopped, stopping) = watch::channel(());
        let metrics = metrics.map(|listeners| {
            let stop = wait_for(stopping);
            let routes = Arc::new(http::metrics(Arc::clone(&state.store)));
            tokio::spawn(http::serve(listeners, None, routes, config.limits(), stop, METRICS_DRAIN))
        });
        let admin = socket.map(|socket| {
            let routes = state.operator_routes(Arc::clone(&routes), url);
            tokio::spawn(socket.serve(Arc::new(routes), wait_for(asked), DRAIN))
        });
        let end_waits = state.stopping.clone();
        let stop = async {
            stop.await;
            supervisor::stopping();
            end_waits.send_replace(true);
            drop(asked_to_stop);
        };
        supervisor::ready(address);
        let store = Arc::clone(&state.store);
        let watchdog = tokio::spawn(supervisor::watchdog(move || store.check_readable()));
        let mut finished = http::serve(listeners, tls, routes, config.limits(), stop, DRAIN).await;
        if let Some(admin) = admin {
            finished &= admin.await.unwrap_or(false);
            let _ = std::fs::remove_file(state.dir.admin_socket()); // a remaining socket is replaced at the next start
        }
        if !finished {
            tracing::warn!(seconds = DRAIN.as_secs(), "some requests did not finish in time and were cut off");
        }
        drop(stopped); // after the last response, so that the metrics include it
        if let Some(metrics) = metrics {
            let _ = metrics.await;
        }
        for task in [Some(purging), Some(rotating), Some(watchdog), backing_up].into_iter().flatten() {
            task.abort();
            let _ = task.await; // the task was aborted; this waits until it has dropped the store
        }
        state.close()
    }
}

/// Binds all addresses of `at`, all with the same port. Returns at least one listener.
async fn listen(at: &ListenAddress, flag: &str) -> anyhow::Result<Vec<TcpListener>> {
    let cannot = || format!("cannot listen on {at} ({flag})");
    let mut listeners: Vec<TcpListener> = Vec::new();
    for mut address in at.resolve().await.with_context(cannot)? {
        if let Some(first) = listeners.first() {
            address.set_port(first.local_addr().with_context(cannot)?.port());
        }
        match TcpListener::bind(address).await {
            Ok(listener) => listeners.push(listener),
            // A machine without IPv6 may have its addresses in names nevertheless.
            Err(error) if address.is_ipv6() && !listeners.is_empty() && error.kind() != ErrorKind::AddrInUse => {}
            Err(error) if at.is_every() && error.kind() != ErrorKind::AddrInUse => {
                let every = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
                listeners.push(TcpListener::bind(every).await.with_context(cannot)?);
            }
            Err(error) => return Err(error).with_context(cannot),
        }
    }
    Ok(listeners)
}
