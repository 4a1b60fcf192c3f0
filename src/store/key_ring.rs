//! The key ring in the store.

use super::redb::{schema, signing_keys};
use super::{Store, StoreError};
use crate::model::{SigningAlgorithm, StoredKey};

impl Store {
    /// Returns all signing keys.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn signing_keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.engine.read(|snapshot| signing_keys::all(snapshot))
    }

    /// Returns the algorithm that the first signing key must have because there was one before, or `None` if there never was one.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn next_ring_algorithm(&self) -> Result<Option<SigningAlgorithm>, StoreError> {
        self.engine.read(signing_keys::next_ring_algorithm)
    }

    /// Lets `change` change the signing keys in one transaction, and returns its result and all keys after it. `change` may run more than
    /// once, each time on what is stored then.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn update_signing_keys<T: Send + 'static>(
        &self,
        mut change: impl FnMut(&mut Vec<StoredKey>) -> T + Send + 'static,
    ) -> Result<(T, Vec<StoredKey>), StoreError> {
        self.engine.write(move |txn| signing_keys::update(txn, &mut change)).await
    }

    /// Sets a new random data generation and removes all signing keys, which invalidates all tokens.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn invalidate_all_tokens(&self) -> Result<(), StoreError> {
        self.engine.write(schema::invalidate_all_tokens).await
    }
}
