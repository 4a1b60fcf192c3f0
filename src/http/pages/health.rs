//! Health checks and metrics: whether the process answers, and whether the database works.
//!
//! Guarantees: responses reveal nothing internal. `/readyz` causes at most one write per second however often it is requested, and never
//! takes much longer than [`PROBE_MAX`]. Deliberately absent: authentication, so that a load balancer can ask, and anything that would
//! need it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use poem::{Endpoint, EndpointExt as _, IntoResponse as _, Response, Route, endpoint, get};
use poem_openapi::Object;
use serde::Serialize;
use tokio::sync::Mutex;
use tracing::Instrument as _;

use crate::{
    http::middleware::{error::ApiError, json::Json},
    metrics::METRICS,
    store::Store,
};

/// The paths of the two health checks.
const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";
/// The text format of Prometheus.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// How long the result of a check is reused.
const FOUND_FOR: Duration = Duration::from_secs(1);
/// The maximum duration of a check.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// All is well.
#[derive(Object, Serialize)]
#[oai(rename = "Fine")]
struct HealthBody {
    /// Always `ok`.
    status: String,
}

/// Returns the paths that [`add`] adds.
pub fn paths() -> impl Iterator<Item = String> {
    [HEALTHZ, READYZ].into_iter().map(str::to_owned)
}

/// Adds `/healthz` and `/readyz`.
pub fn add(routes: Route, store: Arc<Store>) -> Route {
    let readiness = Arc::new(Readiness { store, found: Mutex::new(None) });
    let readyz = move |_| {
        let readiness = Arc::clone(&readiness);
        async move { if Readiness::of(readiness).await { Ok(fine()) } else { Err(ApiError::NotReady.into()) } }
    };
    routes.at(HEALTHZ, answering(|_| async { Ok(fine()) })).at(READYZ, answering(readyz))
}

/// Returns the endpoint with `GET /metrics` only, for a listener of its own that clients need not be able to reach.
#[must_use]
pub fn metrics(store: Arc<Store>) -> impl Endpoint<Output = Response> {
    let answer = move |_| {
        let sizes = store.sizes();
        async move {
            let sizes = sizes.inspect_err(|error| tracing::error!(%error, "metrics without the sizes of the database"));
            let text = METRICS.text(sizes.ok().as_ref());
            Ok(Response::builder().content_type(METRICS_TYPE).body(text))
        }
    };
    Route::new()
        .at("/metrics", answering(answer))
        .catch_all_error(async |error| ApiError::from_poem(error, || "GET, HEAD".to_owned()).into_response())
        .map_to_response()
}

fn answering<F>(answer: impl Fn(poem::Request) -> F + Send + Sync + 'static) -> impl Endpoint
where
    F: Future<Output = poem::Result<Response>> + Send + 'static,
{
    get(endpoint::make(answer)).boxed()
}

fn fine() -> Response {
    Json(HealthBody { status: "ok".to_owned() }).into_response()
}

/// The last result of the database check.
struct Readiness {
    store: Arc<Store>,
    found: Mutex<Option<(Instant, bool)>>,
}

impl Readiness {
    /// Whether the database works. Concurrent callers share one check.
    async fn of(this: Arc<Self>) -> bool {
        // The check is its own task, so that it also completes when the client disconnects.
        let check = async move {
            let mut found = this.found.lock().await;
            match *found {
                Some((at, ready)) if at.elapsed() < FOUND_FOR => ready,
                _ => {
                    let ready = this.is_ready().await;
                    *found = Some((Instant::now(), ready));
                    ready
                }
            }
        };
        tokio::spawn(check.in_current_span()).await.unwrap_or(false)
    }

    async fn is_ready(&self) -> bool {
        match tokio::time::timeout(PROBE_MAX, self.store.probe_write()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::error!(%error, "not ready: the database does not take a write"),
            Err(_) => tracing::error!(seconds = PROBE_MAX.as_secs(), "not ready: a write takes too long"),
        }
        false
    }
}
