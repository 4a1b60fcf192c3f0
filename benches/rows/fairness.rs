//! P19: logins of a newcomer beside floods of logins from a few addresses, each of which stays within `--login-limit`.
//!
//! The server trusts this machine as a proxy, so that each login says from where it comes. A flooding address sends as many logins as the
//! default limit lets through: 60 at once, then one a second, on connections of its own. What is
//! refused is sent again when the answer says so. The newcomer logs in every few seconds, each time
//! as another user, so that no device is known.

use std::{
    net::SocketAddr,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use crate::{
    bench::Bench,
    client::{self, Client},
    data::{self, Set},
    password_hash::PASSWORD,
    row::Row,
    stats::{number, percentile_ms},
};

const FLOODS: [usize; 2] = [4, 16];
/// How long the flood goes on before the first login of the newcomer.
const RISE: Duration = Duration::from_secs(5);
/// How many logins the newcomer sends, and how often.
const LOGINS: usize = 30;
const EVERY: Duration = Duration::from_secs(8);
/// Connections of one flooding address.
const CONNECTIONS: usize = 16;
const NEWCOMER: &str = "192.0.2.1";

fn login(user: usize, password: &str, from: &str) -> Vec<u8> {
    let body = serde_json::json!({ "email": data::email(user), "password": password });
    client::json_request_with("/api/v1/auth/login", &[("X-Forwarded-For", from)], &body)
}

/// Guesses passwords from one address on one connection until told to stop.
fn flood(server: SocketAddr, from: &str, stop: &mpsc::Receiver<()>) -> anyhow::Result<()> {
    let mut client = Client::connect(server)?;
    for user in 0.. {
        let answer = client.ask(&login(data::anyone(user, Set::Thousand.users()), "a guess", from))?;
        let pause = match answer.status {
            401 => Duration::ZERO,
            429 | 503 => Duration::from_secs(answer.header("retry-after").context("no Retry-After")?.parse()?),
            status => bail!("a login of the flood was answered {status}"),
        };
        if !matches!(stop.recv_timeout(pause), Err(mpsc::RecvTimeoutError::Timeout)) {
            break;
        }
    }
    Ok(())
}

/// The share of the newcomer's logins that succeeded, and how long these took.
fn newcomer(server: SocketAddr) -> anyhow::Result<(f64, Vec<Duration>)> {
    let mut took = Vec::new();
    let started = Instant::now();
    for turn in 0..LOGINS {
        let due = started + EVERY * u32::try_from(turn)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        let answer = client::once(server, &login(data::anyone(turn, Set::Thousand.users()), PASSWORD, NEWCOMER))?;
        match answer.status {
            200 => took.push(sent.elapsed()),
            503 => {}
            status => bail!("a login of the newcomer was answered {status}"),
        }
    }
    Ok((took.len() as f64 / LOGINS as f64, took))
}

pub(crate) fn p19(bench: &Bench) -> anyhow::Result<Row> {
    let mut figures = Vec::new();
    let mut met = true;
    for addresses in FLOODS {
        let args = ["--trusted-proxy", "127.0.0.1", "--login-limit", "60/1m"];
        let (_copy, server) = bench.serve(Set::Thousand, &args)?;
        let (share, mut took) = thread::scope(|scope| {
            let mut stops = Vec::new();
            for n in 0..addresses * CONNECTIONS {
                let (stop, stopped) = mpsc::channel();
                let (address, from) = (server.address, format!("11.0.{}.1", n / CONNECTIONS));
                stops.push((stop, scope.spawn(move || flood(address, &from, &stopped))));
            }
            thread::sleep(RISE);
            let found = newcomer(server.address);
            for (stop, flooding) in stops {
                drop(stop);
                flooding.join().expect("the flood does not panic").context("the flood")?;
            }
            found
        })?;
        let p95_s = percentile_ms(&mut took, 95) / 1000.0;
        met &= share >= 0.99 && p95_s <= 3.0;
        figures.push(format!("{addresses} addresses: **{} %**, **{} s**", number(share * 100.0), number(p95_s)));
    }
    Ok(Row {
        name: "P19",
        what: "logins of a newcomer beside a flood from 4 and 16 addresses within the default limits: share that succeeds; p95",
        against: "",
        target: "≥ 99 %; ≤ 3 s".to_owned(),
        figure: figures.join("; "),
        met,
        ..Row::default()
    })
}
