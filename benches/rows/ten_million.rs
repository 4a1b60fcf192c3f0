//! P13 to P18: ten million users. Requests, starts, whole files, pages of users, the list on the command line, and all of it at once.

use std::{
    fs,
    io::{BufRead as _, Read as _},
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use crate::{
    bench::Bench,
    client::{self, Client},
    data::{self, Set, Signer},
    process::Process,
    read,
    row::{Bar, Row},
    size, start,
    stats::{median, number, percentile_ms},
    wrk::{self, USER},
};

const MEGABYTE: f64 = 1e6;
/// The maximum duration of a command.
const COMMAND_MAX: Duration = Duration::from_mins(10);
/// How often each page is requested.
const PAGES: usize = 50;
/// The number of clients that search in P18.
const SEARCHERS: usize = 4;
/// How long the requests of P18 are measured, in seconds.
const BESIDE_SECONDS: u64 = 15;

pub(crate) fn p13(bench: &Bench) -> anyhow::Result<Row> {
    let rounds = read::against_a_thousand(bench, Set::TenMillion)?;
    Ok(Row {
        name: "P13",
        what: "P2 with 10,000,000 users",
        against: "itself with 1,000",
        target: "≥ 0.95".to_owned(),
        figure: format!("{}: {}/s of {}/s", rounds.ratio_text(), number(rounds.subject()), number(rounds.baseline())),
        met: rounds.ratio() >= 0.95,
        unit: "requests/s",
        bars: vec![Bar::ours("among 10,000,000", rounds.subject()), Bar::baseline("among 1,000", rounds.baseline())],
    })
}

pub(crate) fn p14(bench: &Bench) -> anyhow::Result<Row> {
    let copy = data::copy(&bench.work, Set::TenMillion)?;
    let clean = start::after_clean_stops(bench, &copy)? / 1000.0;
    let killed = start::after_kills(bench, &copy, Set::TenMillion)? / 1000.0;
    Ok(Row {
        name: "P14",
        what: "from exec to the first 200 with 10,000,000 users: after a clean stop / after `kill -9` under writes",
        target: "5 s / 10 s".to_owned(),
        figure: format!("**{} s / {} s**", number(clean), number(killed)),
        met: clean <= 5.0 && killed <= 10.0,
        ..Row::default()
    })
}

/// Runs a command on the data in `dir` and returns how many seconds it took.
fn seconds(bench: &Bench, dir: &Path, args: &[&str]) -> anyhow::Result<f64> {
    let began = Instant::now();
    Process::spawn(command(bench, dir, args))?.output(COMMAND_MAX)?;
    Ok(began.elapsed().as_secs_f64())
}

fn command(bench: &Bench, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(&bench.program);
    command.args(args).arg("--data-dir").arg(dir).arg("--secret-key-file").arg(data::key_file(dir));
    command
}

pub(crate) fn p15(bench: &Bench) -> anyhow::Result<Row> {
    let (copy, server) = bench.serve(Set::TenMillion, &[])?;
    let bytes = fs::metadata(copy.path().join("latchkey.redb"))?.len() as f64;
    let tokens = read::readers(bench, Set::TenMillion)?;
    let (_, most) = Bench::most_memory(&server, || read::rate(&server, &tokens))?;
    let elsewhere = data::empty(&bench.work)?;
    let file = |name: &str| elsewhere.path().join(name).display().to_string();
    let (backup_file, export_file) = (file("backup"), file("export"));
    let backup = seconds(bench, copy.path(), &["backup", &backup_file])?;
    let export = seconds(bench, copy.path(), &["export", &export_file])?;
    fs::remove_file(&export_file)?;
    drop((server, copy));
    let check = seconds(bench, elsewhere.path(), &["check", &backup_file])?;
    let restore = seconds(bench, elsewhere.path(), &["restore", "--init", &backup_file])?;
    let memory_max = crate::settings::default().cache_bytes() as f64 / MEGABYTE + 25.0;
    Ok(Row {
        name: "P15",
        what: "with 10,000,000 users: backup / export beside the server, check / restore; size of the file; resident memory under P13",
        target: format!("60 s each; –; {} MB", number(memory_max)),
        figure: format!(
            "**{} s / {} s, {} s / {} s; {} MB; {} MB**",
            number(backup),
            number(export),
            number(check),
            number(restore),
            number(bytes / MEGABYTE),
            number(most / MEGABYTE)
        ),
        met: backup.max(export).max(check).max(restore) <= 60.0 && most / MEGABYTE <= memory_max,
        ..Row::default()
    })
}

/// Requests a page some times and returns the median duration in milliseconds.
fn page_ms(address: SocketAddr, token: &str, path: &str) -> anyhow::Result<f64> {
    let request = client::with_token("GET", path, token);
    let mut client = Client::connect(address)?;
    let mut took = Vec::new();
    for _ in 0..PAGES {
        let began = Instant::now();
        client.ask(&request)?.ok()?;
        took.push(began.elapsed());
    }
    Ok(percentile_ms(&mut took, 50))
}

/// Returns `links.next` of a page.
fn next(address: SocketAddr, token: &str, path: &str) -> anyhow::Result<String> {
    let page = client::once(address, &client::with_token("GET", path, token))?.ok()?.json()?;
    Ok(page["links"]["next"].as_str().with_context(|| format!("{path} is the last page"))?.to_owned())
}

pub(crate) fn p16(bench: &Bench) -> anyhow::Result<Row> {
    let (_copy, server) = bench.serve(Set::TenMillion, &[])?;
    let token = Signer::new().of_admin();
    let users = "/api/v1/users?per_page=100";
    let mut paths: Vec<String> = [
        "",
        "&page=50000",
        "&page=100000",
        "&admin=true",
        "&admin=false&page=99999",
        "&disabled=true",
        "&disabled=true&page=50",
        "&disabled=false&page=50000",
        "&search=user",
        "&search=user5",
        "&search=user&page=100",
        "&search=user&disabled=true",
        "&search=user9&admin=true",
        "&search=user&admin=false&disabled=false",
        "&search=nobody",
    ]
    .map(|query| format!("{users}{query}"))
    .into();
    for deep in ["&page=50000", "&disabled=false&page=50000", "&search=user5", "&search=user&disabled=true"] {
        paths.push(next(server.address, &token, &format!("{users}{deep}"))?);
    }
    let mut slowest = (0.0, String::new());
    for path in paths {
        let ms = page_ms(server.address, &token, &path)?;
        eprintln!("{ms:.2} ms {path}");
        if ms > slowest.0 {
            slowest = (ms, path);
        }
    }
    let (ms, path) = slowest;
    let query = path.split_once('?').map_or("", |(_, query)| query);
    Ok(Row {
        name: "P16",
        what: "the slowest page of `GET /users` with 10,000,000 users, in whatever order, by number or by cursor",
        target: "≤ 10 ms".to_owned(),
        figure: format!("**{} ms** (`?{query}`)", number(ms)),
        met: ms <= 10.0,
        ..Row::default()
    })
}

pub(crate) fn p17(bench: &Bench) -> anyhow::Result<Row> {
    let (copy, server) = bench.serve(Set::TenMillion, &[])?;
    let list = || Process::spawn(command(bench, copy.path(), &["user", "list"]));
    let mut first_ms = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let mut process = list()?;
        process.stdout()?.read_line(&mut String::new())?;
        first_ms.push(began.elapsed().as_secs_f64() * 1000.0);
        process.wait(Duration::from_secs(5)).context("the list did not end with its reader")?;
    }
    let began = Instant::now();
    let mut process = list()?;
    let mut client_memory: f64 = 0.0;
    let (lines, server_memory) = Bench::most_memory(&server, || {
        let mut stdout = process.stdout()?;
        let (mut lines, mut chunk) = (0, vec![0; 1 << 16]);
        let mut reads = 0;
        loop {
            let length = stdout.read(&mut chunk)?;
            if length == 0 {
                return anyhow::Ok(lines);
            }
            lines += chunk[..length].split(|byte| *byte == b'\n').count() - 1;
            reads += 1;
            if reads % 1000 == 0 {
                client_memory = client_memory.max(process.memory_bytes().unwrap_or(0.0));
            }
        }
    })?;
    let all_s = began.elapsed().as_secs_f64();
    process.wait(COMMAND_MAX)?;
    ensure!(lines == Set::TenMillion.users() + 1, "the list has {lines} lines");
    let (first, server_mb, client_mb) = (median(first_ms), server_memory / MEGABYTE, client_memory / MEGABYTE);
    let memory_max = crate::settings::default().cache_bytes() as f64 / MEGABYTE + 25.0;
    Ok(Row {
        name: "P17",
        what: "`latchkey user list` of 10,000,000 users: first line / all; resident memory of the server / of the command",
        target: format!("100 ms / 60 s; {} MB / 25 MB", number(memory_max)),
        figure: format!(
            "**{} ms / {} s; {} MB / {} MB**",
            number(first),
            number(all_s),
            number(server_mb),
            number(client_mb)
        ),
        met: first <= 100.0 && all_s <= 60.0 && server_mb <= memory_max && client_mb <= 25.0,
        ..Row::default()
    })
}

/// Follows a search from page to page until `ended`.
fn search(address: SocketAddr, token: &str, first: &str, ended: &AtomicBool) -> anyhow::Result<usize> {
    let mut client = Client::connect(address)?;
    let (mut path, mut pages) = (first.to_owned(), 0);
    while !ended.load(Ordering::Relaxed) {
        let page = client.ask(&client::with_token("GET", &path, token))?.ok()?.json()?;
        page["links"]["next"].as_str().unwrap_or(first).clone_into(&mut path);
        pages += 1;
    }
    Ok(pages)
}

pub(crate) fn p18(bench: &Bench) -> anyhow::Result<Row> {
    let (copy, server) = bench.serve(Set::TenMillion, &[])?;
    let (tokens, admin) = (read::readers(bench, Set::TenMillion)?, Signer::new().of_admin());
    let run = || wrk::run(server.address, ("GET", USER), read::CONNECTIONS, BESIDE_SECONDS, &tokens);
    run()?;
    let alone = run()?;
    let elsewhere = data::empty(&bench.work)?;
    let lines = elsewhere.path().join("lines");
    size::write_users(&lines, "another")?;
    let files = ["backup", "export"].map(|name| elsewhere.path().join(name).display().to_string());
    let lines = lines.display().to_string();
    let ended = AtomicBool::new(false);
    let mut transfers = Vec::new();
    for args in [["import", lines.as_str()], ["backup", files[0].as_str()], ["export", files[1].as_str()]] {
        transfers.push(Process::spawn(command(bench, copy.path(), &args))?);
    }
    let (beside, pages) = thread::scope(|scope| {
        let queries = ["user", "user&disabled=true", "user5", "user&admin=false"];
        let paths = queries.map(|query| format!("/api/v1/users?per_page=100&search={query}"));
        let (address, admin, ended) = (server.address, &admin, &ended);
        let searchers: Vec<_> = (0..SEARCHERS)
            .map(|number| {
                let path = paths[number].clone();
                scope.spawn(move || search(address, admin, &path, ended))
            })
            .collect();
        let beside = run();
        ended.store(true, Ordering::Relaxed);
        let mut pages = 0;
        for searcher in searchers {
            pages += searcher.join().expect("a search does not panic")?;
        }
        anyhow::Ok((beside?, pages))
    })?;
    for transfer in &mut transfers {
        ensure!(transfer.wait(COMMAND_MAX)?.success(), "a transfer failed");
    }
    let ratio = beside.rate / alone.rate;
    Ok(Row {
        name: "P18",
        what: "`GET /auth/user`, 64 connections, with 10,000,000 users beside four searches, an export, a backup and an import of 1,000,000: p99; its rate",
        against: "its rate alone",
        target: "< 20 ms; ≥ 0.5".to_owned(),
        figure: format!(
            "**{} ms; {ratio:.2}**: {}/s of {}/s; {pages} pages were read meanwhile",
            number(beside.p99_ms),
            number(beside.rate),
            number(alone.rate)
        ),
        met: beside.p99_ms < 20.0 && ratio >= 0.5,
        ..Row::default()
    })
}
