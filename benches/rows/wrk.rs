//! Runs wrk, the load generator, and reads its results.
//!
//! Guarantees: a run returns an error and no figure if a request failed, was refused or had no token left.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::process::Process;

pub(crate) const USER: &str = "/api/v1/auth/user";
pub(crate) const LOGOUT: &str = "/api/v1/auth/logout";
/// The number of connections of strangers.
const STRANGERS: usize = 64;
/// How long wrk may run beyond its configured duration.
const PATIENCE: Duration = Duration::from_secs(30);

/// The results of a run.
pub(crate) struct Found {
    /// Requests answered per second.
    pub(crate) rate: f64,
    /// In milliseconds. wrk corrects it for requests that waited for earlier requests.
    pub(crate) p99_ms: f64,
}

/// The tokens of the requests.
pub(crate) enum Tokens {
    /// All requests have this token.
    One(String),
    /// The tokens are used in turn, again and again.
    Again(TokenFiles),
    /// The same, as the field `token` of a form. Has the value of `Authorization`.
    Form(TokenFiles, String),
    /// Each request has its own token, which is used once.
    Once(TokenFiles),
}

/// Files with tokens, one for each thread of wrk; removed on drop.
pub(crate) struct TokenFiles(PathBuf);

impl TokenFiles {
    pub(crate) fn write(work: &Path, tokens: &[String]) -> anyhow::Result<Self> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let files = Self(work.join(format!("tokens-{}-{count}-", std::process::id())));
        for (thread, slice) in tokens.chunks(tokens.len().div_ceil(threads())).enumerate() {
            let mut file = BufWriter::new(File::create(files.file(thread))?);
            for token in slice {
                writeln!(file, "{token}")?;
            }
            file.flush()?;
        }
        Ok(files)
    }

    fn file(&self, thread: usize) -> PathBuf {
        PathBuf::from(format!("{}{thread}", self.0.display()))
    }
}

impl Drop for TokenFiles {
    fn drop(&mut self) {
        for thread in 0..threads() {
            let _ = std::fs::remove_file(self.file(thread));
        }
    }
}

/// Returns the number of processors of this machine. wrk uses as many threads.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Returns the first line that `wrk -v` prints, without the copyright notice.
pub(crate) fn version() -> String {
    let output = Command::new("wrk").arg("-v").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split(" Copyright").next().unwrap_or_default().to_owned()
}

/// Starts wrk with [`STRANGERS`] connections that send the tokens in `files` for `seconds`, `per_s` of them each second.
pub(crate) fn strangers(server: SocketAddr, files: &TokenFiles, per_s: f64, seconds: u64) -> anyhow::Result<Process> {
    let pause_ms = STRANGERS as f64 / per_s * 1000.0;
    let mut command = Command::new("wrk");
    command.arg("--threads").arg(threads().to_string()).arg("--connections").arg(STRANGERS.to_string());
    command.arg("--duration").arg(format!("{seconds}s")).args(["--timeout", "10s", "--script"]).arg(script());
    command.arg(format!("http://{server}{USER}")).args(["--", "GET"]);
    command.arg(&files.0).args(["again", "", &pause_ms.to_string()]);
    Process::spawn(command)
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/rows/wrk.lua")
}

/// Runs wrk with `connections` connections for `seconds`.
pub(crate) fn run(
    server: SocketAddr,
    (method, path): (&str, &str),
    connections: usize,
    seconds: u64,
    tokens: &Tokens,
) -> anyhow::Result<Found> {
    let mut command = Command::new("wrk");
    command.arg("--threads").arg(threads().min(connections).to_string());
    command.arg("--connections").arg(connections.to_string());
    command.arg("--duration").arg(format!("{seconds}s")).args(["--timeout", "10s", "--script"]).arg(script());
    if let Tokens::One(token) = tokens {
        command.arg("--header").arg(format!("Authorization: Bearer {token}"));
    }
    command.arg(format!("http://{server}{path}")).args(["--", method]);
    match tokens {
        Tokens::One(_) => {}
        Tokens::Again(files) => drop(command.arg(&files.0).arg("again")),
        Tokens::Form(files, authorization) => drop(command.arg(&files.0).args(["again", authorization])),
        Tokens::Once(files) => drop(command.arg(&files.0).arg("once")),
    }
    let output = Process::spawn(command)?.output(Duration::from_secs(seconds) + PATIENCE)?;
    let line = output.lines().find_map(|line| line.strip_prefix("found ")).with_context(|| output.clone())?;
    let figures: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [requests, duration_us, failed, short, p99_us] = figures[..] else { bail!("wrk said {line}") };
    if short > 0.0 {
        bail!("the tokens for {path} ran out");
    }
    if failed > 0.0 || requests == 0.0 {
        bail!("{failed} of {requests} requests to {path} failed");
    }
    Ok(Found { rate: requests / duration_us * 1e6, p99_ms: p99_us / 1000.0 })
}
