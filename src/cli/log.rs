//! The log: lines on stderr, as text or JSON.
//!
//! A thread of its own writes the lines. When request threads wrote them, they waited for each other's lock on stderr at every line,
//! which cost 40 % of all answers where stderr is a pipe. Guarantees: logging does not wait for a terminal or a pipe unless a megabyte is
//! queued. No line is dropped, and all lines are written before an orderly exit. A kill loses the lines of the last milliseconds.
//!
//! Why not `tracing-appender`: the drop of its guard waits one second at most; with a reader that takes a line each half second, 1 of 10
//! lines was written at the exit.

use std::{
    io::{self, IsTerminal as _, Write as _, stderr},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::{
    Layer as _, field::MakeExt as _, filter::Targets, fmt::format, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::config::{Config, LogFormat};

/// The maximum size of the queue in bytes.
const WAITING_BYTES_MAX: usize = 1024 * 1024;
/// How long the thread waits for more lines after the first, so that under load one system call writes many.
const GATHERING: Duration = Duration::from_millis(1);

/// Starts logging to stderr, filtered by `--log` or else by `default`.
pub(super) fn start(config: &Config, default: Targets) -> Log {
    let filter = config.log.clone().unwrap_or(default);
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = Log::start();
    let layer = tracing_subscriber::fmt::layer().with_writer(Arc::clone(&log.lines));
    let layer = match config.log_format {
        LogFormat::Text if stderr().is_terminal() && !no_color => layer.with_ansi(true).boxed(),
        LogFormat::Text => {
            // The same as the default format without colours, but faster, because it does not search each field for colour codes.
            let plain = format::debug_fn(|writer, field, value| match field.name() {
                "message" => write!(writer, "{value:?}"),
                name => write!(writer, "{name}={value:?}"),
            });
            layer.with_ansi(false).fmt_fields(plain.delimited(" ")).boxed()
        }
        LogFormat::Json => layer.with_ansi(false).json().with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    log
}

/// The thread that writes the log. Dropping it waits until all lines are written.
pub(super) struct Log {
    lines: Arc<Lines>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Log {
    fn start() -> Self {
        let lines = Arc::new(Lines::default());
        let writing = Arc::clone(&lines);
        let thread = thread::Builder::new().name("latchkey-log".to_owned()).spawn(move || writing.write_out());
        Self { lines, thread: Some(thread.expect("BUG: a thread can be started while the program starts")) }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.lock().ended = true;
        self.lines.changed.notify_all();
        let _ = self.thread.take().map(thread::JoinHandle::join); // if it panicked, there is no log to report it to
    }
}

/// The queue of lines.
#[derive(Default)]
struct Lines {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    ended: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_out(&self) {
        let mut text = Vec::new();
        loop {
            let empty = |waiting: &mut Waiting| waiting.text.is_empty() && !waiting.ended;
            let waiting = self.changed.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
            let ended = waiting.ended;
            drop(waiting);
            if !ended {
                thread::sleep(GATHERING);
            }
            mem::swap(&mut text, &mut self.lock().text);
            self.changed.notify_all();
            let _ = stderr().write_all(&text); // a failure of stderr cannot be reported
            text.clear();
            if ended {
                return;
            }
        }
    }
}

/// Queues one complete line per call.
impl io::Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let full = |waiting: &mut Waiting| waiting.text.len() > WAITING_BYTES_MAX && !waiting.ended;
        let waiting = self.changed.wait_while(self.lock(), full);
        let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
        if waiting.ended {
            return stderr().write(line); // lines of the last moments of the process
        }
        let first = waiting.text.is_empty();
        waiting.text.extend_from_slice(line);
        drop(waiting);
        if first {
            self.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
