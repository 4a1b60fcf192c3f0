//! The methods of [`Store`] about services.

use std::sync::Arc;

use super::redb::{
    service_cache::ServiceIndex,
    service_table::{self, InsertServiceOutcome},
};
use crate::{
    model::{Service, ServiceChange, ServiceId},
    store::{Store, StoreError},
};

impl Store {
    /// Returns all services, as of the last acknowledged write. They are read from the disk after a change only.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub fn services(&self) -> Result<Arc<ServiceIndex>, StoreError> {
        self.engine.services()
    }

    /// Adds a service, unless its name is taken or there are too many.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn insert_service(&self, service: Service) -> Result<InsertServiceOutcome, StoreError> {
        self.engine.write(move |txn| service_table::insert(txn, &service)).await
    }

    /// Changes a service and returns it after the change, or `None` if there is none of this id.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn update_service(&self, id: ServiceId, change: ServiceChange) -> Result<Option<Service>, StoreError> {
        self.engine.write(move |txn| service_table::update(txn, id, &change)).await
    }

    /// Removes a service and returns it, or `None` if there is none of this id.
    ///
    /// # Errors
    /// [`StoreError`] if the disk fails.
    pub async fn remove_service(&self, id: ServiceId) -> Result<Option<Service>, StoreError> {
        self.engine.write(move |txn| service_table::remove(txn, id)).await
    }
}
