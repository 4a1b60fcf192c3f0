//! Whole files for the operator: the backup and the export out, the import in.
//!
//! Guarantees: these paths exist on the admin socket alone, since nothing else is given this endpoint; an answer's length is
//! said before it begins, so that one that breaks off is not taken for the whole; what a long import is made of is on disk
//! and not in memory.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    path::PathBuf,
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};
use poem::{
    Body, Endpoint, Request, Response,
    http::{StatusCode, header},
};

use super::Routes;
use crate::{
    auth::transfer::{self, TransferError},
    clock::Clock,
    store::{Store, scratch_file},
};

/// What these paths begin with; the API has none like it.
pub const BULK: &str = "/operator";

/// The routes of the API with those of whole files before them.
pub struct WithBulk {
    /// The API.
    pub routes: Routes,
    /// What the files are about.
    pub store: Arc<Store>,
    /// When users were registered who do not say when.
    pub clock: Arc<dyn Clock>,
    /// Where there is room for them: the data directory.
    pub dir: PathBuf,
}

impl Endpoint for WithBulk {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let path = request.uri().path().strip_prefix(BULK).map(ToOwned::to_owned);
        let done = match path.as_deref() {
            Some("/backup") => self.send(|store, file| Ok(store.backup(file.try_clone()?, &mut |_, _| ())?)).await,
            Some("/export") => {
                self.send(|store, file| {
                    let mut out = io::BufWriter::new(file);
                    transfer::export(store, &mut out, &mut |_, _| ())?;
                    Ok(out.flush()?)
                })
                .await
            }
            Some("/import") => self.import(request).await,
            _ => return self.routes.call(request).await,
        };
        // It goes to the operator, who may know what is wrong.
        Ok(done.unwrap_or_else(|error| {
            let body = serde_json::json!({"message": error.to_string()}).to_string();
            Response::builder().status(StatusCode::INTERNAL_SERVER_ERROR).body(body)
        }))
    }
}

impl WithBulk {
    /// Answers with what `write` writes into a file that has no name.
    async fn send(
        &self,
        write: impl FnOnce(&Store, &File) -> Result<(), TransferError> + Send + 'static,
    ) -> Result<Response, TransferError> {
        let (store, dir) = (Arc::clone(&self.store), self.dir.clone());
        let file = blocking(move || {
            let mut file = scratch_file(&dir)?;
            write(&store, &file)?;
            file.rewind()?;
            Ok(file)
        })
        .await?;
        let length = file.metadata()?.len();
        Ok(Response::builder()
            .header(header::CONTENT_LENGTH, length)
            .body(Body::from_bytes_stream(stream::iter(Pieces { file }))))
    }

    async fn import(&self, request: Request) -> Result<Response, TransferError> {
        let dry_run = request.uri().query() == Some("dry_run");
        let mut file = scratch_file(&self.dir)?;
        let mut body = request.into_body().into_bytes_stream();
        while let Some(piece) = body.next().await {
            file.write_all(&piece?)?;
        }
        let (store, now) = (Arc::clone(&self.store), self.clock.now());
        let report = blocking(move || transfer::import(&store, &mut file, now, dry_run, &mut |_, _| ())).await?;
        let (added, unchanged, differing, bad) = (report.added, report.unchanged, report.differing, report.bad);
        tracing::info!(target: "audit", event = "import", by = "operator", dry_run, added, unchanged, differing, bad);
        Ok(Response::builder().body(serde_json::json!(report).to_string()))
    }
}

/// Runs what waits for the disk on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TransferError> + Send + 'static,
) -> Result<T, TransferError> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A file piece by piece. It was just written, so reading it waits for no disk.
struct Pieces {
    file: File,
}

impl Iterator for Pieces {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut piece = vec![0; 64 * 1024];
        match self.file.read(&mut piece) {
            Ok(0) => None,
            read => Some(read.map(|length| {
                piece.truncate(length);
                piece
            })),
        }
    }
}
