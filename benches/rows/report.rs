//! The table of results: on the terminal, in `benches/RESULTS.md` with the machine, the commit and the date, and in docs/performance.md.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use latchkey::clock::{Clock as _, SystemClock};

use crate::{chart, row::Row, wrk};

const HEAD: &str = "| # | what | against | target | figure | verdict |\n| --- | --- | --- | --- | --- | --- |\n";
/// The lines of docs/performance.md between which the table is.
const PAGE_BEGIN: &str = "<!-- the table of benches/RESULTS.md: benches/load --docs -->\n";
const PAGE_END: &str = "<!-- end of the table -->\n";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn results() -> PathBuf {
    repository().join("benches/RESULTS.md")
}

/// Returns the output of a command without its line end, or an empty text if it cannot be run.
fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(repository()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn machine() -> String {
    let first = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    let memory_kib: f64 = first("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(f64::NAN);
    format!(
        "{}, {} processors, {:.0} GB of memory, Linux {}",
        first("/proc/cpuinfo", "model name"),
        wrk::threads(),
        memory_kib * 1024.0 / 1e9,
        said("uname", &["-r"])
    )
}

/// Returns the measured commit as git names it. It must be called before the rows run, because they take long enough for someone to commit
/// meanwhile.
pub(crate) fn commit() -> String {
    let commit = said("git", &["describe", "--always", "--abbrev=10", "--exclude=*"]);
    let changed = said("git", &["status", "--porcelain", "--", "src", "static", "Cargo.toml", "Cargo.lock"]);
    if changed.is_empty() { commit } else { format!("{commit} with changes that are not committed") }
}

/// Writes the whole table and the chart.
pub(crate) fn write(rows: &[Row], peers: &[String], commit: &str) -> anyhow::Result<()> {
    let mut text = format!(
        "# How fast\n\n\
         Written by `benches/load`; every run writes it anew.\n\n\
         - Machine: {machine}\n\
         - Commit: {commit}\n\
         - Date: {date}\n\
         - Load: {wrk}, on the same machine\n\n\
         {HEAD}",
        machine = machine(),
        date = SystemClock.now().date(),
        wrk = wrk::version(),
    );
    text.extend(rows.iter().map(Row::line));
    if !peers.is_empty() {
        text.push_str("\nPeers, measured in the same run:\n\n");
        text.extend(peers.iter().map(|peer| format!("- {peer}\n")));
    }
    text.push_str(
        "\n![Bar chart of P1 to P5](results.svg)\n\n\
         ## How it is measured\n\n\
         - A ratio is the median of the ratios of five rounds; in brackets the least and the greatest. In a round both sides take\n  \
           turns, and the other one begins each time. The rates beside it are medians.\n\
         - The server is the release binary with its default settings and, as in the unit, two arenas of the\n  \
           allocator; its log goes to `/dev/null`. Bare hyper runs on the same runtime, sets `TCP_NODELAY` and answers byte for byte what the server answers, down to the headers.\n\
         - Generator and server share the processors, so what the generator takes is taken from both sides of a ratio.\n\
         - wrk drives P1, P2, P3 and the reads of P6; its p99 counts requests that would have been sent while one was slow. Logins,\n  \
           the flood, and single logouts are sent by `benches/rows`, which times each answer: the flood opens a connection for each\n  \
           login at a fixed pace, whatever was answered so far, and the clock starts before the connection is opened.\n\
         - P2: tokens of 20,000 users all over the data take turns. P6, P7 and the last figure of P9: with 1,000,000 users.\n\
         - P4: the bare write goes into a file that has its length already.\n\
         - P8 is the median of five starts. MB and KB are 1,000,000 and 1,000 bytes.\n",
    );
    fs::write(results(), text)?;
    fs::write(repository().join("benches/results.svg"), chart::draw(rows))?;
    Ok(())
}

/// Copies the table into docs/performance.md.
pub(crate) fn quote() -> anyhow::Result<()> {
    let text = fs::read_to_string(results())?;
    let (_, rest) = text.split_once(HEAD).context("RESULTS.md has no table")?;
    let (rows, _) = rest.split_once("\n\n").context("the table has no end")?;
    let page = repository().join("docs/performance.md");
    let text = fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(PAGE_BEGIN).context("docs/performance.md has no place for the table")?;
    let (_, after) = rest.split_once(PAGE_END).context("the place in docs/performance.md has no end")?;
    fs::write(page, format!("{before}{PAGE_BEGIN}\n{HEAD}{rows}\n\n{PAGE_END}{after}"))?;
    Ok(())
}
