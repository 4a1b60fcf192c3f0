//! The state that all rows use: the program under test, its data, and shared results.

use std::{
    cell::OnceCell,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{
    data::{self, Copy, Set},
    process::Server,
    wrk,
};

/// The interval of memory samples.
const MEMORY_EVERY: Duration = Duration::from_millis(50);

/// The shared input of all rows.
pub(crate) struct Bench {
    /// The path of the program under test.
    pub(crate) program: PathBuf,
    /// The directory of data sets and temporary files.
    pub(crate) work: PathBuf,
    /// The results of the flood. `login::flood` measures them once.
    pub(crate) flood: OnceCell<Flood>,
}

impl Bench {
    /// Starts the program under test on a copy of `set`.
    pub(crate) fn serve(&self, set: Set, args: &[&str]) -> anyhow::Result<(Copy, Server)> {
        let copy = data::copy(&self.work, set)?;
        let server = Server::latchkey(&self.program, copy.path(), args)?;
        Ok((copy, server))
    }

    /// Runs `work` and returns its result and the peak resident memory of `server` meanwhile, in bytes.
    pub(crate) fn most_memory<T>(
        server: &Server,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, f64)> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most: f64 = 0.0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(server.process.memory_bytes()?);
                    thread::sleep(MEMORY_EVERY);
                }
                anyhow::Ok(most)
            });
            let found = work();
            done.store(true, Ordering::Relaxed);
            let most = watch.join().expect("a look at memory does not panic")?;
            Ok((found?, most))
        })
    }
}

/// The results of the flood.
pub(crate) struct Flood {
    pub(crate) without: Vec<wrk::Found>,
    pub(crate) during: Vec<wrk::Found>,
    pub(crate) refused: Vec<Duration>,
    pub(crate) accepted: Vec<Duration>,
    pub(crate) per_s: f64,
    pub(crate) memory_bytes: f64,
}
