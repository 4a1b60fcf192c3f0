//! P3, P4 and P11: concurrent logouts, single logouts, and logouts while the blacklist is purged.

use std::{
    fs::OpenOptions,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use crate::{
    bench::Bench,
    client::{self, Client},
    data::{self, MILLION, Set, Signer},
    process::Server,
    read,
    row::{Bar, Row},
    stats::{ROUNDS, Rounds, number, percentile_ms},
    wrk::{self, LOGOUT, TokenFiles, Tokens},
};

const CONNECTIONS: usize = 256;
const SECONDS: u64 = 4;
/// The number of tokens to prepare per second and processor. A processor cannot answer as many logouts in a second.
const RATE_MAX: usize = 60_000;
/// The number of logouts, and of bare writes, in a round of P4.
const ALONE: usize = 500;
const PAGE_BYTES: usize = 4096;
/// The number of pages that the bare writes use in turn.
const PAGES: usize = 1024;
/// The number of connections of P11.
const STEADY: usize = 16;
/// The maximum time of a purge of a million entries before the row fails (`PURGE_MAX`), and the number of tokens that each connection has
/// for that time (`STEADY_TOKENS`).
const PURGE_MAX: Duration = Duration::from_mins(2);
const STEADY_TOKENS: usize = 40_000;

pub(crate) fn p3(bench: &Bench) -> anyhow::Result<Row> {
    let (_copy, server) = bench.serve(Set::Thousand, &[])?;
    let signer = Signer::new();
    let reader = Tokens::One(signer.among(Set::Thousand, 1).remove(0));
    let reads = || read::rate(&server, &reader);
    let logouts = || {
        let count = usize::try_from(SECONDS)? * RATE_MAX * wrk::threads();
        let tokens = Tokens::Once(TokenFiles::write(&bench.work, &signer.of_last_hour(Set::Thousand, count))?);
        Ok(wrk::run(server.address, ("POST", LOGOUT), CONNECTIONS, SECONDS, &tokens)?.rate)
    };
    reads()?;
    logouts()?;
    let rounds = Rounds::alternate(reads, logouts)?;
    Ok(Row {
        name: "P3",
        what: "`POST /auth/logout`, durable, 256 connections, each request with its own token",
        against: "the rate of P1",
        target: "≥ 0.5".to_owned(),
        figure: format!("{}: {}/s of {}/s", rounds.ratio_text(), number(rounds.subject()), number(rounds.baseline())),
        met: rounds.ratio() >= 0.5,
        unit: "requests/s",
        bars: vec![Bar::ours("logouts", rounds.subject()), Bar::baseline("GET /auth/user", rounds.baseline())],
    })
}

pub(crate) fn p4(bench: &Bench) -> anyhow::Result<Row> {
    let (copy, server) = bench.serve(Set::Thousand, &[])?;
    let signer = Signer::new();
    let logouts = || {
        let mut client = Client::connect(server.address)?;
        let mut durations = Vec::new();
        for token in signer.of_last_hour(Set::Thousand, ALONE) {
            let request = client::with_token("POST", LOGOUT, &token);
            let sent = Instant::now();
            client.ask(&request)?.ok()?;
            durations.push(sent.elapsed());
        }
        Ok(percentile_ms(&mut durations, 50))
    };
    let file = copy.path().join("bare-writes");
    logouts()?;
    let rounds = Rounds::alternate(|| bare_writes(&file), logouts)?;
    Ok(Row {
        name: "P4",
        what: "one logout at a time, p50",
        against: "a bare write of 4 KiB + fdatasync on the same disk",
        target: "≤ 3".to_owned(),
        figure: format!("{}: {} ms of {} ms", rounds.ratio_text(), number(rounds.subject()), number(rounds.baseline())),
        met: rounds.ratio() <= 3.0,
        unit: "ms, less is better",
        bars: vec![Bar::ours("logout", rounds.subject()), Bar::baseline("write + sync", rounds.baseline())],
    })
}

/// Returns the median time of a write with its sync, in milliseconds. The file already has its full length, so that only the page itself
/// must reach the disk. This is the minimum cost of a durable write.
fn bare_writes(file: &Path) -> anyhow::Result<f64> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(file)?;
    file.write_all_at(&vec![1; PAGES * PAGE_BYTES], 0)?;
    file.sync_all()?;
    let mut durations = Vec::new();
    for turn in 0..ALONE {
        let page = [u8::try_from(turn % 251)?; PAGE_BYTES];
        let began = Instant::now();
        file.write_all_at(&page, (turn % PAGES * PAGE_BYTES) as u64)?;
        file.sync_data()?;
        durations.push(began.elapsed());
    }
    Ok(percentile_ms(&mut durations, 50))
}

/// Returns the value of the server's metric with this name.
fn metric(metrics: &mut Client, name: &str) -> anyhow::Result<f64> {
    let answer = metrics.ask(&client::bare_request("GET", "/metrics", &[]))?.ok()?;
    let text = String::from_utf8(answer.body)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no metric {name}"))?.parse()?)
}

/// Logs out over [`STEADY`] connections until `enough` returns true. Returns the time of each logout.
fn steady_logouts(
    server: &Server,
    tokens: &mut Vec<String>,
    mut enough: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<Vec<Duration>> {
    let stop = AtomicBool::new(false);
    let tokens = Mutex::new(tokens);
    let log_out = || {
        let mut client = Client::connect(server.address)?;
        let mut durations = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let token = tokens.lock().expect("nobody panics with it").pop().context("the tokens ran out")?;
            let request = client::with_token("POST", LOGOUT, &token);
            let sent = Instant::now();
            client.ask(&request)?.ok()?;
            durations.push(sent.elapsed());
        }
        anyhow::Ok(durations)
    };
    let began = Instant::now();
    thread::scope(|scope| {
        let senders: Vec<_> = (0..STEADY).map(|_| scope.spawn(log_out)).collect();
        let waited = loop {
            match enough() {
                Ok(false) if began.elapsed() < PURGE_MAX => thread::sleep(Duration::from_millis(20)),
                Ok(false) => break Err(anyhow::anyhow!("not done within {PURGE_MAX:?}")),
                ended => break ended.map(drop),
            }
        };
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for sender in senders {
            all.extend(sender.join().expect("a sender does not panic")?);
        }
        waited.map(|()| all)
    })
}

pub(crate) fn p11(bench: &Bench) -> anyhow::Result<Row> {
    let signer = Signer::new();
    let mut pairs = Vec::new();
    let (mut purge_s, mut used_again) = (0.0, None);
    for round in 0..ROUNDS {
        let copy = data::copy(&bench.work, Set::Expired)?;
        let mut tokens = signer.of_last_hour(Set::Expired, STEADY * STEADY_TOKENS);
        let metrics_address = crate::start::free_address()?;
        let mut server = Server::latchkey(
            &bench.program,
            copy.path(),
            &["--purge-interval", "1s", "--metrics-listen", &metrics_address.to_string()],
        )?;
        let mut metrics = Client::connect(metrics_address)?;
        let began = Instant::now();
        let purged = || Ok(metric(&mut metrics, "latchkey_purged_entries_total")? >= MILLION as f64);
        let mut during = steady_logouts(&server, &mut tokens, purged)?;
        let took = began.elapsed();
        purge_s = took.as_secs_f64();
        ensure!(took > Duration::from_millis(500), "the purge was over before it could be measured");
        let began = Instant::now();
        let mut without = steady_logouts(&server, &mut tokens, || Ok(began.elapsed() >= took))?;
        pairs.push((percentile_ms(&mut without, 99), percentile_ms(&mut during, 99)));
        server.process.stop()?;
        if round == 0 {
            used_again = Some(data::expire_again(data::copy(&bench.work, Set::Expired)?.path())?);
        }
    }
    let Some((before, after)) = used_again else { bail!("no round") };
    let rounds = Rounds::from(pairs);
    let grown = after.on_disk as f64 / before.on_disk as f64;
    Ok(Row {
        name: "P11",
        what: "p99 of logouts (16 connections) while 1,000,000 expired entries are purged; what the open file takes of the disk when they were purged and a million more came",
        against: "the same without a purge; what it took before",
        target: "≤ 2; ≤ 1.01".to_owned(),
        figure: format!(
            "{}: {} ms of {} ms, purged in {} s; **{}**: {} MB of {} MB, and {} MB long",
            rounds.ratio_text(),
            number(rounds.subject()),
            number(rounds.baseline()),
            number(purge_s),
            number(grown),
            number(after.on_disk as f64 / 1e6),
            number(before.on_disk as f64 / 1e6),
            number(after.length as f64 / 1e6)
        ),
        met: rounds.ratio() <= 2.0 && grown <= 1.01,
        ..Row::default()
    })
}
