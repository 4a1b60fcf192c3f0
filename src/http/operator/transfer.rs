//! Whole files over the admin socket: backup and export as downloads, import as an upload. Also the list of users as a stream, and the
//! address of the API.
//!
//! Guarantees: these paths exist on the admin socket alone. Long work runs on threads of its own, few at a time and with a lower priority
//! than those that answer requests. A response reports progress, then the length of the file, then the file, so
//! that a truncated response is never taken for a whole file. The working data of a long import is on disk and not in memory.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    path::PathBuf,
    sync::Arc,
    thread,
};

use futures_util::{StreamExt as _, stream};
use poem::{Body, Endpoint, Request, Response, error::NotFoundError, http::StatusCode};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
};

use crate::{
    auth::{
        Auth,
        transfer::{self, OtherWriters, TransferError},
    },
    clock::Clock,
    http::{
        middleware::stack::Routes,
        operator::{keys, user_list},
    },
    store::{Progress, Store, scratch_file},
    thread_priority::{self, LongWork},
};

/// How many chunks of a response may be queued for the client.
const CHUNKS_QUEUED_MAX: usize = 16;

/// The maximum number of transfers at the same time.
const TRANSFERS_MAX: usize = 4;

/// Prefix of these paths. No path of the API begins with it.
pub const OPERATOR_PATH_PREFIX: &str = "/operator";

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
    /// The key ring.
    pub auth: Arc<Auth>,
    /// The open database.
    pub store: Arc<Store>,
    /// The clock for imported users without a date of registration.
    pub clock: Arc<dyn Clock>,
    /// The directory for temporary files: the data directory, whose disk has room for a copy of the database.
    pub dir: PathBuf,
    /// The URL of the API over TCP: scheme, address and actual port.
    pub address: String,
    /// The permits of the transfers.
    pub transfers: TransferLimit,
}

/// Limits the number of transfers at the same time.
pub struct TransferLimit(Arc<Semaphore>);

impl Default for TransferLimit {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TRANSFERS_MAX)))
    }
}

impl Endpoint for OperatorRoutes {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let path = request.uri().path().strip_prefix(OPERATOR_PATH_PREFIX).map(ToOwned::to_owned);
        match path.as_deref() {
            Some(name @ ("/backup" | "/export" | "/import")) => Ok(self.transfer(name, request).await),
            Some("/users") => Ok(match user_list::read_filter(&request) {
                Ok(filter) => {
                    let lines = user_list::lines(Arc::clone(&self.store), filter);
                    Response::builder().body(Body::from_bytes_stream(lines))
                }
                Err(error) => error.into_response(),
            }),
            Some(path) if let Some(operation) = path.strip_prefix("/keys") => {
                let answer = keys::answer(&self.auth, operation, request).await;
                answer.ok_or_else(|| NotFoundError.into())
            }
            Some("/address") => Ok(self.address.clone().into()),
            _ => self.routes.call(request).await,
        }
    }
}

/// Returns a response with a message for the operator, who may see the cause.
fn refusal(status: StatusCode, message: &str) -> Response {
    Response::builder().status(status).body(serde_json::json!({ "message": message }).to_string())
}

impl OperatorRoutes {
    async fn transfer(&self, name: &str, request: Request) -> Response {
        let Ok(permit) = Arc::clone(&self.transfers.0).try_acquire_owned() else {
            let message =
                format!("{TRANSFERS_MAX} transfers are running already; try again when one of them has ended");
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &message);
        };
        match name {
            "/backup" => self.answer(permit, |store, file, progress| Ok(store.backup(file.try_clone()?, progress)?)),
            "/export" => self.answer(permit, |store, file, progress| {
                let mut out = io::BufWriter::new(file);
                transfer::export(store, &mut out, progress)?;
                Ok(out.flush()?)
            }),
            _ => {
                let failed = |error: io::Error| refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
                self.import(permit, request).await.unwrap_or_else(failed)
            }
        }
    }

    async fn import(&self, permit: OwnedSemaphorePermit, request: Request) -> io::Result<Response> {
        let dry_run = request.uri().query() == Some("dry_run");
        let mut lines = scratch_file(&self.dir)?;
        let mut body = request.into_body().into_bytes_stream();
        let mut written = Ok(());
        while let Some(piece) = body.next().await {
            let piece = piece?;
            // The body is read to its end also after a failed write, because a client that is still sending reads no response.
            if written.is_ok() {
                let write = move || (lines.write_all(&piece), lines);
                (written, lines) = spawn_blocking(write).await?; // a write may wait for the disk
            }
        }
        written?;
        let now = self.clock.now();
        Ok(self.answer(permit, move |store, mut file, progress| {
            let report = transfer::import(store, &mut lines, now, dry_run, OtherWriters::Requests, progress)?;
            let (added, unchanged, differing, bad) = (report.added, report.unchanged, report.differing, report.bad);
            tracing::info!(target: "audit", event = "import", by = "operator", dry_run, added, unchanged, differing, bad);
            Ok(file.write_all(serde_json::json!(report).to_string().as_bytes())?)
        }))
    }

    /// Responds with what `work` writes into an unnamed file. `work` runs on a thread of its own, and to its end also if the client
    /// disconnects. `permit` is held until the file is complete.
    fn answer(
        &self,
        permit: OwnedSemaphorePermit,
        work: impl FnOnce(&Store, &File, Progress<'_>) -> Result<(), TransferError> + Send + 'static,
    ) -> Response {
        let (to, mut pieces) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let (store, dir) = (Arc::clone(&self.store), self.dir.clone());
        let run = move || {
            thread_priority::lower(&LongWork::Bulk);
            let made = scratch_file(&dir).map_err(TransferError::from).and_then(|mut file| {
                // A progress message that does not fit into the queue is dropped.
                work(&store, &file, &mut |done, all| {
                    drop(to.try_send(line(&TransferMessage::Progress { done, all })));
                })?;
                file.rewind()?;
                Ok((file.metadata()?.len(), file))
            });
            drop((store, permit)); // a slow client must keep neither the database open nor others waiting
            let _ = match made {
                Ok((bytes, file)) => send(&to, bytes, file),
                Err(error) => to.blocking_send(line(&TransferMessage::Failed { message: error.to_string() })),
            }; // fails if the client has disconnected
        };
        if let Err(error) = thread::Builder::new().name("latchkey-transfer".to_owned()).spawn(run) {
            return refusal(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
        }
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
