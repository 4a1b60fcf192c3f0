//! Export and import of users, one JSON object per line: `{"email", "password_hash", "admin", "disabled", "registered_on", "public_id"}`.
//!
//! Guarantees: an export is a snapshot. An import changes nothing before it has validated every line, and it never overwrites an existing
//! user. An interrupted import continues when it is run again. Memory grows by 32 bytes per line, which detect duplicates.

pub mod sources;

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead, BufReader, Read, Seek, Write},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use crate::{
    auth::passwords::stored_hash::StoredHash,
    model::{Email, PasswordHash, PublicId, User},
    store::{ImportOutcome, Progress, Store, StoreError, UserToImport},
};

/// The longest line in bytes. An export writes at most about 1,000 per line.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// The maximum number of users per transaction. Emails are unordered, so a batch touches every page of their index, and a larger batch
/// writes fewer pages in all.
const BATCH: usize = 8192;
/// The minimum number of users per transaction.
const BATCH_MIN: usize = 256;
/// How long a transaction should take at most while a server runs, because its other writers wait for it.
const SHARED_BATCH_MAX: Duration = Duration::from_millis(50);

/// Who else writes to the store during an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherWriters {
    /// Nobody: transactions have the size that is fastest.
    None,
    /// The requests of a server: transactions are short.
    Requests,
}
/// How many invalid lines are named. The rest are counted.
const NAMED_MAX: usize = 100;

/// Why an export or import failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file has lines, and none of them is a JSON object. Has the number of the first one, and what is wrong with it.
    #[error(
        "no line of it is a JSON object as `latchkey export` writes (line {0}: {1}); use --from for a file of another system"
    )]
    NoObjects(u64, String),
    /// The import ended before its last line.
    #[error("the import stopped half-way; what it added stays, and another run goes on from there: {0}")]
    HalfWay(Box<Self>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    email: String,
    password_hash: String,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    disabled: bool,
    registered_on: Option<String>,
    public_id: Option<String>,
}

/// The result of an import, or with a dry run the expected result.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ImportReport {
    /// How many users were added.
    pub added: u64,
    /// How many users existed already.
    pub unchanged: u64,
    /// How many lines differ from the existing account, which is not changed.
    pub differing: u64,
    /// How many lines are invalid. If there is one, nothing was added.
    pub bad: u64,
    /// How many of the valid lines have which format of password hash.
    #[serde(default)]
    pub hash_formats: BTreeMap<String, u64>,
    /// The first lines that are invalid or differ.
    pub lines: Vec<LineMessage>,
}

/// A message about one line.
#[derive(Debug, Serialize, Deserialize)]
pub struct LineMessage {
    /// Its number, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub message: String,
}

impl ImportReport {
    fn name(&mut self, line: u64, message: String) {
        if self.lines.len() < NAMED_MAX {
            self.lines.push(LineMessage { line, message });
        }
    }

    fn count_format(&mut self, hash: &PasswordHash) {
        let format = StoredHash::read(hash).map_or("unknown", |hash| hash.format());
        if let Some(count) = self.hash_formats.get_mut(format) {
            *count += 1;
        } else {
            self.hash_formats.insert(format.to_owned(), 1);
        }
    }

    fn count(&mut self, import_outcomes: &[ImportOutcome], batch: &[(u64, String)]) {
        for (standing, (line, email)) in import_outcomes.iter().zip(batch) {
            match standing {
                ImportOutcome::New => self.added += 1,
                ImportOutcome::Same => self.unchanged += 1,
                ImportOutcome::Differs => {
                    self.differing += 1;
                    self.name(*line, format!("{email} is there with other data and stays as it is"));
                }
                ImportOutcome::IdTaken => {
                    self.differing += 1;
                    self.name(*line, format!("the public id of {email} belongs to another account"));
                }
            }
        }
    }
}

/// Writes all users of one snapshot to `out`.
///
/// # Errors
/// [`TransferError`].
pub fn export(store: &Store, out: &mut dyn Write, progress: Progress<'_>) -> Result<(), TransferError> {
    let mut done = 0;
    store.for_each_user(|user, all| {
        let registered_on = user.registered_on.format(&Rfc3339).expect("BUG: a stored date has a year of four digits");
        let line = Line {
            email: user.email.to_string(),
            password_hash: user.password_hash.as_str().to_owned(),
            admin: user.admin,
            disabled: user.disabled,
            registered_on: Some(registered_on),
            public_id: Some(user.public_id.to_string()),
        };
        serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
        out.write_all(b"\n")?;
        done += 1;
        if done % 1000 == 0 {
            progress(done, all);
        }
        Ok(())
    })
}

/// Reads `file` twice: first to validate it and then, unless `dry_run`, to add the users. Blocks the thread.
///
/// A user without a date gets `now`. Users without an id and with the same date are registered in the order of their lines.
///
/// # Errors
/// [`TransferError`]; batches that were added before the error stay.
pub fn import(
    store: &Store,
    file: &mut (impl Read + Seek),
    now: OffsetDateTime,
    dry_run: bool,
    others: OtherWriters,
    progress: Progress<'_>,
) -> Result<ImportReport, TransferError> {
    let bytes = file.seek(io::SeekFrom::End(0))?;
    let passes = if dry_run { 1 } else { 2 };
    let mut seen = HashSet::new();
    file.rewind()?;
    let mut lines = Lines::new(&mut *file, now, bytes * passes, progress);
    let mut found = ImportReport::default();
    lines.in_batches(&mut found, Some(&mut seen), OtherWriters::None, |users| store.import_outcomes(&users))?;
    if let Some(first) = found.lines.first().filter(|_| found.bad > 0 && !lines.has_object) {
        return Err(TransferError::NoObjects(first.line, first.message.clone()));
    }
    if dry_run || found.bad > 0 {
        if found.bad > 0 {
            (found.added, found.unchanged) = (0, 0);
        }
        return Ok(found);
    }
    drop(seen);
    let (done, progress) = (lines.done, lines.progress);
    file.rewind()?;
    let mut lines = Lines { done, ..Lines::new(file, now, bytes * passes, progress) };
    let mut report = ImportReport::default();
    let added = lines.in_batches(&mut report, None, others, |users| store.import_users(users));
    added.map_err(|error| TransferError::HalfWay(Box::new(error)))?;
    Ok(report)
}

struct Lines<'a, R> {
    reader: BufReader<R>,
    now: OffsetDateTime,
    number: u64,
    /// Whether one of the lines so far is a JSON object.
    has_object: bool,
    done: u64,
    bytes: u64,
    progress: Progress<'a>,
}

impl<'a, R: Read> Lines<'a, R> {
    fn new(file: R, now: OffsetDateTime, bytes: u64, progress: Progress<'a>) -> Self {
        Self { reader: BufReader::new(file), now, number: 0, has_object: false, done: 0, bytes, progress }
    }

    /// Reads all lines and passes the valid ones to `act`. If `seen` is given, a line about a user in it is invalid.
    fn in_batches(
        &mut self,
        report: &mut ImportReport,
        mut seen: Option<&mut HashSet<u128>>,
        others: OtherWriters,
        act: impl Fn(Vec<UserToImport>) -> Result<Vec<ImportOutcome>, StoreError>,
    ) -> Result<(), TransferError> {
        let mut text = Vec::new();
        let mut batch = if others == OtherWriters::None { BATCH } else { BATCH_MIN };
        loop {
            let (mut users, mut whose) = (Vec::with_capacity(batch), Vec::with_capacity(batch));
            let mut more = true;
            while more && users.len() < batch {
                text.clear();
                let limit = LINE_BYTES_MAX as u64 + 1;
                let read = (&mut self.reader).take(limit).read_until(b'\n', &mut text)?;
                self.number += 1;
                self.done += read as u64;
                let line = text.trim_ascii();
                let too_long = read > LINE_BYTES_MAX;
                let is_another_format = report.bad > NAMED_MAX as u64 && !self.has_object;
                more = read > 0 && !too_long && !is_another_format;
                if line.is_empty() {
                    continue;
                }
                let user = if too_long {
                    Err(format!("it has more than {LINE_BYTES_MAX} bytes; nothing behind it was read"))
                } else {
                    parse(line, self.now, self.number).and_then(|user| match &mut seen {
                        Some(seen) => first_time(seen, user),
                        None => Ok(user),
                    })
                };
                self.has_object |= user.is_ok() || serde_json::from_slice::<Map<String, Value>>(line).is_ok();
                match user {
                    Ok(incoming) => {
                        report.count_format(&incoming.user.password_hash);
                        whose.push((self.number, incoming.user.email.to_string()));
                        users.push(incoming);
                    }
                    Err(why) => {
                        report.bad += 1;
                        report.name(self.number, why);
                    }
                }
            }
            let started = Instant::now();
            report.count(&act(users)?, &whose);
            if others == OtherWriters::Requests {
                let took = started.elapsed();
                batch = if took > SHARED_BATCH_MAX {
                    batch / 2
                } else if took < SHARED_BATCH_MAX / 2 {
                    batch * 2
                } else {
                    batch
                };
                batch = batch.clamp(BATCH_MIN, BATCH);
            }
            (self.progress)(self.done, self.bytes);
            if !more {
                return Ok(());
            }
        }
    }
}

fn first_time(seen: &mut HashSet<u128>, incoming: UserToImport) -> Result<UserToImport, String> {
    let user = &incoming.user;
    let mut is_new = |kind: &[u8], text: &str| {
        let digest = Sha256::new().chain_update(kind).chain_update(text).finalize();
        let start = digest.first_chunk().expect("BUG: a SHA-256 has more than 16 bytes");
        seen.insert(u128::from_be_bytes(*start))
    };
    if !is_new(b"email\0", &user.email.key()) {
        return Err(format!("{} has a line already", user.email));
    }
    if incoming.id_given && !is_new(b"id\0", &user.public_id.to_string()) {
        return Err(format!("the public id {} has a line already", user.public_id));
    }
    Ok(incoming)
}

fn parse(line: &[u8], now: OffsetDateTime, number: u64) -> Result<UserToImport, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        let text = error.to_string();
        // The place in the line, without the "line 1" that every line would be.
        text.replace(" at line 1 column ", " at column ")
    })?;
    let email = Email::parse(&line.email).map_err(|error| error.to_string())?;
    let password_hash = PasswordHash::new(line.password_hash);
    StoredHash::read(&password_hash).map_err(|why| format!("the password_hash cannot be used: {why}"))?;
    let registered_on = line.registered_on.map_or(Ok(now), |text| {
        let moment = OffsetDateTime::parse(&text, &Rfc3339).map(|moment| moment.checked_to_offset(UtcOffset::UTC));
        moment.ok().flatten().ok_or("the registered_on is not a date and time of RFC 3339")
    })?;
    let id_given = line.public_id.is_some();
    let public_id =
        line.public_id.map_or_else(|| Some(PublicId::in_order(registered_on, number)), |text| PublicId::parse(&text));
    let public_id = public_id.ok_or("the public_id is not a UUID in lower case with hyphens")?;
    let user =
        User { public_id, email, password_hash, admin: line.admin, disabled: line.disabled, epoch: 0, registered_on };
    Ok(UserToImport { user, id_given })
}
