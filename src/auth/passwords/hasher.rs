//! Hashes and verifies passwords on threads of its own.
//!
//! Guarantees: no hash runs on a thread that answers requests, and request threads have the higher priority. The number of running and
//! of queued hashes is bounded, and so is their memory. A stored hash whose parameters exceed the bounds never runs.

use std::{net::IpAddr, sync::Arc, thread, time::Duration};

use tokio::sync::oneshot;

use crate::{
    auth::{
        network::Client,
        passwords::{
            fair_queue::{Class, Demand},
            policy::Password,
            queue::{HashPermit, HashQueue},
            scrypt_cost::ScryptCost,
            stored_hash::{StoredHash, UnusableHash},
        },
    },
    model::PasswordHash,
    thread_priority::{self, LongWork},
};

/// Why no hash was computed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The hash could not be done within a few seconds, or the server is stopping. Has the estimated time until the queue is empty.
    #[error("too many passwords are waiting to be hashed")]
    Busy(Duration),
    /// The stored hash is malformed, of an unknown kind, or exceeds the bounds.
    #[error(transparent)]
    Unusable(#[from] UnusableHash),
}

/// The result of a verification.
pub struct Verification {
    /// Whether the password is the one that was hashed.
    pub matches: bool,
    /// A stronger hash of the same password, if the stored one is weaker than the current setting and the queue was empty.
    pub rehashed: Option<PasswordHash>,
}

/// Hashes and verifies passwords on its own threads, one password per thread at a time.
pub struct Hasher {
    cost: ScryptCost,
    /// The hash that is verified for an unknown user: it takes the same work and never matches.
    decoy: PasswordHash,
    queue: Arc<HashQueue>,
}

impl Hasher {
    /// Starts `threads` threads. New hashes have the cost `cost`.
    #[must_use]
    pub fn start(cost: ScryptCost, threads: usize) -> Self {
        let queue = Arc::new(HashQueue::new(threads, cost.work()));
        for n in 0..threads {
            let queue = Arc::clone(&queue);
            let run = move || {
                thread_priority::lower(&LongWork::Hashing);
                queue.serve(n);
            };
            let thread = thread::Builder::new().name(format!("latchkey-hash-{n}"));
            thread.spawn(run).expect("BUG: a thread can be started while the server starts");
        }
        Self { cost, decoy: cost.decoy(), queue }
    }

    /// Hashes `password` with a new salt for the client at `from`, or for the operator. Queued verifications go first, except before the
    /// operator's hash.
    ///
    /// # Errors
    /// [`HashError::Busy`].
    pub async fn hash(&self, password: Password, from: Option<IpAddr>) -> Result<PasswordHash, HashError> {
        let cost = self.cost;
        let class = if from.is_some() { Class::NewHash } else { Class::Known };
        let demand = Demand { class, client: Client::at(from), work: cost.work() };
        self.run(demand, move |_| cost.hash(&password)).await
    }

    /// Verifies `password` against `stored` for the client at `from`, or for the operator. `None` takes the same work and never matches
    /// (I7). A password that was not given in normalised form is verified in both forms, whatever the first result is. `known_device` says whether the account lately logged in from there.
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn verify(
        &self,
        mut password: Password,
        stored: Option<PasswordHash>,
        from: Option<IpAddr>,
        known_device: bool,
    ) -> Result<Verification, HashError> {
        let cost = self.cost;
        let known = stored.is_some();
        let class = if known_device || from.is_none() { Class::Known } else { Class::Unknown };
        let stored = StoredHash::read(stored.as_ref().unwrap_or(&self.decoy))?;
        let forms = if password.is_unnormalised() { 2 } else { 1 };
        let demand = Demand { class, client: Client::at(from), work: stored.work() * forms };
        self.run(demand, move |permit| {
            let as_given = password.take_unnormalised().is_some_and(|given| stored.matches(&given));
            let matches = (stored.matches(&password) | as_given) && known;
            // The new hash is made in the same job, so that the password is not kept longer. Under load it is left to a later login.
            let weak = matches && (as_given || stored.is_weaker_than(cost));
            let rehashed = (weak && permit.extend(cost.work())).then(|| cost.hash(&password));
            Verification { matches, rehashed }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        demand: Demand,
        job: impl FnOnce(&HashPermit<'_>) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let (reply, answer) = oneshot::channel();
        let run = move |permit: HashPermit<'_>| {
            let done = job(&permit);
            drop(permit); // before the reply: its receiver must find the thread free
            let _ = reply.send(done);
        };
        // The entry is dropped with this future, which happens when the client disconnects.
        let _entry = self.queue.join(demand, Box::new(run)).map_err(HashError::Busy)?;
        answer.await.map_err(|_| HashError::Busy(self.queue.wait(demand)))
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.queue.close();
    }
}
