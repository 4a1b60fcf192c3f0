//! Fair queueing: which of the queued jobs runs next.
//!
//! Jobs are queued by class, in it by block of addresses, in that by client, each client in a line of its own. The next job is one of the
//! class whose turn it is, then of the block that used least lately, then of the client of this block that used least lately; among equals
//! and in a line, the job that came first.
//!
//! Guarantees: a client that used more than another never goes before it, however many jobs it has queued, however many connections or
//! neighbouring addresses it has. While both known devices and others have jobs queued, each of the two classes gets half of the work
//! (deficit round robin). The number of queued jobs is bounded. Deliberately absent: how long a job takes, and when it is refused for that.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use crate::auth::{
    network::{Client, Network},
    passwords::usage::{Usage, UsageTable},
};

/// The most queued jobs of one class.
const CLASS_JOBS_MAX: usize = 1024;
/// The most queued jobs of one class and client. All users behind a proxy that is not trusted are one client.
const LINE_JOBS_MAX: usize = 256;

/// Levels of [`UsageTable`].
const CLIENT: u8 = 0;
const BLOCK: u8 = 1;

/// The class of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Verification of a password from where its account logged in lately. Also a job of the operator.
    Known = 0,
    /// Any other verification of a password. Shares the threads with [`Class::Known`] half and half.
    Unknown = 1,
    /// A hash of a new password. Runs when no verification is queued.
    NewHash = 2,
}

/// What is known of a job before it runs.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// Its class.
    pub class: Class,
    /// Whose it is.
    pub client: Client,
    /// Its work in bytes.
    pub work: u64,
}

/// Identifies a queued job.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    class: Class,
    client: Client,
    number: u64,
}

pub(in crate::auth) struct Pushed<T> {
    pub(in crate::auth) ticket: Ticket,
    pub(in crate::auth) evicted: Option<T>,
}

/// A job that was chosen to run.
pub(in crate::auth) struct Next<T> {
    pub(in crate::auth) client: Client,
    pub(in crate::auth) work: u64,
    pub(in crate::auth) content: T,
}

struct Job<T> {
    number: u64,
    work: u64,
    since: Instant,
    content: T,
}

/// The queued jobs of one client in order of arrival. There is at least one.
struct Line<T> {
    usage: Usage,
    jobs: VecDeque<Job<T>>,
    work: u64,
}

impl<T> Line<T> {
    fn new(usage: Usage) -> Self {
        Self { usage, jobs: VecDeque::new(), work: 0 }
    }

    fn first(&self) -> u64 {
        self.jobs.front().map_or(u64::MAX, |job| job.number)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.usage.compare(other.usage).then_with(|| self.first().cmp(&other.first()))
    }
}

/// The lines of the clients in one block. There is at least one.
struct Block<T> {
    usage: Usage,
    lines: BTreeMap<Network, Line<T>>,
    jobs: usize,
    work: u64,
}

impl<T> Block<T> {
    fn new(usage: Usage) -> Self {
        Self { usage, lines: BTreeMap::new(), jobs: 0, work: 0 }
    }

    fn first(&self) -> u64 {
        self.lines.values().map(Line::first).min().unwrap_or(u64::MAX)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.usage.compare(other.usage).then_with(|| self.first().cmp(&other.first()))
    }
}

/// The queued jobs of one class.
struct Backlog<T> {
    blocks: BTreeMap<Network, Block<T>>,
    jobs: usize,
    work: u64,
}

impl<T> Backlog<T> {
    /// Removes the job at `place` in the line of `client`, and the line and the block if they are empty then.
    fn take(&mut self, client: Client, place: usize) -> Option<Job<T>> {
        let block = self.blocks.get_mut(&client.block)?;
        let line = block.lines.get_mut(&client.network)?;
        let job = line.jobs.remove(place)?;
        line.work -= job.work;
        block.jobs -= 1;
        block.work -= job.work;
        self.jobs -= 1;
        self.work -= job.work;
        if line.jobs.is_empty() {
            block.lines.remove(&client.network);
        }
        if block.lines.is_empty() {
            self.blocks.remove(&client.block);
        }
        Some(job)
    }
}

/// All queued jobs.
pub(in crate::auth) struct FairQueue<T> {
    classes: [Backlog<T>; 3],
    usage: UsageTable,
    /// The work that known devices got more than the others, while both had jobs queued. Negative if they got less.
    known_lead: i128,
    next_number: u64,
}

impl<T> FairQueue<T> {
    pub(in crate::auth) fn new(now: Instant) -> Self {
        let classes = [(); 3].map(|()| Backlog { blocks: BTreeMap::new(), jobs: 0, work: 0 });
        Self { classes, usage: UsageTable::new(now), known_lead: 0, next_number: 0 }
    }

    /// Returns the number of queued jobs.
    pub(in crate::auth) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.jobs).sum()
    }

    /// Queues a job. If the class is full, the job that would run last is removed and returned, which may be the new one.
    ///
    /// Returns `content` if the line of the client is full.
    pub(in crate::auth) fn push(&mut self, demand: Demand, content: T, now: Instant) -> Result<Pushed<T>, T> {
        let Demand { class, client, work } = demand;
        let usage = (self.usage.get(BLOCK, client.block), self.usage.get(CLIENT, client.network));
        let backlog = &mut self.classes[class as usize];
        let block = backlog.blocks.entry(client.block).or_insert_with(|| Block::new(usage.0));
        let line = block.lines.entry(client.network).or_insert_with(|| Line::new(usage.1));
        if line.jobs.len() >= LINE_JOBS_MAX {
            return Err(content);
        }
        let ticket = Ticket { class, client, number: self.next_number };
        self.next_number += 1;
        line.jobs.push_back(Job { number: ticket.number, work, since: now, content });
        line.work += work;
        block.jobs += 1;
        block.work += work;
        backlog.jobs += 1;
        backlog.work += work;
        let is_full = backlog.jobs > CLASS_JOBS_MAX;
        let last = if is_full { self.last(class, now) } else { None };
        let evicted = last.and_then(|last| Some((last.number == ticket.number, self.remove(last)?)));
        Ok(match evicted {
            Some((true, own)) => return Err(own),
            Some((false, other)) => Pushed { ticket, evicted: Some(other) },
            None => Pushed { ticket, evicted: None },
        })
    }

    /// Removes a job. Returns `None` if it is no longer queued.
    pub(in crate::auth) fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let Ticket { class, client, number } = ticket;
        let line = self.classes[class as usize].blocks.get(&client.block)?.lines.get(&client.network)?;
        let place = line.jobs.binary_search_by_key(&number, |job| job.number).ok()?;
        self.classes[class as usize].take(client, place).map(|job| job.content)
    }

    /// Removes the job that runs next, and charges its client and block for it.
    pub(in crate::auth) fn pop(&mut self, now: Instant) -> Option<Next<T>> {
        let class = self.next_class()?;
        let backlog = &mut self.classes[class as usize];
        let (block_network, block) = backlog.blocks.iter().min_by(|a, b| a.1.order(b.1))?;
        let (network, _) = block.lines.iter().min_by(|a, b| a.1.order(b.1))?;
        let client = Client { network: *network, block: *block_network };
        let job = backlog.take(client, 0)?;
        self.count_class(class, job.work);
        self.charge(client, job.work, now);
        Some(Next { client, work: job.work, content: job.content })
    }

    /// Adds `work` bytes to the usage of `client` and of its block.
    pub(in crate::auth) fn charge(&mut self, client: Client, work: u64, now: Instant) {
        let of_block = self.usage.charge(BLOCK, client.block, work, now);
        let of_client = self.usage.charge(CLIENT, client.network, work, now);
        for block in self.classes.iter_mut().filter_map(|class| class.blocks.get_mut(&client.block)) {
            block.usage = of_block;
            if let Some(line) = block.lines.get_mut(&client.network) {
                line.usage = of_client;
            }
        }
    }

    /// Removes the jobs for which `is_late` returns true. It gets the time of arrival and the work of a job.
    pub(in crate::auth) fn remove_late(&mut self, is_late: impl Fn(Instant, u64) -> bool) -> Vec<T> {
        let mut late = Vec::new();
        for (class, backlog) in [Class::Known, Class::Unknown, Class::NewHash].into_iter().zip(&self.classes) {
            for (block, found) in &backlog.blocks {
                for (network, line) in &found.lines {
                    let client = Client { network: *network, block: *block };
                    let jobs = line.jobs.iter().filter(|job| is_late(job.since, job.work));
                    late.extend(jobs.map(|job| Ticket { class, client, number: job.number }));
                }
            }
        }
        late.into_iter().filter_map(|ticket| self.remove(ticket)).collect()
    }

    /// Estimates the work of the queued jobs that would run before a new job, in bytes.
    pub(in crate::auth) fn work_before(&self, demand: Demand, now: Instant) -> f64 {
        let Demand { class, client, work } = demand;
        let backlog = &self.classes[class as usize];
        let bytes = |usage| self.usage.bytes(usage, now);
        // The new job runs when its client, and its block, have used what they have now and what their earlier jobs will use. Until then
        // each other one is served as long as it has used less.
        let block = backlog.blocks.get(&client.block);
        let line = block.and_then(|block| block.lines.get(&client.network));
        let own = line.map_or(0.0, |line| float(line.work));
        let turn = bytes(self.usage.get(CLIENT, client.network)) + own;
        let others =
            block.into_iter().flat_map(|block| &block.lines).filter(|(network, _)| **network != client.network);
        let others = others.map(|(_, line)| served_before(turn, bytes(line.usage), line.work, line.jobs.len()));
        let in_block = own + others.sum::<f64>();
        let turn = bytes(self.usage.get(BLOCK, client.block)) + in_block;
        let others = backlog.blocks.iter().filter(|(network, _)| **network != client.block);
        let others = others.map(|(_, block)| served_before(turn, bytes(block.usage), block.work, block.jobs));
        let before = in_block + others.sum::<f64>();
        let queued = |class: Class| float(self.classes[class as usize].work);
        let (known, unknown) = (queued(Class::Known), queued(Class::Unknown));
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let known_lead = self.known_lead as f64;
        before
            + match class {
                Class::Known => (before + known_lead).max(0.0).min(unknown),
                Class::Unknown => ((before - known_lead).max(0.0) + float(work)).min(known),
                Class::NewHash => known + unknown,
            }
    }

    /// Returns the job of a class that would run last: the newest of the client that will have used most when all jobs are done, in the
    /// block that will have used most.
    fn last(&self, class: Class, now: Instant) -> Option<Ticket> {
        let most = |usage, work| self.usage.bytes(usage, now) + float(work);
        let blocks = self.classes[class as usize].blocks.iter();
        let by_usage = |a: &(_, &Block<T>), b: &(_, &Block<T>)| {
            most(a.1.usage, a.1.work).total_cmp(&most(b.1.usage, b.1.work)).then(a.1.first().cmp(&b.1.first()))
        };
        let (block_network, block) = blocks.max_by(by_usage)?;
        let by_usage = |a: &(_, &Line<T>), b: &(_, &Line<T>)| {
            most(a.1.usage, a.1.work).total_cmp(&most(b.1.usage, b.1.work)).then(a.1.first().cmp(&b.1.first()))
        };
        let (network, line) = block.lines.iter().max_by(by_usage)?;
        let client = Client { network: *network, block: *block_network };
        Some(Ticket { class, client, number: line.jobs.back()?.number })
    }

    fn has(&self, class: Class) -> bool {
        self.classes[class as usize].jobs > 0
    }

    fn next_class(&self) -> Option<Class> {
        match (self.has(Class::Known), self.has(Class::Unknown)) {
            (true, true) if self.known_lead <= 0 => Some(Class::Known),
            (_, true) => Some(Class::Unknown),
            (true, false) => Some(Class::Known),
            (false, false) => self.has(Class::NewHash).then_some(Class::NewHash),
        }
    }

    /// Counts `work` that `class` got. What a class gets while the other has nothing queued is no lead, and only makes up for one that the
    /// other has.
    fn count_class(&mut self, class: Class, work: u64) {
        let work = i128::from(work);
        self.known_lead = match class {
            Class::Known if self.has(Class::Unknown) => self.known_lead + work,
            Class::Known => (self.known_lead + work).min(self.known_lead.max(0)),
            Class::Unknown if self.has(Class::Known) => self.known_lead - work,
            Class::Unknown => (self.known_lead - work).max(self.known_lead.min(0)),
            Class::NewHash => self.known_lead,
        };
    }
}

/// The work of another client, or block, that is done before one whose `turn` comes when it has used that much.
fn served_before(turn: f64, used: f64, queued: u64, jobs: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let one_job = float(queued) / jobs.max(1) as f64;
    if used <= turn { (turn - used + one_job).min(float(queued)) } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn float(work: u64) -> f64 {
    work as f64
}
