//! Passwords: what a new one must be like, and scrypt with its cost and its queue.
//!
//! Guarantees: hashing runs on threads of its own, never on those that answer requests; how many hashes run and how many
//! wait is bounded, and with that memory; a stored hash whose parameters ask for too much is never run; a password is wiped
//! from memory when it was used. Deliberately absent: any normalisation; a password is compared exactly.

use std::{
    collections::HashSet,
    fmt,
    str::FromStr,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use scrypt::{
    Params,
    password_hash::phc::{Output, ParamsString, PasswordHash as Phc, Salt},
};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::stored_hash::{StoredHash, UnusableHash};
use crate::{
    metrics::{Held, METRICS},
    model::{Email, PasswordHash},
    random,
};

/// What someone typed as a password. No `Debug`, no `Clone`, wiped on drop.
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes the text exactly as it is.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// What a new password must be like.
#[derive(Debug, Clone)]
pub struct PasswordPolicy {
    /// The fewest characters (Unicode scalar values).
    pub chars_min: usize,
    /// The most characters.
    pub chars_max: usize,
    /// Whether passwords that everybody uses are fine.
    pub allow_common: bool,
}

/// Why a password cannot be used for an account.
#[derive(Debug, thiserror::Error)]
pub enum WeakPassword {
    /// It has fewer characters than the policy asks for.
    #[error("must have at least {0} characters")]
    TooShort(usize),
    /// It has more characters than the policy allows.
    #[error("must have at most {0} characters")]
    TooLong(usize),
    /// It is on the list of those that are tried first.
    #[error("is one of the most commonly used passwords")]
    Common,
    /// It equals the email of its account.
    #[error("must not be the email itself")]
    IsEmail,
}

/// About 20,000 passwords that lead the lists of stolen ones, in lower case.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

impl PasswordPolicy {
    /// Whether `password` may be the password of the account `email`, where that is known (NIST SP 800-63B §3.1.1.2).
    ///
    /// # Errors
    /// [`WeakPassword`] names the first reason against it.
    pub fn check(&self, password: &Password, email: Option<&Email>) -> Result<(), WeakPassword> {
        let text = password.0.as_str();
        let chars = text.chars().count();
        let lowercase = Zeroizing::new(text.to_lowercase());
        if chars < self.chars_min {
            Err(WeakPassword::TooShort(self.chars_min))
        } else if chars > self.chars_max {
            Err(WeakPassword::TooLong(self.chars_max))
        } else if email.is_some_and(|email| email.key() == *lowercase) {
            Err(WeakPassword::IsEmail)
        } else if !self.allow_common && COMMON.contains(lowercase.as_str()) {
            Err(WeakPassword::Common)
        } else {
            Ok(())
        }
    }
}

/// The cost of one scrypt hash (RFC 7914 §2), within bounds that no setting and no stored hash can leave:
/// `ln` 1 to 18, `r` 1 to 8, `p` 1 to 10. Written `ln=15,r=8,p=3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScryptCost {
    log_n: u8,
    r: u32,
    p: u32,
}

impl ScryptCost {
    pub(super) fn new(log_n: u8, r: u32, p: u32) -> Option<Self> {
        let bounded = (1..=18).contains(&log_n) && (1..=8).contains(&r) && (1..=10).contains(&p);
        bounded.then_some(Self { log_n, r, p })
    }

    pub(super) fn of(params: &ParamsString) -> Option<Self> {
        let number = |name| params.get_decimal(name);
        Self::new(u8::try_from(number("ln")?).ok()?, number("r")?, number("p")?)
    }

    /// How much memory one hash takes, in bytes.
    #[must_use]
    pub fn memory_bytes(self) -> u64 {
        128 * u64::from(self.r) * (1 << self.log_n)
    }

    /// Whether an attacker with stolen hashes is stopped for long: the least of OWASP's equal choices.
    #[must_use]
    pub fn is_strong(self) -> bool {
        self.work() >= Self { log_n: 13, r: 8, p: 10 }.work()
    }

    pub(super) fn work(self) -> u64 {
        self.memory_bytes() * u64::from(self.p)
    }

    pub(super) fn derive(self, password: &Password, salt: &[u8], output: &mut [u8]) {
        let params = Params::new(self.log_n, self.r, self.p).expect("BUG: bounded parameters are valid");
        scrypt::scrypt(password.0.as_bytes(), salt, &params, output).expect("BUG: the output has a valid length");
    }
}

impl fmt::Display for ScryptCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ln={},r={},p={}", self.log_n, self.r, self.p)
    }
}

impl FromStr for ScryptCost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let params: Option<ParamsString> = text.parse().ok();
        let cost = params.filter(|params| params.iter().count() == 3).and_then(|params| Self::of(&params));
        cost.ok_or_else(|| "write it like ln=15,r=8,p=3 (ln 1 to 18, r 1 to 8, p 1 to 10)".to_owned())
    }
}

/// Why no hash was computed.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// The wait would be longer than a few seconds, or the server is stopping.
    #[error("too many passwords are waiting to be hashed")]
    Busy,
    /// The stored hash is malformed, of an unknown kind, or asks for too much.
    #[error(transparent)]
    Unusable(#[from] UnusableHash),
}

/// What a verification found.
pub struct Verdict {
    /// The password is the one of the hash.
    pub matches: bool,
    /// A stronger hash of the same password, where the stored one is weaker than today's setting.
    pub rehashed: Option<PasswordHash>,
}

/// Whoever would wait longer than this for a hash is refused at once instead.
const WAIT_MAX: Duration = Duration::from_secs(4);
/// How many may wait, however fast a hash is.
const WAITING_MAX: usize = 1024;
/// How much of a hash's work is done in a microsecond, roughly: a guess until the first hash was measured.
const BYTES_PER_US: u64 = 500;
const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;

type Job = Box<dyn FnOnce() + Send>;

/// Hashes and verifies, one password per thread at a time.
pub struct Hasher {
    cost: ScryptCost,
    /// What an unknown user is verified against: the same work, and it never matches.
    decoy: PasswordHash,
    jobs: mpsc::SyncSender<Job>,
    load: Arc<Load>,
}

/// How busy the threads are.
struct Load {
    threads: usize,
    waiting: AtomicUsize,
    /// How long a hash took lately.
    hash_us: AtomicU64,
}

impl Hasher {
    /// Starts `threads` threads that hash at `cost`.
    #[must_use]
    pub fn start(cost: ScryptCost, threads: usize) -> Self {
        let (jobs, queue) = mpsc::sync_channel::<Job>(WAITING_MAX);
        let queue = Arc::new(Mutex::new(queue));
        for n in 0..threads {
            let queue = Arc::clone(&queue);
            let run = move || {
                while let Ok(job) = next(&queue) {
                    job();
                }
            };
            let thread = thread::Builder::new().name(format!("latchkey-hash-{n}"));
            thread.spawn(run).expect("BUG: a thread can be started while the server starts");
        }
        let estimate_us = AtomicU64::new(cost.work() / BYTES_PER_US);
        let load = Load { threads, waiting: AtomicUsize::new(0), hash_us: estimate_us };
        let decoy = phc(cost, &random::bytes::<SALT_BYTES>(), &random::bytes::<HASH_BYTES>());
        Self { cost, decoy, jobs, load: Arc::new(load) }
    }

    /// A new hash of `password`, with a salt of its own.
    ///
    /// # Errors
    /// [`HashError::Busy`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, HashError> {
        let cost = self.cost;
        self.run(move || hash(cost, &password)).await
    }

    /// Whether `password` is the one that `stored` was made of. `None` costs the same and never matches (I7).
    ///
    /// # Errors
    /// [`HashError`].
    pub async fn verify(&self, password: Password, stored: Option<PasswordHash>) -> Result<Verdict, HashError> {
        let cost = self.cost;
        let known = stored.is_some();
        let stored = stored.unwrap_or_else(|| self.decoy.clone());
        self.run(move || {
            let stored = StoredHash::read(&stored)?;
            let matches = stored.matches(&password) && known;
            let rehashed = (matches && stored.is_weaker_than(cost)).then(|| hash(cost, &password));
            Ok(Verdict { matches, rehashed })
        })
        .await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HashError> {
        let (reply, answer) = oneshot::channel();
        let load = Arc::clone(&self.load);
        let ticket = Ticket::take(&load).ok_or(HashError::Busy)?;
        let job = move || {
            drop(ticket);
            if reply.is_closed() {
                return; // nobody waits for it any more
            }
            let _running = METRICS.hashes_running.hold();
            let started = Instant::now();
            let done = work();
            load.measured(started.elapsed());
            let _ = reply.send(done);
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| HashError::Busy)?;
        answer.await.map_err(|_| HashError::Busy)
    }
}

fn next(queue: &Mutex<mpsc::Receiver<Job>>) -> Result<Job, mpsc::RecvError> {
    queue.lock().expect("BUG: no job runs while the queue is locked").recv()
}

impl Load {
    fn measured(&self, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.hash_us.store(took_us, Ordering::Relaxed);
    }

    fn wait(&self, waiting: usize) -> Duration {
        let rounds = waiting / self.threads.max(1);
        Duration::from_micros(self.hash_us.load(Ordering::Relaxed).saturating_mul(rounds as u64))
    }
}

/// A place in the queue.
struct Ticket {
    load: Arc<Load>,
    _waiting: Held,
}

impl Ticket {
    fn take(load: &Arc<Load>) -> Option<Self> {
        let waiting = load.waiting.fetch_add(1, Ordering::Relaxed);
        let ticket = Self { load: Arc::clone(load), _waiting: METRICS.hashes_waiting.hold() };
        (load.wait(waiting) < WAIT_MAX).then_some(ticket)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.load.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn hash(cost: ScryptCost, password: &Password) -> PasswordHash {
    let salt = random::bytes::<SALT_BYTES>();
    let mut output = [0; HASH_BYTES];
    cost.derive(password, &salt, &mut output);
    phc(cost, &salt, &output)
}

fn phc(cost: ScryptCost, salt: &[u8], output: &[u8]) -> PasswordHash {
    let mut params = ParamsString::new();
    for (name, value) in [("ln", u32::from(cost.log_n)), ("r", cost.r), ("p", cost.p)] {
        params.add_decimal(name, value).expect("BUG: three short parameters fit");
    }
    let phc = Phc {
        algorithm: scrypt::phc::ALG_ID,
        version: None,
        params,
        salt: Some(Salt::new(salt).expect("BUG: the salt has a valid length")),
        hash: Some(Output::new(output).expect("BUG: the output has a valid length")),
    };
    PasswordHash::new(phc.to_string())
}
