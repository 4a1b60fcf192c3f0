//! P5: logins compared with scrypt alone. Also the flood of logins that P6, P7 and the last figure of P9 measure.
//!
//! This program sends the logins, not wrk. A few logins per second do not need a load generator. With the same number of hashes on both
//! sides, no hash is cut off at the end of a measured period. A flood must keep its own rate, whatever the responses so far are, and needs
//! a measured time for each kind of response.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    bench::{Bench, Flood},
    client::{self, Answer, Client},
    data::{self, Set, Signer},
    password_hash::{Cost, PASSWORD},
    row::{Bar, Row},
    stats::{ROUNDS, Rounds, median, number, percentile_ms},
    wrk::{self, Tokens},
};

/// The number of hashes that each processor computes in a round.
const HASHES: usize = 32;
const CONNECTIONS: usize = 16;
/// How long a client waits after status 503 before it tries again.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// The rate of the flood, as a multiple of the rate at which logins can be hashed.
const FLOOD: f64 = 20.0;
/// How long the flood runs before responses are measured (`RISE`), and while they are measured (`FLOOD_S`).
const RISE: Duration = Duration::from_secs(2);
const FLOOD_S: u64 = 4;
/// The stack size of a thread that sends one login.
const SENDER_STACK_BYTES: usize = 128 * 1024;

/// Returns how many hashes of this cost all processors compute per second if they do nothing else.
fn alone_per_s(cost: Cost) -> f64 {
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..wrk::threads() {
            scope.spawn(|| {
                for _ in 0..HASHES {
                    std::hint::black_box(cost.hash());
                }
            });
        }
    });
    (HASHES * wrk::threads()) as f64 / started.elapsed().as_secs_f64()
}

/// Sends `count` requests over [`CONNECTIONS`] connections. Each connection sends its next request when the previous one is answered.
/// Returns the number of responses per second.
pub(crate) fn closed_loop(
    server: SocketAddr,
    count: usize,
    request: impl Fn(usize) -> Vec<u8> + Sync,
) -> anyhow::Result<f64> {
    let turn = AtomicUsize::new(0);
    let send = || {
        let mut client = Client::connect(server)?;
        loop {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            if turn >= count {
                return anyhow::Ok(());
            }
            let request = request(turn);
            while client.ask(&request)?.unless_busy()?.is_none() {
                thread::sleep(BUSY_PAUSE); // a slow machine refuses logins that would wait too long, without hashing
            }
        }
    };
    let started = Instant::now();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(send)).collect();
        senders.into_iter().try_for_each(|sender| sender.join().expect("a sender does not panic"))
    })?;
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Returns how many logins per second the server answers. Each connection sends one login after the other, so that hashing limits the rate.
pub(crate) fn logins_per_s(server: SocketAddr, request: impl Fn(usize) -> Vec<u8> + Sync) -> anyhow::Result<f64> {
    closed_loop(server, HASHES * wrk::threads(), request)
}

pub(crate) fn p5(bench: &Bench) -> anyhow::Result<Row> {
    let cost = Cost::default_setting();
    let (_copy, server) = bench.serve(Set::Thousand, &[])?;
    let next = AtomicUsize::new(0);
    let login = |_| {
        let user = data::anyone(next.fetch_add(1, Ordering::Relaxed), Set::Thousand.users());
        client::login(&data::email(user), PASSWORD)
    };
    client::once(server.address, &login(0))?.ok()?;
    let rounds = Rounds::alternate(|| Ok(alone_per_s(cost)), || logins_per_s(server.address, login))?;
    Ok(Row {
        name: "P5",
        what: "logins, default cost, 16 connections",
        against: "scrypt alone on all processors",
        target: "≥ 0.97".to_owned(),
        figure: format!("{}: {}/s of {}/s", rounds.ratio_text(), number(rounds.subject()), number(rounds.baseline())),
        met: rounds.ratio() >= 0.97,
        unit: "logins/s",
        bars: vec![Bar::ours("latchkey", rounds.subject()), Bar::baseline("scrypt alone", rounds.baseline())],
    })
}

struct Arrival {
    answer: anyhow::Result<Answer>,
    took: Duration,
}

/// Sends a login at each tick, independently of the responses, until told to stop. Each uses a new connection and is timed from before the
/// connection is opened until its response is read.
fn pour(server: SocketAddr, per_s: f64, stop: &mpsc::Receiver<()>) -> anyhow::Result<Vec<Arrival>> {
    let arrivals = Mutex::new(Vec::new());
    let started = Instant::now();
    thread::scope(|scope| {
        for turn in 0_usize.. {
            let due = started + Duration::from_secs_f64(turn as f64 / per_s);
            match stop.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                _ => break,
            }
            let user = data::anyone(turn, Set::Million.users());
            let request = client::login(&data::email(user), PASSWORD);
            let arrivals = &arrivals;
            let send = move || {
                let sent = Instant::now();
                let answer = client::once(server, &request);
                let arrival = Arrival { answer, took: sent.elapsed() };
                arrivals.lock().expect("nobody panics with it").push(arrival);
            };
            thread::Builder::new().stack_size(SENDER_STACK_BYTES).spawn_scoped(scope, send)?;
        }
        anyhow::Ok(())
    })?;
    Ok(arrivals.into_inner().expect("nobody panics with it"))
}

/// Runs the flood once and returns its results, which several rows use.
pub(crate) fn flood(bench: &Bench) -> anyhow::Result<&Flood> {
    if bench.flood.get().is_none() {
        let _ = bench.flood.set(measure_flood(bench)?); // the cell was empty
    }
    Ok(bench.flood.get().expect("it was just set"))
}

/// Measures rounds without and with the flood, on a million users.
fn measure_flood(bench: &Bench) -> anyhow::Result<Flood> {
    let (_copy, server) = bench.serve(Set::Million, &[])?;
    let token = Signer::new().among(Set::Million, 1).remove(0);
    let tokens = Tokens::One(token);
    let read = || wrk::run(server.address, ("GET", wrk::USER), CONNECTIONS, FLOOD_S, &tokens);
    read()?;
    let per_s = FLOOD * alone_per_s(Cost::default_setting());
    let (mut without, mut during) = (Vec::new(), Vec::new());
    let (mut refused, mut accepted) = (Vec::new(), Vec::new());
    let mut memory_bytes: f64 = 0.0;
    for _ in 0..ROUNDS {
        without.push(read()?);
        let (stop, stopped) = mpsc::channel();
        let arrivals = thread::scope(|scope| {
            let address = server.address;
            let pouring = scope.spawn(move || pour(address, per_s, &stopped));
            thread::sleep(RISE);
            let (found, most) = Bench::most_memory(&server, read)?;
            during.push(found);
            memory_bytes = memory_bytes.max(most);
            drop(stop);
            pouring.join().expect("the flood does not panic")
        })?;
        for Arrival { answer, took } in arrivals {
            let answer = answer.context("a login in the flood")?;
            match answer.status {
                200 => accepted.push(took),
                503 if answer.header("retry-after").is_some() => refused.push(took),
                status => bail!("a login in the flood was answered {status} without Retry-After"),
            }
        }
    }
    ensure!(!accepted.is_empty(), "no login of the flood was accepted");
    Ok(Flood { without, during, refused, accepted, per_s, memory_bytes })
}

pub(crate) fn p6(bench: &Bench) -> anyhow::Result<Row> {
    let found = flood(bench)?;
    let pairs = |figure: fn(&wrk::Found) -> f64| {
        Rounds::from(found.without.iter().map(figure).zip(found.during.iter().map(figure)).collect())
    };
    let (p99, rate) = (pairs(|found| found.p99_ms), pairs(|found| found.rate));
    Ok(Row {
        name: "P6",
        what: "p99 of `GET /auth/user` (16 connections) while logins arrive at 20× of what hashing can take; its rate",
        against: "the same without logins",
        target: "≤ 2; ≥ 0.8".to_owned(),
        figure: format!(
            "{}: {} ms of {} ms; {}: {}/s of {}/s",
            p99.ratio_text(),
            number(p99.subject()),
            number(p99.baseline()),
            rate.ratio_text(),
            number(rate.subject()),
            number(rate.baseline())
        ),
        met: p99.ratio() <= 2.0 && rate.ratio() >= 0.8,
        ..Row::default()
    })
}

pub(crate) fn p7(bench: &Bench) -> anyhow::Result<Row> {
    let found = flood(bench)?;
    let (mut refused, mut accepted) = (found.refused.clone(), found.accepted.clone());
    let p99 = percentile_ms(&mut refused, 99);
    let longest = percentile_ms(&mut accepted, 100) / 1000.0;
    Ok(Row {
        name: "P7",
        what: "the refused logins of P6: 503 with `Retry-After`; the accepted ones",
        against: "",
        target: "p99 < 50 ms; all within 5 s".to_owned(),
        figure: format!(
            "**{} ms** ({} refused); **{} s** at most, {} s in the middle ({} accepted); {} arrived a second",
            number(p99),
            number(refused.len() as f64),
            number(longest),
            number(median(accepted.iter().map(Duration::as_secs_f64).collect())),
            number(accepted.len() as f64),
            number(found.per_s)
        ),
        met: p99 < 50.0 && longest <= 5.0,
        ..Row::default()
    })
}
