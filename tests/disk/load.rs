//! A mixed load on a store, and a record of what each worker requested and what was acknowledged.
//!
//! Each worker changes its own objects, one after the other. After any interruption its objects must therefore be as after the last
//! acknowledged step, or as after the step that it requested.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use latchkey::{
    model::WidgetName,
    model::{
        BlacklistedToken, Deadline, Email, InfoUrl, PasswordHash, PublicId, TokenId, User, UserChange, UserRevocation,
        Widget,
    },
    store::{Store, StoreError, UpdateOutcome},
};
use time::OffsetDateTime;

use super::device::{Disk, Event};

pub(crate) const CACHE_BYTES: usize = 4 * 1024 * 1024;
pub(crate) const WORKERS: usize = 6;
/// Tokens that expire before this are purged.
const NOW_S: u64 = 1_000;
const LATER_S: u64 = 10_000_000_000;
/// The maximum time until a store has opened itself again.
const REOPENED_WITHIN: Duration = Duration::from_secs(5);

/// The state of the data of a worker, one line per item.
pub(crate) type Look = BTreeMap<String, String>;

fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap()
}

fn user(worker: usize, number: usize) -> User {
    let mut id = [0; 16];
    id[14..].copy_from_slice(&[u8::try_from(worker).unwrap(), u8::try_from(number).unwrap()]);
    User {
        public_id: PublicId::from_bytes(id),
        email: Email::parse(&format!("user-{number}@worker-{worker}.example")).unwrap(),
        password_hash: PasswordHash::new("$scrypt$ln=1,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA".to_owned()),
        admin: false,
        disabled: false,
        epoch: 0,
        registered_on: start(),
    }
}

pub(crate) fn describe(user: &User) -> String {
    let User { password_hash, admin, disabled, epoch, .. } = user;
    format!("{} {admin} {disabled} {epoch}", password_hash.as_str())
}

fn widget(worker: usize, number: usize, url: usize) -> Widget {
    Widget {
        name: WidgetName::parse(&format!("widget-{worker}-{number}")).unwrap(),
        info_url: InfoUrl::parse(&format!("https://example.com/{url}/{}", "long/".repeat(url % 40))).unwrap(),
        created_at: start(),
        deadline: Deadline::from_stored(start()),
        owner: user(worker, 0).public_id,
    }
}

fn token(worker: usize, number: usize, expires_at_s: u64) -> BlacklistedToken {
    let id = format!("00000000-0000-4000-8000-{worker:06}{number:06}");
    BlacklistedToken { expires_at_s, token_id: TokenId::parse(&id).unwrap() }
}

/// How often the steps of a worker invalidate all tokens of a user.
const EPOCHS: u64 = 3;

/// The whole revocation feed: the tokens, and the last entry about each user.
pub(crate) struct Feed {
    tokens: BTreeSet<String>,
    users: BTreeMap<String, UserRevocation>,
}

impl Feed {
    /// Reads the feed in small pages.
    pub(crate) fn read(store: &Store) -> Result<Self, StoreError> {
        let (mut feed, mut after, mut more) = (Self { tokens: BTreeSet::new(), users: BTreeMap::new() }, None, true);
        while more {
            let page = block_on(store.revocation_page(after, 0, 7))?.expect("the cursor is from this feed");
            feed.tokens.extend(page.tokens.iter().map(|token| token.token_id.to_string()));
            feed.users.extend(page.users.into_iter().map(|user| (user.user.to_string(), user)));
            (after, more) = (Some(page.next), page.more);
        }
        Ok(feed)
    }
}

/// One operation of a worker.
#[derive(Clone)]
enum Step {
    Register(usize),
    Change(usize, UserChange),
    Remove(usize),
    LogOut(BlacklistedToken),
    Purge,
    AddWidget(usize),
    PutWidget(usize, usize),
    RemoveWidget(usize),
}

/// The steps of one worker, and the state of its objects before, between and after them.
pub(crate) struct Worker {
    number: usize,
    steps: Vec<Step>,
    pub(crate) looks: Vec<Look>,
    tokens: Vec<BlacklistedToken>,
    users: BTreeSet<usize>,
    widgets: BTreeSet<usize>,
}

impl Worker {
    fn new(number: usize, rounds: usize) -> Self {
        let mut worker = Self {
            number,
            steps: Vec::new(),
            looks: vec![Look::new()],
            tokens: Vec::new(),
            users: BTreeSet::new(),
            widgets: BTreeSet::new(),
        };
        for round in 0..rounds {
            let hash = PasswordHash::new(format!("$scrypt$ln=1,r=8,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGF{round:03}"));
            let change = UserChange::default();
            let expired = token(number, 2 * round, 100 + round as u64);
            for step in [
                Step::Register(round),
                Step::LogOut(token(number, 2 * round + 1, LATER_S)),
                Step::Change(round, UserChange { admin: Some(true), ..change.clone() }),
                Step::AddWidget(round),
                Step::Change(round, UserChange { password_hash: Some(hash), ..change.clone() }),
                Step::Change(round, UserChange { end_sessions: true, ..change.clone() }),
                Step::LogOut(expired),
                Step::PutWidget(round, 40 + round),
                Step::Change(round, UserChange { disabled: Some(true), ..change.clone() }),
                Step::Change(round, UserChange { admin: Some(false), ..change }),
                Step::Purge,
                Step::PutWidget(round + 1000, round),
            ] {
                worker.add(step);
            }
            if round % 2 == 1 {
                worker.add(Step::RemoveWidget(round));
                worker.add(Step::Remove(round));
            }
        }
        worker
    }

    fn add(&mut self, step: Step) {
        let mut look = self.looks.last().unwrap().clone();
        let (number, line) = (self.number, |thing: &Widget| thing.info_url.as_str().to_owned());
        match &step {
            Step::Register(n) => {
                self.users.insert(*n);
                look.insert(format!("user {n}"), describe(&user(number, *n)));
            }
            Step::Change(n, change) => {
                let before = self.user_now(*n);
                look.insert(format!("user {n}"), describe(&before.changed(change)));
            }
            Step::Remove(n) => drop(look.remove(&format!("user {n}"))),
            Step::LogOut(token) => {
                self.tokens.push(*token);
                look.insert(format!("token {}", token.token_id), "dead".to_owned());
            }
            Step::Purge => {} // a logged-out token stays invalid
            Step::AddWidget(n) => {
                self.widgets.insert(*n);
                look.insert(format!("widget {n}"), line(&widget(number, *n, 0)));
            }
            Step::PutWidget(n, url) => {
                self.widgets.insert(*n);
                look.insert(format!("widget {n}"), line(&widget(number, *n, *url)));
            }
            Step::RemoveWidget(n) => drop(look.remove(&format!("widget {n}"))),
        }
        self.steps.push(step);
        self.looks.push(look);
    }

    /// Returns the user after all steps so far.
    fn user_now(&self, n: usize) -> User {
        let changes = self.steps.iter().filter_map(|step| match step {
            Step::Change(whose, change) if *whose == n => Some(change),
            _ => None,
        });
        changes.fold(user(self.number, n), User::changed)
    }

    /// Runs a step. Returns `false` if there was nothing to do any more.
    async fn take(&self, step: &Step, store: &Store) -> Result<bool, StoreError> {
        let id = |n: usize| user(self.number, n).public_id;
        Ok(match step.clone() {
            Step::Register(n) => store.insert_user(user(self.number, n)).await?,
            Step::Change(n, change) => {
                matches!(store.update_user(id(n), None, change, LATER_S).await?, UpdateOutcome::Done(_))
            }
            Step::Remove(n) => matches!(store.remove_user(id(n), LATER_S).await?, UpdateOutcome::Done(_)),
            Step::LogOut(token) => store.blacklist(token).await?,
            Step::Purge => {
                store.purge_expired(NOW_S, 100).await?;
                store.purge_revocations(NOW_S, 100).await.map(|_| true)?
            }
            Step::AddWidget(n) => store.insert_widget(widget(self.number, n, 0)).await?,
            Step::PutWidget(n, url) => store.put_widget(widget(self.number, n, url)).await.map(|_| true)?,
            Step::RemoveWidget(n) => store.remove_widget(WidgetName::parse(&self.widget_name(n)).unwrap()).await?,
        })
    }

    fn widget_name(&self, n: usize) -> String {
        format!("widget-{}-{n}", self.number)
    }

    /// Reads the state of its data from `store`.
    pub(crate) fn look(&self, store: &Store) -> Result<Look, StoreError> {
        let mut look = Look::new();
        for n in &self.users {
            let expected = user(self.number, *n);
            let found = store.find_user(&expected.email)?;
            let by_id = store.find_user_by_id(expected.public_id)?;
            assert_eq!(found.as_ref().map(describe), by_id.as_ref().map(describe), "the index of emails is wrong");
            let caller = store.token_state(token(self.number, 0, LATER_S), expected.public_id)?.user;
            let caller = caller.as_deref().map(describe);
            assert_eq!(caller, by_id.as_ref().map(describe), "a request would see an older user");
            look.extend(found.map(|user| (format!("user {n}"), describe(&user))));
        }
        for n in &self.widgets {
            let found = store.find_widget(&WidgetName::parse(&self.widget_name(*n)).unwrap())?;
            look.extend(found.map(|found| (format!("widget {n}"), found.widget.info_url.as_str().to_owned())));
        }
        for token in &self.tokens {
            let state = store.token_state(*token, user(self.number, 0).public_id)?;
            if state.blacklisted || state.purged_through_s >= token.expires_at_s {
                look.insert(format!("token {}", token.token_id), "dead".to_owned());
            }
        }
        Ok(look)
    }

    /// Compares the revocation feed with the state of its data. Fails where the feed lacks something, or has more than happened.
    pub(crate) fn compare(&self, store: &Store, feed: &Feed) -> Result<(), String> {
        for token in self.tokens.iter().filter(|token| token.expires_at_s > NOW_S) {
            let is_dead = store.token_state(*token, user(self.number, 0).public_id).unwrap().blacklisted;
            if feed.tokens.contains(&token.token_id.to_string()) != is_dead {
                return Err(format!("the feed is wrong about the token {}, which is dead: {is_dead}", token.token_id));
            }
        }
        for n in &self.users {
            let id = user(self.number, *n).public_id;
            let found = store.find_user_by_id(id).unwrap();
            let is = found.map_or((EPOCHS + 1, false), |found| (found.epoch, found.admin));
            let said = feed.users.get(&id.to_string()).map(|said| (said.min_epoch, said.admin));
            // A user whose rights were never changed is not in the feed, nor is one who is not registered yet.
            if said.map_or(is != (0, false) && is != (EPOCHS + 1, false), |said| said != is) {
                return Err(format!("the feed says {said:?} of user {n}, not {is:?}"));
            }
        }
        Ok(())
    }

    /// Runs all steps. After an error, the state must be as before the step or as after it. Then the step is repeated, unless that would
    /// have another effect.
    async fn work(&self, store: &Store, disk: &Disk, mend: bool) {
        for (k, step) in self.steps.iter().enumerate() {
            let _ = self.look(store); // so that the cache has what the step changes
            disk.note(Event::Begun(self.number));
            let mut first = true;
            loop {
                let error = match self.take(step, store).await {
                    Ok(done) => {
                        assert!(done || !first, "what was acknowledged before is not there, or this was done already");
                        break;
                    }
                    Err(error) => error,
                };
                first = false;
                assert!(matches!(error, StoreError::Database(_) | StoreError::GivenUp), "{error}");
                if disk.can_be_read() {
                    let look = self.look(store).unwrap();
                    assert!(is_one_of(&look, &self.looks[k..=k + 1]), "{look:?}");
                }
                if mend {
                    disk.mend();
                }
                writable(store).await;
                let look = self.look(store).unwrap();
                assert!(is_one_of(&look, &self.looks[k..=k + 1]), "half-done: {look:?}");
                let taken = is_one_of(&look, &self.looks[k + 1..=k + 1]);
                if taken
                    && matches!(step, Step::Change(_, change) if change.end_sessions || change.password_hash.is_some())
                {
                    break; // a repetition would end more sessions
                }
            }
            disk.note(Event::Done(self.number));
        }
    }
}

/// Returns whether `look` is one of the expected states. More tokens may be invalid than were logged out: a purge by one worker uses a
/// later time than the expiry of tokens that another worker is about to log out.
pub(crate) fn is_one_of(look: &Look, expected: &[Look]) -> bool {
    expected.iter().any(|expected| {
        let more = look.iter().all(|(thing, how)| expected.get(thing).map_or(how == "dead", |there| there == how));
        more && expected.iter().all(|(thing, how)| look.get(thing) == Some(how))
    })
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

/// Waits until the store accepts writes again.
pub(crate) async fn writable(store: &Store) {
    let mended = Instant::now();
    while let Err(error) = store.probe_write().await {
        assert!(mended.elapsed() < REOPENED_WITHIN, "it does not open again: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Returns the workers of a load.
pub(crate) fn workers(rounds: usize) -> Vec<Worker> {
    (0..WORKERS).map(|number| Worker::new(number, rounds)).collect()
}

/// Adds a user who is always an administrator, so that the other administrators can be removed.
pub(crate) async fn first_admin(store: &Store) {
    assert!(store.insert_user(User { admin: true, ..user(99, 0) }).await.unwrap());
}

/// Runs all workers concurrently, so that writes share commits.
pub(crate) async fn work(workers: &[Worker], store: &Store, disk: &Disk, mend: bool) {
    join_all(workers.iter().map(|worker| worker.work(store, disk, mend))).await;
}
