//! Reading the log of a running server.

use std::{
    io::{BufRead as _, BufReader},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

/// The maximum time until an expected log line before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The output of a process on stderr so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<String>, Condvar)>);

impl Log {
    pub(crate) fn follow(stderr: impl std::io::Read + Send + 'static) -> Self {
        let log = Self::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let (text, grown) = &*writer.0;
                text.lock().unwrap().push_str(&(line + "\n"));
                grown.notify_all();
            }
        });
        log
    }

    pub(crate) fn text(&self) -> String {
        self.0.0.lock().unwrap().clone()
    }

    /// Waits until the log contains `part`.
    pub(crate) fn wait_for(&self, part: &str) {
        let (text, grown) = &*self.0;
        let waited = grown.wait_timeout_while(text.lock().unwrap(), PATIENCE, |text| !text.contains(part)).unwrap();
        assert!(!waited.1.timed_out(), "the log never said {part:?}:\n{}", waited.0);
    }
}
