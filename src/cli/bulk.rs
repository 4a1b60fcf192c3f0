//! Whole files from and to the data: over the socket of a running server, or by opening the data itself.
//!
//! Guarantees: both ways end in the same function over the store; what broke off on the way is an error, never a short file.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write},
    pin::Pin,
    task::{Context as Task, Poll},
};

use anyhow::{Context as _, bail};
use hyper::{
    Request,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, runtime::Runtime};

use super::{progress::Bar, runtime};
use crate::{
    auth::transfer::{self, Report},
    clock::{Clock as _, SystemClock},
    config::{self, Config},
    http::bulk::BULK,
    server,
    store::{ADMIN_SOCKET, DataDir, Store, scratch_file},
};

/// The data that a command is about.
pub(super) enum Data {
    Server(Runtime, SendRequest<FileBody>),
    Here(DataDir),
}

impl Data {
    /// Finds the data, which must be there: a typing error in the path must not look like an empty database.
    pub(super) fn find(config: &Config) -> anyhow::Result<Self> {
        if !DataDir::has_database(&config.data_dir) {
            bail!("there is no latchkey database in {}", config::absolute(&config.data_dir).display());
        }
        Self::find_or_make(config)
    }

    /// Finds the data, or makes it where there is none.
    pub(super) fn find_or_make(config: &Config) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let server = runtime.block_on(async {
            let stream = UnixStream::connect(config.data_dir.join(ADMIN_SOCKET)).await.ok()?;
            let (server, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
            tokio::spawn(connection);
            Some(server)
        });
        if let Some(server) = server {
            return Ok(Self::Server(runtime, server));
        }
        Ok(Self::Here(DataDir::take(&config.data_dir)?))
    }

    /// Writes a copy of the database into `file`, which is empty.
    pub(super) fn backup(self, mut file: &File, bar: &mut Bar) -> anyhow::Result<()> {
        match self {
            Self::Server(runtime, server) => runtime.block_on(fetch(server, "/backup", &mut file, bar)),
            Self::Here(dir) => {
                let store = open(&dir)?;
                let copied = store.backup(file.try_clone()?, &mut |done, all| bar.show(done, all));
                copied.context("cannot copy the database")?;
                Ok(store.close()?)
            }
        }
    }

    /// Writes all users to `out`.
    pub(super) fn export(self, out: &mut dyn Write, bar: &mut Bar) -> anyhow::Result<()> {
        match self {
            Self::Server(runtime, server) => runtime.block_on(fetch(server, "/export", out, bar)),
            Self::Here(dir) => {
                let store = open(&dir)?;
                let mut out = io::BufWriter::new(out);
                transfer::export(&store, &mut out, &mut |done, all| bar.show(done, all))?;
                out.flush()?;
                Ok(store.close()?)
            }
        }
    }

    /// Adds the users in `file`.
    pub(super) fn import(self, mut file: File, dry_run: bool, bar: &mut Bar) -> anyhow::Result<Report> {
        match self {
            Self::Server(runtime, server) => runtime.block_on(async {
                let path = if dry_run { "/import?dry_run" } else { "/import" };
                file.rewind()?;
                let left = file.metadata()?.len();
                let mut answer = Vec::new();
                ask(server, "POST", path, FileBody { file: Some(file), left }, &mut answer, bar).await?;
                Ok(serde_json::from_slice(&answer)?)
            }),
            Self::Here(dir) => {
                let store = open(&dir)?;
                let show = &mut |done, all| bar.show(done, all);
                let report = transfer::import(&store, &mut file, SystemClock.now(), dry_run, show)?;
                store.close()?;
                Ok(report)
            }
        }
    }
}

fn open(dir: &DataDir) -> anyhow::Result<Store> {
    Ok(Store::open(dir, server::CACHE_BYTES)?)
}

/// A file without a name, in the data directory, where there is room for what is kept there.
pub(super) fn scratch(config: &Config) -> anyhow::Result<File> {
    let dir = &config.data_dir;
    scratch_file(dir).with_context(|| format!("cannot write to the data directory {}", config::absolute(dir).display()))
}

async fn fetch(
    server: SendRequest<FileBody>,
    path: &str,
    out: &mut (dyn Write + '_),
    bar: &mut Bar,
) -> anyhow::Result<()> {
    ask(server, "GET", path, FileBody { file: None, left: 0 }, out, bar).await
}

async fn ask(
    mut server: SendRequest<FileBody>,
    method: &str,
    path: &str,
    body: FileBody,
    out: &mut (dyn Write + '_),
    bar: &mut Bar,
) -> anyhow::Result<()> {
    let request = Request::builder().method(method).uri(format!("{BULK}{path}")).header("host", ADMIN_SOCKET);
    let response = server.send_request(request.body(body)?).await.context("the server did not answer")?;
    let (good, mut body) = (response.status().is_success(), response.into_body());
    let all = body.size_hint().exact().unwrap_or(0);
    let mut refusal = Vec::new();
    let mut done = 0;
    while let Some(data) = next(&mut body).await? {
        if good {
            out.write_all(&data).context("cannot write")?;
            done += data.len() as u64;
            bar.show(done, all);
        } else {
            refusal.extend_from_slice(&data);
        }
    }
    if !good {
        let json: serde_json::Value = serde_json::from_slice(&refusal).unwrap_or_default();
        bail!("{}", json["message"].as_str().unwrap_or("the server refused"));
    }
    Ok(())
}

async fn next(body: &mut Incoming) -> anyhow::Result<Option<Bytes>> {
    loop {
        match std::future::poll_fn(|task| Pin::new(&mut *body).poll_frame(task)).await {
            None => return Ok(None),
            Some(frame) => {
                if let Ok(data) = frame.context("the server broke off")?.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A file as the body of a request, or none.
pub(super) struct FileBody {
    file: Option<File>,
    left: u64,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let mut piece = vec![0; 64 * 1024];
        let read = self.file.as_mut().map_or(Ok(0), |file| file.read(&mut piece));
        Poll::Ready(match read {
            Ok(0) => None,
            read => Some(read.map(|length| {
                piece.truncate(length);
                self.left = self.left.saturating_sub(length as u64);
                Frame::data(piece.into())
            })),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
