//! All services in memory, because each request of a service looks one up, and their number is bounded.
//!
//! Guarantees: an answer is never older than the last acknowledged commit, because a commit that changes a service empties the cache before
//! a reader sees it and before it is acknowledged (I1), and because a reader of an earlier snapshot cannot put it back.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use crate::model::{SecretHash, Service, ServiceId};

/// All services at one moment.
pub struct ServiceIndex {
    services: BTreeMap<ServiceId, Arc<Service>>,
    by_secret: HashMap<SecretHash, ServiceId>,
}

impl ServiceIndex {
    fn new(services: Vec<Service>) -> Self {
        let of_secrets = |service: &Service| {
            let (current, replaced) = (service.secret, service.replaced_secret.map(|replaced| replaced.hash));
            let id = service.id;
            [Some(current), replaced].into_iter().flatten().map(move |hash| (hash, id))
        };
        let by_secret = services.iter().flat_map(of_secrets).collect();
        let services = services.into_iter().map(|service| (service.id, Arc::new(service))).collect();
        Self { services, by_secret }
    }

    /// Returns the service with this id.
    #[must_use]
    pub fn find(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// Returns the service whose secret, or replaced secret, has this hash. The hash may belong to a replaced secret that is valid no more.
    #[must_use]
    pub fn find_by_secret(&self, hash: SecretHash) -> Option<&Arc<Service>> {
        self.by_secret.get(&hash).and_then(|id| self.find(*id))
    }

    /// Returns all services in the order of creation.
    pub fn iter(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|service| &**service)
    }
}

/// The cache: all services, or nothing.
#[derive(Default)]
pub(in crate::store) struct ServiceCache(RwLock<Cached>);

#[derive(Default)]
struct Cached {
    services: Option<Arc<ServiceIndex>>,
    /// The last commit that changed a service. What was read from a snapshot before it may be outdated.
    changed_at: u64,
}

impl ServiceCache {
    /// Returns all services, or `None` if they are not known here.
    pub(in crate::store) fn get(&self) -> Option<Arc<ServiceIndex>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).services.clone()
    }

    /// Keeps the services that were read from the snapshot after the `commit`th commit, and returns them.
    pub(in crate::store) fn keep(&self, services: Vec<Service>, commit: u64) -> Arc<ServiceIndex> {
        let services = Arc::new(ServiceIndex::new(services));
        let mut cached = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if cached.changed_at <= commit {
            cached.services = Some(Arc::clone(&services));
        }
        services
    }

    /// Removes everything, because the `commit`th commit changed a service or may have.
    pub(in crate::store) fn clear(&self, commit: u64) {
        let mut cached = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *cached = Cached { services: None, changed_at: commit };
    }
}
