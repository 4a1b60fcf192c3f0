//! The purge task: removes blacklist entries and rows of the revocation feed whose tokens have expired, and known devices without a recent
//! login, in bounded batches.
//!
//! Guarantees: a batch is one short transaction, so that a logout never waits long behind it; an entry goes only after its
//! token has expired (I2).

use std::{sync::Arc, time::Duration};

use crate::{auth::known_devices::KNOWN_FOR_S, clock::Clock, metrics::METRICS, store::Store};

/// How many entries one transaction removes.
const BATCH: usize = 1000;

/// Purges once per `interval`. Never returns.
pub async fn run(store: Arc<Store>, clock: Arc<dyn Clock>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut purged = 0;
        loop {
            match store.purge_expired(clock.unix_s(), BATCH).await {
                Ok(batch) => {
                    purged += batch;
                    if batch < BATCH {
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the blacklist was not purged; the next run tries again");
                    break;
                }
            }
        }
        loop {
            match store.purge_revocations(clock.unix_s(), BATCH).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "the revocation feed was not purged; the next run tries again");
                    break;
                }
            }
        }
        loop {
            match store.purge_known_devices(clock.unix_s().saturating_sub(KNOWN_FOR_S), BATCH).await {
                Ok(BATCH) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::error!(%error, "known devices were not purged; the next run tries again");
                    break;
                }
            }
        }
        METRICS.purge_runs.inc();
        METRICS.purged.add(purged as u64);
        if purged > 0 {
            tracing::info!(entries = purged, "purged expired entries from the blacklist");
        }
    }
}
