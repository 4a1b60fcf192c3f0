//! Tokens that are invalid before their expiry, as [`Store`] keeps them: the blacklist, and the revocation feed, which says in order what was
//! invalidated.
//!
//! Guarantees: as `store/mod.rs`. What is in the feed was committed together with what it is about (I5). Deliberately absent: users, whose
//! changes add to the feed too.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::watch;

use super::redb::{
    blacklist,
    revocations::{self, RevocationCursor, RevocationPage},
};
use crate::{
    model::BlacklistedToken,
    store::{Store, StoreError},
};

impl Store {
    /// Puts a token on the blacklist. Returns `false` if it was there already.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn blacklist(&self, token: BlacklistedToken) -> Result<bool, StoreError> {
        self.engine.write(move |txn| blacklist::insert(txn, token)).await
    }

    /// Removes up to `limit` entries of tokens that expired at `now_s` or before, the oldest first, and returns their number.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn purge_expired(&self, now_s: u64, limit: usize) -> Result<usize, StoreError> {
        if !self.engine.read(|snapshot| blacklist::has_expired(snapshot, now_s))? {
            return Ok(0); // an idle server does not write to its disk
        }
        let kept = Arc::clone(&self.purged_through_s);
        let purge = move |txn: &_| {
            let (purged, through_s) = blacklist::purge(txn, now_s, limit)?;
            kept.fetch_max(through_s, Ordering::Release); // before any reader can see that the entries were removed
            Ok(purged)
        };
        self.engine.write(purge).await
    }

    /// Returns what has become invalid after the place of `after` in the revocation feed, or from its beginning, and has not expired at
    /// `now_s`: up to `limit` entries. Returns `None` if `after` is not a place in this feed: the database was restored from a backup, or
    /// is another one.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails or too many reads are queued.
    pub async fn revocation_page(
        &self,
        after: Option<RevocationCursor>,
        now_s: u64,
        limit: usize,
    ) -> Result<Option<RevocationPage>, StoreError> {
        let _permit = self.revocation_reads.acquire().await.map_err(|_| StoreError::GivenUp)?;
        self.engine.read_in_pool(move |snapshot| revocations::page(snapshot, after, now_s, limit)).await
    }

    /// Returns a receiver that changes when a [`Store::revocation_page`] that begins afterwards may find more at the end of the feed.
    #[must_use]
    pub fn subscribe_revocations(&self) -> watch::Receiver<()> {
        self.engine.subscribe_revocations()
    }

    /// Removes up to `limit` rows of the revocation feed whose tokens all have expired at `now_s` or before, or fewer if they are large.
    /// Returns whether there may be more.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn purge_revocations(&self, now_s: u64, limit: usize) -> Result<bool, StoreError> {
        if !self.engine.read(|snapshot| revocations::have_expired(snapshot, now_s))? {
            return Ok(false);
        }
        self.engine.write(move |txn| revocations::purge(txn, now_s, limit)).await
    }
}
