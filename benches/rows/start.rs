//! P8: the time from exec to the first response with status 200.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::bail;

use crate::{
    bench::Bench,
    client::{self, Client},
    data::{self, Copy, Set, Signer},
    process::{self, Process},
    row::Row,
    stats::{ROUNDS, median, number},
    wrk::LOGOUT,
};

/// The maximum time of a start before the row fails.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long to wait after a refused connection. Without a pause, this loop would take a processor from the server.
const PAUSE: Duration = Duration::from_micros(200);
/// The number of connections that send logouts when the server is killed (`WRITERS`), and how long they do so before the kill (`WRITING`).
const WRITERS: usize = 16;
const WRITING: Duration = Duration::from_secs(1);

/// Returns a free address.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts the server and measures the milliseconds from before exec until `/healthz` was answered with 200.
fn start(bench: &Bench, dir: &Path) -> anyhow::Result<(Process, SocketAddr, f64)> {
    let address = free_address()?;
    let command: Command = process::latchkey(&bench.program, dir, &address.to_string(), &[]);
    let request = client::bare_request("GET", "/healthz", &[]);
    let began = Instant::now();
    let mut process = Process::spawn(command)?;
    while began.elapsed() < PATIENCE {
        if let Ok(answer) = client::once(address, &request)
            && answer.status == 200
        {
            return Ok((process, address, began.elapsed().as_secs_f64() * 1000.0));
        }
        thread::sleep(PAUSE);
    }
    process.kill()?;
    bail!("no answer within {PATIENCE:?}")
}

/// Returns the median duration of several starts after a clean stop, in milliseconds.
pub(crate) fn after_clean_stops(bench: &Bench, copy: &Copy) -> anyhow::Result<f64> {
    start(bench, copy.path())?.0.stop()?;
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let (mut process, _, ms) = start(bench, copy.path())?;
        took.push(ms);
        process.stop()?;
    }
    Ok(median(took))
}

/// Returns the median duration of several starts after the server was killed during logouts, in milliseconds.
pub(crate) fn after_kills(bench: &Bench, copy: &Copy, set: Set) -> anyhow::Result<f64> {
    let signer = Signer::new();
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let (mut process, address, _) = start(bench, copy.path())?;
        let tokens = signer.of_last_hour(set, WRITERS * 10_000);
        let killed = AtomicBool::new(false);
        let log_out = |tokens: &[String]| -> anyhow::Result<()> {
            let mut client = Client::connect(address)?;
            for token in tokens {
                let answer = client.ask(&client::with_token("POST", LOGOUT, token));
                match answer {
                    _ if killed.load(Ordering::Relaxed) => return Ok(()),
                    answer => drop(answer?.ok()?),
                }
            }
            bail!("the tokens ran out before the server was killed")
        };
        thread::scope(|scope| {
            let writers: Vec<_> = tokens.chunks(10_000).map(|slice| scope.spawn(|| log_out(slice))).collect();
            thread::sleep(WRITING);
            killed.store(true, Ordering::Relaxed);
            let ended = process.kill();
            for writer in writers {
                writer.join().expect("a writer does not panic")?;
            }
            ended
        })?;
        let (mut process, _, ms) = start(bench, copy.path())?;
        took.push(ms);
        process.stop()?;
    }
    Ok(median(took))
}

pub(crate) fn p8(bench: &Bench) -> anyhow::Result<Row> {
    let thousand = after_clean_stops(bench, &data::copy(&bench.work, Set::Thousand)?)?;
    let million = data::copy(&bench.work, Set::Million)?;
    let clean = after_clean_stops(bench, &million)?;
    let killed = after_kills(bench, &million, Set::Million)?;
    Ok(Row {
        name: "P8",
        what: "from exec to the first 200: 1,000 users / 1,000,000 users after a clean stop / after `kill -9` under writes",
        against: "",
        target: "30 ms / 1 s / 1 s".to_owned(),
        figure: format!("**{} ms / {} s / {} s**", number(thousand), number(clean / 1000.0), number(killed / 1000.0)),
        met: thousand <= 30.0 && clean <= 1000.0 && killed <= 1000.0,
        ..Row::default()
    })
}
