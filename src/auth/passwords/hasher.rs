//! Hashes and verifies passwords on threads of its own.
//!
//! Guarantees: no hash runs on a thread that answers requests, and request threads have the higher priority. The number of running and
//! of queued hashes is bounded, and so is their memory. A stored hash whose parameters exceed the bounds never runs.

use std::{sync::Arc, thread, time::Duration};

use tokio::sync::oneshot;

use crate::{
    auth::passwords::{
        policy::Password,
        queue::{Permit, Priority, Queue},
        scrypt_cost::ScryptCost,
        stored_hash::{StoredHash, UnusableHash},
    },
    model::PasswordHash,
};

/// Nice value added to the hashing threads. Linux weighs a thread by 1.25 for each step: where requests take all
/// they can get, a hash is left with a sixth of a core, so that requests keep four fifths, and a hash of 0.2 s takes a second or
/// two. At 19 it would get a seventieth, and no login would be done in time.
#[cfg(target_os = "linux")]
const NICE_INCREMENT: i32 = 7;

/// Why no hash was computed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// It would take longer than a few seconds until it is done, or the server is stopping. In this time those are served that
    /// wait already.
    #[error("too many passwords are waiting to be hashed")]
    Busy(Duration),
    /// The stored hash is malformed, of an unknown kind, or asks for too much.
    #[error(transparent)]
    Unusable(#[from] UnusableHash),
}

/// What a verification found.
pub struct Verification {
    /// The password is the one of the hash.
    pub matches: bool,
    /// A stronger hash of the same password, where the stored one is weaker than today's setting and nobody waited.
    pub rehashed: Option<PasswordHash>,
}

/// Hashes and verifies, one password per thread at a time.
pub struct Hasher {
    cost: ScryptCost,
    /// What an unknown user is verified against: the same work, and it never matches.
    decoy: PasswordHash,
    queue: Arc<Queue>,
}

impl Hasher {
    /// Starts `threads` threads that hash at `cost`.
    #[must_use]
    pub fn start(cost: ScryptCost, threads: usize) -> Self {
        let queue = Arc::new(Queue::new(threads, cost.work()));
        for n in 0..threads {
            let queue = Arc::clone(&queue);
            let run = move || {
                lower_priority();
                queue.serve(n);
            };
            let thread = thread::Builder::new().name(format!("latchkey-hash-{n}"));
            thread.spawn(run).expect("BUG: a thread can be started while the server starts");
        }
        Self { cost, decoy: cost.decoy(), queue }
    }

    /// A new hash of `password`, with a salt of its own. Logins go first.
    ///
    /// # Errors
    /// [`HashError::Busy`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        let cost = self.cost;
        self.run(Priority::NewHash, cost.work(), move |_| cost.hash(&password)).await
    }

    /// Whether `password` is the one that `stored` was made of. `None` costs the same and never matches (I7).
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn verify(&self, password: Password, stored: Option<PasswordHash>) -> Result<Verification, HashError> {
        let cost = self.cost;
        let known = stored.is_some();
        let stored = StoredHash::read(stored.as_ref().unwrap_or(&self.decoy))?;
        self.run(Priority::Verify, stored.work(), move |permit| {
            let matches = stored.matches(&password) && known;
            // Within the same turn, so that the password is kept no longer; and not at the expense of others: under load the
            // next login will do.
            let weak = matches && stored.is_weaker_than(cost);
            let rehashed = (weak && permit.extend(cost.work())).then(|| cost.hash(&password));
            Verification { matches, rehashed }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        priority: Priority,
        work: u64,
        job: impl FnOnce(&Permit<'_>) -> T + Send + 'static,
    ) -> Result<T, HashError> {
        let (reply, answer) = oneshot::channel();
        let run = move |permit: Permit<'_>| {
            let done = job(&permit);
            drop(permit); // before the answer: who has it finds the thread free
            let _ = reply.send(done);
        };
        // Dropped with this future, which is dropped when the client hangs up.
        let _entry = self.queue.join(priority, work, Box::new(run)).map_err(HashError::Busy)?;
        answer.await.map_err(|_| HashError::Busy(self.queue.wait(priority)))
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Lowers the priority of this thread. If that fails, the thread hashes at normal priority.
#[cfg(target_os = "linux")]
fn lower_priority() {
    use rustix::process::{getpriority_process, setpriority_process};
    // On Linux the priority is the thread's, against POSIX. 19 is the nicest.
    let set = getpriority_process(None).and_then(|nice| setpriority_process(None, (nice + NICE_INCREMENT).min(19)));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot lower the priority of a hashing thread");
    }
}

/// Elsewhere the priority is the whole process's.
#[cfg(not(target_os = "linux"))]
fn lower_priority() {
    tracing::debug!("hashing threads have the priority of all others on this system");
}
