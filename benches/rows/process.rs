//! The processes that a row starts. Each process ends when its value is dropped, also if the row fails.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// The maximum time for a program to stop after SIGTERM.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running program. Killed on drop.
pub(crate) struct Process(Child);

impl Process {
    /// Starts the program with its stdout piped. Its log goes to `/dev/null`: the cost of writing it is measured, that of a disk or a
    /// terminal is not.
    pub(crate) fn spawn(mut command: Command) -> anyhow::Result<Self> {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LATCHKEY_")) {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("cannot run {}", command.get_program().display()))?))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Sends SIGTERM and waits for the end of the process.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        let sent = Command::new("kill").args(["-s", "TERM", &self.id().to_string()]).status()?;
        let ended = self.wait(PATIENCE)?;
        if !sent.success() || !ended.success() {
            bail!("did not stop in good order: {ended}");
        }
        Ok(())
    }

    /// Waits for the end of the process, and kills it after `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.kill()?;
        bail!("did not end within {patience:?}")
    }

    /// Waits for the end of the process and returns its output, which must be short.
    pub(crate) fn output(mut self, patience: Duration) -> anyhow::Result<String> {
        let status = self.wait(patience)?;
        let mut text = String::new();
        self.0.stdout.take().context("stdout was taken")?.read_to_string(&mut text)?;
        if !status.success() {
            bail!("ended with {status}: {text}");
        }
        Ok(text)
    }

    /// Its stdout, which can be taken once.
    pub(crate) fn stdout(&mut self) -> anyhow::Result<BufReader<ChildStdout>> {
        Ok(BufReader::new(self.0.stdout.take().context("stdout was taken")?))
    }

    /// Resident memory in bytes.
    pub(crate) fn memory_bytes(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kibibytes * 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill(); // the process may have ended already
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Waits until the program prints its address: in a line of stdout, after `mark` and `http://`.
    pub(crate) fn of(mut process: Process, mark: &str) -> anyhow::Result<Self> {
        let mut stdout = process.stdout()?;
        let mut line = String::new();
        let address = loop {
            line.clear();
            if stdout.read_line(&mut line)? == 0 {
                bail!("a server did not start; start it by hand to see why");
            }
            let url = line.split_once(mark).and_then(|(_, rest)| rest.trim().strip_prefix("http://"));
            if let Some(url) = url {
                break url.trim_end_matches('/').parse()?;
            }
        };
        thread::spawn(move || stdout.read_to_string(&mut String::new()));
        Ok(Self { process, address })
    }

    /// Starts the program under test on the data in `dir`, with default settings except `args`.
    pub(crate) fn latchkey(program: &Path, dir: &Path, args: &[&str]) -> anyhow::Result<Self> {
        Self::of(Process::spawn(latchkey(program, dir, "127.0.0.1:0", args))?, "Start page  ")
    }
}

/// Returns the command that serves the data in `dir` on `listen`.
pub(crate) fn latchkey(program: &Path, dir: &Path, listen: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.env("MALLOC_ARENA_MAX", "2"); // as the unit and the image have it
    // All clients of the benchmark have one address. As variables, so that a row can set them otherwise.
    command.envs([("LATCHKEY_LOGIN_LIMIT", "off"), ("LATCHKEY_FAILURE_LIMIT", "off")]);
    command.args(["--listen", listen]).args(args).arg("--data-dir").arg(dir);
    command.arg("--secret-key-file").arg(crate::data::key_file(dir));
    command
}
