//! Lowers the priority of threads with long work, so that requests are answered first.
//!
//! Deliberately absent: raising it again, which needs a privilege. Only threads of their own may call [`lower`].

/// What a thread does whose priority is lowered. Each step of the nice value divides the weight of the thread by 1.25 on Linux.
pub enum LongWork {
    /// Hashes passwords. On a fully loaded core such threads get a sixth of the time, so that requests keep five sixths and a hash
    /// of 0.2 s takes one or two seconds. At 19 they would get a seventieth, and no login would finish in time.
    Hashing,
    /// Reads pages of lists, or transfers whole files. There are up to six such threads and one for scheduled backups, and nobody waits for one of them with a
    /// deadline of seconds.
    Bulk,
}

impl LongWork {
    #[cfg(target_os = "linux")]
    fn nice_increment(&self) -> i32 {
        match self {
            Self::Hashing => 7,
            Self::Bulk => 11,
        }
    }
}

/// Lowers the priority of this thread. If that fails, the thread works at normal priority.
#[cfg(target_os = "linux")]
pub fn lower(work: &LongWork) {
    use rustix::process::{getpriority_process, setpriority_process};
    // On Linux this is the priority of the thread; POSIX says of the process. 19 is the lowest priority.
    let set =
        getpriority_process(None).and_then(|nice| setpriority_process(None, (nice + work.nice_increment()).min(19)));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}

/// On other systems the priority belongs to the whole process, so it stays as it is.
#[cfg(not(target_os = "linux"))]
pub fn lower(_: &LongWork) {
    tracing::debug!("threads with long work have the priority of all others on this system");
}
