//! The protocol of a service manager such as systemd: socket activation, readiness, watchdog, stopping.
//!
//! Guarantees: without a service manager these functions do nothing. The watchdog is notified only after a read of the store, and from
//! the runtime that answers requests, so that a hang of either leads to a restart. Deliberately absent: units, which are in `systemd/`.

use std::{fmt::Display, io, net::SocketAddr, time::Duration};

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// Returns the listener that the service manager passed (`LISTEN_FDS`, `sd_listen_fds(3)`), or `None` if it passed none.
///
/// # Errors
/// If more than one was passed, or it is not a TCP socket.
pub fn listener() -> io::Result<Option<std::net::TcpListener>> {
    let mut passed = ListenFd::from_env();
    if passed.len() > 1 {
        return Err(io::Error::other(format!("{} sockets were passed and one is served", passed.len())));
    }
    let listener = passed.take_tcp_listener(0)?;
    if let Some(listener) = &listener {
        listener.set_nonblocking(true)?;
    }
    Ok(listener)
}

/// Notifies the service manager that requests are answered at `address` from now on.
pub fn ready(address: SocketAddr) {
    let status = format!("Listening on {address}");
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// Notifies the service manager that the server has begun to stop.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("Finishing what is in flight")]);
}

/// Notifies the watchdog at half its timeout as long as `check` succeeds. Returns at once if no watchdog is configured.
pub async fn watchdog<E: Display>(check: impl Fn() -> Result<(), E>) {
    if let Some(patience) = sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero()) {
        feed(patience / 2, check, || notify(&[NotifyState::Watchdog])).await;
    }
}

/// Calls `check` once per `period`, and `healthy` each time it succeeds. Never returns.
pub async fn feed<E: Display>(period: Duration, check: impl Fn() -> Result<(), E>, healthy: impl Fn()) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match check() {
            Ok(()) => healthy(),
            Err(error) => {
                tracing::error!(%error, "the database does not answer; the watchdog is not told that all is well");
            }
        }
    }
}

fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot tell the service manager (NOTIFY_SOCKET)");
    }
}
