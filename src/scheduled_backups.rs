//! Backups that the server makes by itself, into `--backup-dir`.
//!
//! Guarantees: a backup gets its name when it is complete, checked and synced (I6). An old one is removed only after a newer one was found
//! sound. A failure stops nothing else: it is logged and counted, and tried again. The work runs on a thread of its own with a low
//! priority; when the server stops, a backup in progress is given up and leaves nothing behind.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use time::{OffsetDateTime, PrimitiveDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tokio::sync::oneshot;

use crate::{
    auth::passwords::stored_hash::StoredHash,
    clock::Clock,
    config::BackupSchedule,
    metrics::METRICS,
    store::{self, AtomicFile, Progress, Store},
    thread_priority::{self, LongWork},
};

/// The longest time between two looks at the clock. It may be set, and a machine may sleep.
const LOOK_MAX: Duration = Duration::from_mins(1);
/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_mins(10);
const NAME_START: &str = "latchkey-";
const NAME_END: &str = ".redb";
const STAMP: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]Z");

/// Creates the directory of the backups if it is missing.
///
/// # Errors
/// If it cannot be created or read.
pub fn prepare(schedule: &BackupSchedule) -> anyhow::Result<()> {
    let dir = &schedule.dir;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| list_backups(dir).map(drop));
    made.with_context(|| format!("cannot use the directory of the backups {}", dir.display()))
}

/// Makes backups as `schedule` says. Never returns.
pub async fn run(store: Arc<Store>, clock: Arc<dyn Clock>, schedule: BackupSchedule) {
    let (mut last, mut failed_at) = (None, None);
    loop {
        let now = clock.now();
        match newest(&schedule, now).await {
            Ok(found) => last = found,
            Err(error) => tracing::debug!(%error, "cannot look for the last backup"), // the attempt below says so
        }
        METRICS.set_last_backup(last);
        // A time in the future means that the clock was set back.
        let has_passed = |since: OffsetDateTime, pause: Duration| since > now || now - since >= pause;
        let is_due = |since: Option<OffsetDateTime>, pause| since.is_none_or(|since| has_passed(since, pause));
        if is_due(last, schedule.every) && is_due(failed_at, schedule.every.min(RETRY_MAX)) {
            let made = make_on_thread(Arc::clone(&store), schedule.clone(), now).await;
            METRICS.count_backup(made.is_ok());
            failed_at = None;
            match made {
                Ok(file) => {
                    last = Some(now);
                    METRICS.set_last_backup(last);
                    tracing::info!(file = %file.display(), "made a backup");
                }
                Err(error) => {
                    failed_at = Some(now);
                    tracing::error!(error = format!("{error:#}"), "the backup failed; it is tried again");
                }
            }
            if let Some(last) = last.filter(|last| has_passed(*last, schedule.every * 2)) {
                tracing::warn!(last = %last, "the last good backup is older than twice the interval");
            }
        }
        tokio::time::sleep(LOOK_MAX.min(schedule.every / 4)).await;
    }
}

/// A thread that makes a backup. Dropping it gives the backup up and waits until the thread has ended, so that the database can be closed.
struct BackupThread {
    given_up: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for BackupThread {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

async fn make_on_thread(store: Arc<Store>, schedule: BackupSchedule, now: OffsetDateTime) -> anyhow::Result<PathBuf> {
    let (done, made) = oneshot::channel();
    let given_up = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&given_up);
    let work = move || {
        thread_priority::lower(&LongWork::Bulk);
        // A copy cannot be stopped but by a panic. This one is not reported, and removes the unfinished file.
        let made = catch_unwind(AssertUnwindSafe(|| {
            make(&store, &schedule, now, &mut |_, _| {
                if asked.load(Ordering::Relaxed) {
                    resume_unwind(Box::new("given up"));
                }
            })
        }));
        drop(store);
        let _ = done.send(made.unwrap_or_else(|_| Err(anyhow!("the work was given up")))); // fails if the server stops
    };
    let thread = thread::Builder::new().name("latchkey-backup".to_owned()).spawn(work)?;
    let _thread = BackupThread { given_up, thread: Some(thread) };
    made.await.context("the thread of the backup ended early")?
}

fn make(
    store: &Store,
    schedule: &BackupSchedule,
    now: OffsetDateTime,
    progress: Progress<'_>,
) -> anyhow::Result<PathBuf> {
    let stamp = now.format(STAMP).context("the date cannot be written")?;
    let path = schedule.dir.join(format!("{NAME_START}{stamp}{NAME_END}"));
    let cannot = || format!("cannot write {}", path.display());
    let file = AtomicFile::create(&path, false).with_context(cannot)?;
    store.backup(file.file().try_clone().with_context(cannot)?, progress)?;
    let copy = file.file().try_clone().with_context(cannot)?;
    store::check_open(copy, &path, StoredHash::check, progress).context("the copy is not sound")?;
    file.put().with_context(cannot)?;
    if let Err(error) = remove_old(schedule, now) {
        tracing::error!(%error, dir = %schedule.dir.display(), "old backups cannot be removed");
    }
    Ok(path)
}

/// Returns the backups in `dir` with their times, the oldest first. Other files are left alone.
fn list_backups(dir: &Path) -> io::Result<Vec<(OffsetDateTime, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stamp = name.strip_prefix(NAME_START).and_then(|rest| rest.strip_suffix(NAME_END));
        if let Some(time) = stamp.and_then(|stamp| PrimitiveDateTime::parse(stamp, STAMP).ok()) {
            found.push((time.assume_utc(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the time of the newest backup up to `now`, or `None` if there is none.
async fn newest(schedule: &BackupSchedule, now: OffsetDateTime) -> io::Result<Option<OffsetDateTime>> {
    let dir = schedule.dir.clone();
    let found = tokio::task::spawn_blocking(move || list_backups(&dir)).await; // the disk may be slow
    let times = found.unwrap_or_else(|error| Err(io::Error::other(error)))?.into_iter().map(|(time, _)| time);
    Ok(times.filter(|time| *time <= now).max())
}

/// Removes the oldest backups. One from the future, made while the clock was wrong, is neither removed nor counted.
fn remove_old(schedule: &BackupSchedule, now: OffsetDateTime) -> io::Result<()> {
    let found: Vec<_> = list_backups(&schedule.dir)?.into_iter().filter(|(time, _)| *time <= now).collect();
    let old = found.len().saturating_sub(schedule.keep);
    found[..old].iter().try_for_each(|(_, path)| fs::remove_file(path))
}
