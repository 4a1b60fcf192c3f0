//! Lowers the priority of threads with long work, so that requests are answered first.
//!
//! Deliberately absent: raising it again, which needs a privilege. Only threads of their own may call [`lower`].

/// Nice value added to the thread. Each step divides its weight by 1.25 on Linux. On a fully loaded core such threads get a sixth of the
/// time, so that requests keep about four fifths and a hash of 0.2 s takes one or two seconds. At 19 they would get a seventieth, and no
/// login would finish in time.
#[cfg(target_os = "linux")]
const NICE_INCREMENT: i32 = 7;

/// Lowers the priority of this thread. If that fails, the thread works at normal priority.
#[cfg(target_os = "linux")]
pub fn lower() {
    use rustix::process::{getpriority_process, setpriority_process};
    // On Linux this is the priority of the thread; POSIX says of the process. 19 is the lowest priority.
    let set = getpriority_process(None).and_then(|nice| setpriority_process(None, (nice + NICE_INCREMENT).min(19)));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot lower the priority of a thread");
    }
}

/// On other systems the priority belongs to the whole process, so it stays as it is.
#[cfg(not(target_os = "linux"))]
pub fn lower() {
    tracing::debug!("threads with long work have the priority of all others on this system");
}
