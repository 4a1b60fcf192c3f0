//! Transfer of whole files: over the socket of a running server, or in process over the opened data.
//!
//! Guarantees: both ways call the same function of the store. A truncated transfer is an error, never a short file.

use std::{
    fs::File,
    io::{self, Seek as _, Write},
};

use anyhow::{Context as _, bail, ensure};
use tokio::runtime::Runtime;

use super::{
    client::{InitFlag, must_exist, refused},
    progress::ProgressBar,
    runtime::runtime,
    socket::{AdminSocketClient, Answer, BROKE_OFF, RequestBody},
};
use crate::{
    auth::transfer::{self, ImportReport, OtherWriters},
    clock::{Clock as _, SystemClock},
    config::{self, Config},
    http::operator::transfer::{OPERATOR_PATH_PREFIX, TransferMessage},
    store::{DataDir, Store, scratch_file},
};

/// Access to the data, through a running server or directly.
pub(super) enum DataAccess {
    Server(Runtime, AdminSocketClient),
    /// The open data directory, and how much of the database to keep in memory, in bytes.
    InProcess(DataDir, usize),
}

impl DataAccess {
    /// Finds the data. Fails if there is none.
    pub(super) fn find(config: &Config) -> anyhow::Result<Self> {
        must_exist(config)?;
        Self::open(config)
    }

    /// Finds the data, or creates it if there is none and `make` allows it.
    pub(super) fn find_or_make(make: &InitFlag, config: &Config) -> anyhow::Result<Self> {
        make.check(config)?;
        Self::open(config)
    }

    fn open(config: &Config) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        if let Some(server) = runtime.block_on(AdminSocketClient::connect(config))? {
            return Ok(Self::Server(runtime, server));
        }
        Ok(Self::InProcess(DataDir::take(&config.data_dir)?, config.cache_bytes()))
    }

    /// Writes a copy of the database into `file`, which is empty.
    pub(super) fn backup(self, mut file: &File, bar: &mut ProgressBar) -> anyhow::Result<()> {
        match self {
            Self::Server(runtime, server) => runtime.block_on(fetch(server, "/backup", &mut file, bar)),
            Self::InProcess(dir, cache_bytes) => {
                let store = Store::open(&dir, cache_bytes)?;
                let copied = store.backup(file.try_clone()?, &mut |done, all| bar.show(done, all));
                copied.context("cannot copy the database")?;
                Ok(store.close()?)
            }
        }
    }

    /// Writes all users to `out`.
    pub(super) fn export(self, out: &mut dyn Write, bar: &mut ProgressBar) -> anyhow::Result<()> {
        match self {
            Self::Server(runtime, server) => runtime.block_on(fetch(server, "/export", out, bar)),
            Self::InProcess(dir, cache_bytes) => {
                let store = Store::open(&dir, cache_bytes)?;
                let mut out = io::BufWriter::new(out);
                transfer::export(&store, &mut out, &mut |done, all| bar.show(done, all))?;
                out.flush()?;
                Ok(store.close()?)
            }
        }
    }

    /// Adds the users in `file`.
    pub(super) fn import(self, mut file: File, dry_run: bool, bar: &mut ProgressBar) -> anyhow::Result<ImportReport> {
        match self {
            Self::Server(runtime, server) => runtime.block_on(async {
                let path = if dry_run { "/import?dry_run" } else { "/import" };
                file.rewind()?;
                let mut report = Vec::new();
                ask(server, "POST", path, RequestBody::file(file)?, &mut report, bar).await?;
                Ok(serde_json::from_slice(&report)?)
            }),
            Self::InProcess(dir, cache_bytes) => {
                let store = Store::open(&dir, cache_bytes)?;
                let show = &mut |done, all| bar.show(done, all);
                let report = transfer::import(&store, &mut file, SystemClock.now(), dry_run, OtherWriters::None, show)?;
                store.close()?;
                Ok(report)
            }
        }
    }
}

/// An unnamed file in the data directory, whose file system has room for a copy of the data.
pub(super) fn scratch(config: &Config) -> anyhow::Result<File> {
    let dir = &config.data_dir;
    scratch_file(dir).with_context(|| format!("cannot write to the data directory {}", config::absolute(dir).display()))
}

async fn fetch(
    server: AdminSocketClient,
    path: &str,
    out: &mut (dyn Write + '_),
    bar: &mut ProgressBar,
) -> anyhow::Result<()> {
    ask(server, "GET", path, RequestBody::nothing(), out, bar).await
}

/// Sends a request, shows the progress of the server, and writes the file of the response to `out`.
async fn ask(
    mut server: AdminSocketClient,
    method: &str,
    path: &str,
    body: RequestBody,
    out: &mut (dyn Write + '_),
    bar: &mut ProgressBar,
) -> anyhow::Result<()> {
    let mut answer = server.ask(method, &format!("{OPERATOR_PATH_PREFIX}{path}"), None, body).await?;
    if !(200..300).contains(&answer.status) {
        return Err(refused(&serde_json::from_slice(&answer.whole().await?).unwrap_or_default()));
    }
    let mut came = Vec::new();
    let length = loop {
        match line(&mut answer, &mut came).await? {
            TransferMessage::Progress { done, all } => bar.show(done, all),
            TransferMessage::Failed { message } => bail!(message),
            TransferMessage::Whole { bytes } => break bytes,
        }
    };
    let mut received = came.len() as u64;
    out.write_all(&came).context("cannot write")?;
    let mut receiving = ProgressBar::new("receive");
    while let Some(data) = answer.next().await? {
        out.write_all(&data).context("cannot write")?;
        received += data.len() as u64;
        receiving.show(received, length);
    }
    ensure!(received == length, BROKE_OFF);
    Ok(())
}

/// Receives the next line of the response. Bytes after it stay in `came`.
async fn line(answer: &mut Answer, came: &mut Vec<u8>) -> anyhow::Result<TransferMessage> {
    loop {
        if let Some(end) = came.iter().position(|byte| *byte == b'\n') {
            let line = serde_json::from_slice(&came[..end]).context("the server runs another version of latchkey")?;
            came.drain(..=end);
            return Ok(line);
        }
        came.extend_from_slice(&answer.next().await?.context(BROKE_OFF)?);
    }
}
