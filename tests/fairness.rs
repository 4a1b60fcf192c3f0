//! Logins beside a flood of logins, simulated: the scheduler of password hashes with a clock that the test moves.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use latchkey::auth::{
    network::Client,
    passwords::{
        fair_queue::{Class, Demand},
        scheduler::Scheduler,
    },
};

/// The work of a hash of the default cost, in bytes.
const WORK: u64 = 3 << 25;
const THREADS: usize = 2;
/// How long a hash takes: together the threads do 7.7 a second, or 1.8 a second where other programs use the processors too.
const HASH: Duration = Duration::from_millis(260);
const SLOW_HASH: Duration = Duration::from_millis(1100);
/// What `--login-limit` allows by default: this many at once, and then one a second.
const AT_ONCE: u32 = 60;
/// The first login that is looked at, which finds the flood there.
const FLOODED: Duration = Duration::from_secs(10);
const END: Duration = Duration::from_mins(20);
/// The same for floods from hundreds of addresses.
const EARLY_END: Duration = Duration::from_mins(4);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Finish(usize),
    /// A login of the client with this number.
    Login(usize),
}

/// Pseudo-random durations (a linear congruential generator), the same in each run.
struct Jitter(u64);

impl Jitter {
    fn below_a_second(&mut self) -> Duration {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_nanos((self.0 >> 33) % 1_000_000_000)
    }
}

/// Clients and their logins, by the time since the start.
struct Simulation {
    start: Instant,
    scheduler: Scheduler<usize>,
    events: BinaryHeap<Reverse<(Duration, Event)>>,
    /// The clients, with what is seen of their logins.
    clients: Vec<(Demand, Vec<Option<Duration>>)>,
    /// By thread: whose job it runs, asked when.
    running: [Option<usize>; THREADS],
    /// Client and time of each login that was not answered yet, by number.
    open: HashMap<usize, (usize, Duration)>,
    logins: usize,
    hash: Duration,
    end: Duration,
}

impl Simulation {
    fn until(end: Duration) -> Self {
        let start = Instant::now();
        Self {
            start,
            scheduler: Scheduler::new(THREADS, WORK, start),
            events: BinaryHeap::new(),
            clients: Vec::new(),
            running: [None; THREADS],
            open: HashMap::new(),
            logins: 0,
            hash: HASH,
            end,
        }
    }

    fn client(&mut self, class: Class, from: IpAddr, times: impl Iterator<Item = Duration>) -> usize {
        let number = self.clients.len();
        self.clients.push((Demand { class, client: Client::at(Some(from)), work: WORK }, Vec::new()));
        self.events.extend(times.map(|at| Reverse((at, Event::Login(number)))));
        number
    }

    /// A client that sends as many logins as it may.
    fn flooder(&mut self, class: Class, from: IpAddr) {
        let end = self.end;
        let mut random = Jitter(self.clients.len() as u64);
        let begin = random.below_a_second();
        let burst = (0..AT_ONCE).map(move |n| begin + n * Duration::from_millis(5));
        let later =
            (1..).map(move |n| n * Duration::from_secs(1) + random.below_a_second()).take_while(move |at| *at < end);
        self.client(class, from, burst.chain(later));
    }

    /// A client that logs in every now and then.
    fn user(&mut self, class: Class, from: IpAddr, every: Duration) -> usize {
        let end = self.end;
        let mut random = Jitter(u64::MAX);
        let times = (0..).map(move |n| FLOODED + n * every + random.below_a_second()).take_while(move |at| *at < end);
        self.client(class, from, times)
    }

    /// Runs to the end, and returns how many of each hundred logins of `client` were answered, rounded down, and the 95th percentile of the
    /// time.
    fn run(mut self, client: usize) -> (usize, Duration) {
        while let Some(Reverse((at, event))) = self.events.pop() {
            let now = self.start + at;
            match event {
                Event::Finish(thread) => {
                    self.scheduler.finish(thread, now);
                    let login = self.running[thread].take().unwrap();
                    self.answer(login, |asked| Some(at.saturating_sub(asked)));
                }
                Event::Login(client) => {
                    let login = self.logins;
                    self.logins += 1;
                    self.open.insert(login, (client, at));
                    let _ = self.scheduler.join(self.clients[client].0, login, now);
                }
            }
            for thread in 0..THREADS {
                if self.running[thread].is_none() {
                    self.running[thread] = self.scheduler.take(thread, now);
                    if self.running[thread].is_some() {
                        self.events.push(Reverse((at + self.hash, Event::Finish(thread))));
                    }
                }
            }
            for login in self.scheduler.take_discarded() {
                self.answer(login, |_| None);
            }
        }
        assert!(self.open.is_empty(), "each login is answered or refused");
        let outcomes = &self.clients[client].1;
        let mut times: Vec<_> = outcomes.iter().flatten().copied().collect();
        times.sort_unstable();
        let percent = 100 * times.len() / outcomes.len();
        (percent, times.get(times.len() * 95 / 100).copied().unwrap_or(Duration::MAX))
    }

    fn answer(&mut self, login: usize, outcome: impl Fn(Duration) -> Option<Duration>) {
        let (client, asked) = self.open.remove(&login).expect("a login has one outcome");
        self.clients[client].1.push(outcome(asked));
    }
}

/// An address in a block of its own.
fn stranger(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0b00_0001 + (n << 8)).into()
}

const NEWCOMER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const NOW_AND_THEN: Duration = Duration::from_secs(10);

#[test]
fn beside_a_flood_from_some_addresses_a_newcomer_gets_in_soon() {
    for (addresses, hash) in [(1, HASH), (4, HASH), (16, HASH), (60, HASH), (4, SLOW_HASH), (16, SLOW_HASH)] {
        let mut simulation = Simulation::until(END);
        simulation.hash = hash;
        (0..addresses).for_each(|n| simulation.flooder(Class::Unknown, stranger(n)));
        let newcomer = simulation.user(Class::Unknown, NEWCOMER, NOW_AND_THEN);
        let (percent, p95) = simulation.run(newcomer);
        println!("{addresses} addresses: {percent} %, {p95:?}");
        assert!(percent >= 99 && p95 <= Duration::from_secs(3), "{addresses} addresses: {percent} %, {p95:?}");
    }
}

/// Flooders log in to accounts of their own too, where they are known devices.
#[test]
fn a_flood_of_known_devices_leaves_the_others_their_half() {
    for hash in [HASH, SLOW_HASH] {
        let mut simulation = Simulation::until(END);
        simulation.hash = hash;
        for n in 0..16 {
            simulation.flooder(Class::Known, stranger(n));
            simulation.flooder(Class::Unknown, stranger(n));
        }
        let newcomer = simulation.user(Class::Unknown, NEWCOMER, NOW_AND_THEN);
        let (percent, p95) = simulation.run(newcomer);
        println!("{percent} %, {p95:?}");
        assert!(percent >= 99 && p95 <= Duration::from_secs(3), "{percent} %, {p95:?}");
    }
}

#[test]
fn beside_a_flood_from_a_thousand_addresses_a_known_device_gets_in_soon() {
    let mut simulation = Simulation::until(EARLY_END);
    (0..1000).for_each(|n| simulation.flooder(Class::Unknown, stranger(n)));
    let known = simulation.user(Class::Known, NEWCOMER, NOW_AND_THEN);
    let (percent, p95) = simulation.run(known);
    println!("{percent} %, {p95:?}");
    assert!(percent >= 99 && p95 <= Duration::from_secs(3), "{percent} %, {p95:?}");
}

#[test]
fn a_block_of_addresses_counts_as_one_crowd() {
    let ipv4 = |n: u32| IpAddr::from(Ipv4Addr::from(0x0b00_0000 + n));
    let ipv6 = |n: u32| IpAddr::from(Ipv6Addr::from((0x2001_0db8_0001_u128 << 80) + (u128::from(n) << 64) + 1));
    for block in [&ipv4 as &dyn Fn(u32) -> IpAddr, &ipv6] {
        let mut simulation = Simulation::until(EARLY_END);
        (0..250).for_each(|n| simulation.flooder(Class::Unknown, block(n)));
        // Once a second: more than its share if each of the addresses had one.
        let newcomer = simulation.user(Class::Unknown, NEWCOMER, Duration::from_secs(1));
        let (percent, p95) = simulation.run(newcomer);
        println!("{percent} %, {p95:?}");
        assert!(percent >= 99 && p95 <= Duration::from_secs(3), "{percent} %, {p95:?}");
    }
}

/// Queues jobs for one busy thread, and returns the order in which they run.
fn order(jobs: &[(Class, Option<IpAddr>)]) -> Vec<usize> {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1, WORK, now);
    let demand = |class, from| Demand { class, client: Client::at(from), work: WORK / 1000 };
    scheduler.join(demand(Class::Known, Some(Ipv4Addr::LOCALHOST.into())), usize::MAX, now).unwrap();
    scheduler.take(0, now).unwrap();
    for (number, (class, from)) in jobs.iter().enumerate() {
        scheduler.join(demand(*class, *from), number, now).unwrap();
    }
    let next = || {
        scheduler.finish(0, now);
        scheduler.take(0, now)
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn turns_go_round_by_block_and_in_a_block_by_client() {
    let job = |address: &str| (Class::Unknown, Some(address.parse().unwrap()));
    let (a1, a2, b) = (job("11.0.0.1"), job("11.0.0.2"), job("11.0.1.1"));
    assert_eq!(order(&[a1, a1, a1, a1, b, b]), [0, 4, 1, 5, 2, 3]);
    assert_eq!(order(&[a1, a1, a1, a2, b, b, b, b]), [0, 4, 3, 5, 1, 6, 2, 7]);
    let (c1, same, c2, d) =
        (job("2001:db8:1:1::1"), job("2001:db8:1:1::2"), job("2001:db8:1:2::1"), job("2001:db8:2:1::1"));
    assert_eq!(order(&[c1, same, c1, c2, d, d]), [0, 4, 3, 5, 1, 2]);
}

#[test]
fn known_devices_and_others_take_turns_and_new_hashes_come_last() {
    let job = |class, n| (class, Some(stranger(n)));
    let (known, other, new) = (job(Class::Known, 1), job(Class::Unknown, 2), job(Class::NewHash, 3));
    assert_eq!(order(&[new, other, other, other, known, known]), [4, 1, 5, 2, 3, 0]);
    assert_eq!(order(&[new, other, known, known, known]), [2, 1, 3, 4, 0]);
}

#[test]
fn where_the_queue_is_full_a_newcomer_takes_the_place_of_who_used_most() {
    let now = Instant::now();
    let mut scheduler = Scheduler::new(1, WORK, now);
    // So little work that it is never refused for the time that it takes.
    let demand = |from| Demand { class: Class::Unknown, client: Client::at(Some(from)), work: 1 };
    let mut number = 0;
    let mut join = |scheduler: &mut Scheduler<u32>, from| {
        number += 1;
        scheduler.join(demand(from), number, now).map(|_| number)
    };
    while join(&mut scheduler, stranger(0)).is_ok() {}
    let own_line = scheduler.take_discarded()[0] - 1;
    assert!((100..=500).contains(&own_line), "a client has {own_line} places");
    let mut first_of = Vec::new();
    for n in 1..2000 {
        // Two each, as long as there is room without a look at who used most.
        first_of.extend(join(&mut scheduler, stranger(n)).ok());
    }
    let discarded = scheduler.take_discarded();
    assert!(!discarded.is_empty(), "the queue is bounded");
    let (of_first, of_others): (Vec<_>, Vec<_>) = discarded.iter().partition(|number| **number <= own_line);
    assert_eq!(of_first.len(), own_line as usize - 1, "all but one of the longest line gave way");
    assert!(of_others.iter().all(|number| !first_of[..900].contains(number)), "and then only who came last");
}
