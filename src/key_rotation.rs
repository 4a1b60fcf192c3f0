//! The key rotation task: signs with the next key, removes retired keys and begins a rotation, when each is due.

use std::{sync::Arc, time::Duration};

use crate::{auth::Auth, metrics::METRICS};

/// Looks once per `interval` at what is due. Never returns.
pub async fn run(auth: Arc<Auth>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = auth.key_ring().maintain().await {
            tracing::error!(%error, "the signing keys were not looked after; the next run tries again");
        }
        METRICS.key_checks.inc();
    }
}
