//! The load table. Each row starts the real server and its baseline, measures both alternately, and gives a verdict.
//!
//! `benches/load` builds the program to measure and starts this one. Without arguments every row runs, and `benches/RESULTS.md` and the
//! chart are written. With names, such as `P3`, only those rows run, and they are printed. Guarantees: a failed request makes the row fail
//! and is never part of a figure; every process that a row started ends with the row. Deliberately absent: a verdict that a build could
//! depend on.

#![expect(clippy::cast_precision_loss, reason = "figures are counts far below 2^52")]

mod bare;
mod bench;
mod chart;
mod client;
mod data;
mod fairness;
mod introspection;
mod login;
mod logout;
mod password_hash;
mod peer;
mod process;
mod read;
mod report;
mod row;
mod settings;
mod signature;
mod size;
mod start;
mod stats;
mod ten_million;
mod wrk;

use std::{cell::OnceCell, path::Path, process::ExitCode, time::Instant};

use anyhow::bail;

use crate::{bench::Bench, row::Row};

type Measure = fn(&Bench) -> anyhow::Result<Row>;

const ROWS: [(&str, Measure); 22] = [
    ("P1", read::p1),
    ("P2", read::p2),
    ("P3", logout::p3),
    ("P4", logout::p4),
    ("P5", login::p5),
    ("P6", login::p6),
    ("P7", login::p7),
    ("P8", start::p8),
    ("P9", size::p9),
    ("P10", size::p10),
    ("P11", logout::p11),
    ("P12", size::p12),
    ("P13", ten_million::p13),
    ("P14", ten_million::p14),
    ("P15", ten_million::p15),
    ("P16", ten_million::p16),
    ("P17", ten_million::p17),
    ("P18", ten_million::p18),
    ("P19", fairness::p19),
    ("P20", signature::p20),
    ("P21", signature::p21),
    ("P22", introspection::p22),
];
/// The environment variable with the path of the program under test.
const PROGRAM: &str = "BENCH_PROGRAM";
fn run() -> anyhow::Result<bool> {
    // cargo adds the argument `--bench` itself.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [bare::ARGUMENT, file] => return bare::run(Path::new(file)).map(|()| true),
        ["--docs"] => return report::quote().map(|()| true),
        _ => {}
    }
    let Some(program) = std::env::var_os(PROGRAM) else {
        println!("skipped: benches/load runs this");
        return Ok(true);
    };
    let known = |arg: &String| ROWS.iter().any(|(name, _)| name == arg);
    if let Some(unknown) = args.iter().find(|arg| !known(arg)) {
        bail!("{unknown} is no row; there are {}", ROWS.map(|(name, _)| name).join(", "));
    }
    let work = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/load");
    data::remove_leftovers(&work)?;
    let bench = Bench { program: program.into(), work, flood: OnceCell::new() };
    let commit = report::commit();
    let mut rows = Vec::new();
    let mut whole = true;
    for (name, measure) in ROWS.iter().filter(|(name, _)| args.is_empty() || args.iter().any(|arg| arg == name)) {
        let began = Instant::now();
        match measure(&bench) {
            Ok(row) => {
                println!("{}", row.line().trim_end());
                rows.push(row);
            }
            Err(error) => {
                eprintln!("{name} could not be measured: {error:#}");
                whole = false;
            }
        }
        eprintln!("({name} took {:.0} s)", began.elapsed().as_secs_f64());
    }
    if args.is_empty() {
        let peers = peer::measure(&bench, &mut rows).unwrap_or_else(|error| {
            eprintln!("PocketBase could not be measured: {error:#}");
            Vec::new()
        });
        if whole {
            report::write(&rows, &peers, &commit)?;
        } else {
            eprintln!("benches/RESULTS.md stays as it is, since a row is missing");
        }
    }
    Ok(whole)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
