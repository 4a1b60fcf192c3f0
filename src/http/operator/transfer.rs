//! Whole files over the admin socket: backup and export as downloads, import as an upload; and the address that the API is served at.
//!
//! Guarantees: these paths exist on the admin socket alone. A response reports progress, then the length of the file, then the file, so
//! that a truncated response is never taken for a whole file. The working data of a long import is on disk and not in memory.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    path::PathBuf,
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use poem::{Body, Endpoint, Request, Response, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    auth::transfer::{self, TransferError},
    clock::Clock,
    http::middleware::stack::Routes,
    store::{Progress, Store, scratch_file},
};

/// How many chunks of a response may be queued for the client.
const CHUNKS_QUEUED_MAX: usize = 16;

/// Prefix of these paths. No path of the API begins with it.
pub const TRANSFER_PATH_PREFIX: &str = "/operator";

/// One JSON line of the response: any number of `Progress` lines, then one line of another kind.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferMessage {
    /// Progress of the work.
    Progress {
        /// Units of work that are done.
        done: u64,
        /// Units of work in total.
        all: u64,
    },
    /// The work is done; the file follows this line.
    Whole {
        /// The length of the file.
        bytes: u64,
    },
    /// The work failed; nothing follows this line.
    Failed {
        /// Why.
        message: String,
    },
}

/// The routes of the admin socket: the transfers of whole files, then the routes of the API.
pub struct OperatorRoutes {
    /// The API.
    pub routes: Routes,
    /// The open database.
    pub store: Arc<Store>,
    /// The clock for imported users without a date of registration.
    pub clock: Arc<dyn Clock>,
    /// The directory for temporary files: the data directory, whose disk has room for a copy of the database.
    pub dir: PathBuf,
    /// The URL of the API over TCP: scheme, address and actual port.
    pub address: String,
}

impl Endpoint for OperatorRoutes {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let path = request.uri().path().strip_prefix(TRANSFER_PATH_PREFIX).map(ToOwned::to_owned);
        match path.as_deref() {
            Some("/backup") => Ok(self.answer(|store, file, progress| Ok(store.backup(file.try_clone()?, progress)?))),
            Some("/export") => Ok(self.answer(|store, file, progress| {
                let mut out = io::BufWriter::new(file);
                transfer::export(store, &mut out, progress)?;
                Ok(out.flush()?)
            })),
            Some("/import") => Ok(self.import(request).await.unwrap_or_else(|error| {
                // The operator may see the cause.
                let body = serde_json::json!({"message": error.to_string()}).to_string();
                Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(body)
            })),
            Some("/address") => Ok(self.address.clone().into()),
            _ => self.routes.call(request).await,
        }
    }
}

impl OperatorRoutes {
    async fn import(&self, request: Request) -> io::Result<Response> {
        let dry_run = request.uri().query() == Some("dry_run");
        let mut lines = scratch_file(&self.dir)?;
        let mut body = request.into_body().into_bytes_stream();
        let mut written = Ok(());
        while let Some(piece) = body.next().await {
            let piece = piece?;
            // The body is read to its end also after a failed write, because a client that is still sending reads no response.
            written = written.and_then(|()| lines.write_all(&piece));
        }
        written?;
        let now = self.clock.now();
        Ok(self.answer(move |store, mut file, progress| {
            let report = transfer::import(store, &mut lines, now, dry_run, progress)?;
            let (added, unchanged, differing, bad) = (report.added, report.unchanged, report.differing, report.bad);
            tracing::info!(target: "audit", event = "import", by = "operator", dry_run, added, unchanged, differing, bad);
            Ok(file.write_all(serde_json::json!(report).to_string().as_bytes())?)
        }))
    }

    /// Responds with what `work` writes into an unnamed file. `work` runs on a blocking thread, and to its end also if the client
    /// disconnects.
    fn answer(
        &self,
        work: impl FnOnce(&Store, &File, Progress<'_>) -> Result<(), TransferError> + Send + 'static,
    ) -> Response {
        let (to, mut pieces) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let (store, dir) = (Arc::clone(&self.store), self.dir.clone());
        tokio::task::spawn_blocking(move || {
            let made = scratch_file(&dir).map_err(TransferError::from).and_then(|mut file| {
                // A progress message that does not fit into the queue is dropped.
                work(&store, &file, &mut |done, all| {
                    drop(to.try_send(line(&TransferMessage::Progress { done, all })));
                })?;
                file.rewind()?;
                Ok((file.metadata()?.len(), file))
            });
            drop(store); // a slow client must not keep the database open
            let _ = match made {
                Ok((bytes, file)) => send(&to, bytes, file),
                Err(error) => to.blocking_send(line(&TransferMessage::Failed { message: error.to_string() })),
            }; // fails if the client has disconnected
        });
        Response::builder().body(Body::from_bytes_stream(stream::poll_fn(move |task| pieces.poll_recv(task))))
    }
}

type Chunk = io::Result<Vec<u8>>;

fn send(to: &mpsc::Sender<Chunk>, bytes: u64, mut file: File) -> Result<(), mpsc::error::SendError<Chunk>> {
    to.blocking_send(line(&TransferMessage::Whole { bytes }))?;
    loop {
        let mut piece = vec![0; 64 * 1024];
        match file.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => piece.truncate(length),
            Err(error) => return to.blocking_send(Err(error)), // which truncates the response
        }
        to.blocking_send(Ok(piece))?;
    }
}

fn line(line: &TransferMessage) -> Chunk {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}
