//! P9, P10 and P12: memory, bytes on disk and on the wire, and how fast a million users are imported.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use crate::{
    bench::Bench,
    client,
    data::{self, MILLION, Set},
    login,
    password_hash::Cost,
    process::Process,
    read,
    row::Row,
    stats::{median, number},
    wrk,
};

const MEGABYTE: f64 = 1e6;
/// How long a server must be without requests before it counts as idle.
const IDLE: Duration = Duration::from_secs(2);
/// The number of imports of a million users, each into an empty database (`IMPORTS`), and the maximum time of one import (`IMPORT_MAX`).
const IMPORTS: usize = 3;
const IMPORT_MAX: Duration = Duration::from_mins(5);
const UI: &str = "/api/v1/ui";
/// The header with the content codings that a browser accepts.
const BROWSER: (&str, &str) = ("Accept-Encoding", "gzip, deflate, br, zstd");

pub(crate) fn p9(bench: &Bench) -> anyhow::Result<Row> {
    let (copy, server) = bench.serve(Set::Thousand, &[])?;
    thread::sleep(IDLE);
    let idle = server.process.memory_bytes()? / MEGABYTE;
    drop((server, copy));
    let (_copy, server) = bench.serve(Set::Million, &[])?;
    let tokens = read::readers(bench, Set::Million)?;
    let (_, most) = Bench::most_memory(&server, || read::rate(&server, &tokens))?;
    let busy = most / MEGABYTE;
    let flooded = login::flood(bench)?.memory_bytes / MEGABYTE;
    let busy_max = crate::settings::default().cache_bytes() as f64 / MEGABYTE + 25.0;
    let flooded_max = busy_max + wrk::threads() as f64 * Cost::default_setting().memory_bytes() / MEGABYTE + 10.0;
    Ok(Row {
        name: "P9",
        what: "resident memory idle / under P1 with 1,000,000 users / during P6 with as many",
        against: "",
        target: format!("15 MB / {} MB / {} MB", number(busy_max), number(flooded_max)),
        figure: format!("**{} MB / {} MB / {} MB**", number(idle), number(busy), number(flooded)),
        met: idle <= 15.0 && busy <= busy_max && flooded <= flooded_max,
        ..Row::default()
    })
}

pub(crate) fn p10(bench: &Bench) -> anyhow::Result<Row> {
    let binary = fs::metadata(&bench.program)?.len() as f64 / MEGABYTE;
    let (_copy, server) = bench.serve(Set::Thousand, &[])?;
    let page = client::once(server.address, &client::bare_request("GET", UI, &[BROWSER]))?.ok()?;
    let kilobytes = page.bytes as f64 / 1000.0;
    let tag = page.header("etag").context("the page has no ETag")?;
    let request = client::bare_request("GET", UI, &[BROWSER, ("If-None-Match", tag)]);
    let again = client::once(server.address, &request)?.status;
    Ok(Row {
        name: "P10",
        what: "binary; Swagger UI page on the wire; second view of it",
        against: "",
        target: "12 MB; 450 KB; 304".to_owned(),
        figure: format!("**{} MB; {} KB; {again}**", number(binary), number(kilobytes)),
        met: binary <= 12.0 && kilobytes <= 450.0 && again == 304,
        ..Row::default()
    })
}

/// Writes a million lines for an import, with emails that start with `name`.
pub(crate) fn write_users(file: &Path, name: &str) -> anyhow::Result<()> {
    let hash = Cost::default_setting().phc();
    let mut writer = BufWriter::new(File::create(file)?);
    for number in 0..MILLION {
        writeln!(writer, r#"{{"email":"{name}{number}@example.com","password_hash":"{hash}"}}"#)?;
    }
    Ok(writer.flush()?)
}

pub(crate) fn p12(bench: &Bench) -> anyhow::Result<Row> {
    let lines = data::empty(&bench.work)?;
    let file = lines.path().join("users.ndjson");
    write_users(&file, "user")?;
    let mut rates = Vec::new();
    for _ in 0..IMPORTS {
        let dir = data::empty(&bench.work)?;
        let mut command = Command::new(&bench.program);
        command.args(["import", "--init"]).arg(&file).arg("--data-dir").arg(dir.path());
        let began = Instant::now();
        let said = Process::spawn(command)?.output(IMPORT_MAX)?;
        rates.push(MILLION as f64 / began.elapsed().as_secs_f64());
        ensure!(said.contains("added 1000000 users"), "the import said {said}");
    }
    let rate = median(rates);
    Ok(Row {
        name: "P12",
        what: "`latchkey import` of 1,000,000 users with ready hashes",
        against: "",
        target: "≥ 50,000/s".to_owned(),
        figure: format!("**{}/s**", number(rate)),
        met: rate >= 50_000.0,
        ..Row::default()
    })
}
