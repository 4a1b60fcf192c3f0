//! The pages for a browser: the start page and its files from `static/`, Swagger UI, the OpenAPI document. All are in the binary.
//!
//! Guarantees: no page loads anything from another host, and its Content-Security-Policy enforces that. A page is compressed once, at
//! its first request. A second view costs a 304. Concurrent responses share one copy in memory.

pub(in crate::http) mod health;
pub(in crate::http) mod well_known;

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    path::Path,
    sync::{Arc, OnceLock},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use include_dir::{Dir, File, include_dir};
use poem::{
    Endpoint, Request, Response, Route, get,
    http::{StatusCode, header},
};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/static");

/// Swagger UI as `swagger-ui/pack` makes it, with [`DOCUMENT`] as the placeholder of the document. Compression saves a megabyte in the binary.
static SWAGGER_UI: &[u8] = include_bytes!("swagger_ui.html.gz");
const DOCUMENT: &str = "{{document}}";

/// The paths below the base path of the API.
const UI: &str = "/ui";
const SWAGGER_JSON: &str = "/swagger.json";
const OPENAPI_JSON: &str = "/openapi.json";
const OPENAPI_YAML: &str = "/openapi.yaml";
/// Paths that people try. They lead to Swagger UI.
const ALIASES: [&str; 4] = ["/docs", "/api/v1", "/api/v1/", "/api/v1/ui/"];

/// The Content-Security-Policy of every page except Swagger UI, which needs the hashes of its inline parts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A page.
struct Page {
    content_type: &'static str,
    body: Bytes,
    policy: String,
    etag: String,
    gzip: Bytes,
}

impl Page {
    fn new(content_type: &'static str, body: String, policy: String) -> Self {
        let digest = Sha256::digest(body.as_bytes());
        let etag = format!("W/\"{}\"", &BASE64_STANDARD.encode(digest)[..22]);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        let written = encoder.write_all(body.as_bytes()).and_then(|()| encoder.finish());
        let gzip = written.expect("BUG: writing to memory does not fail").into();
        Self { content_type, body: body.into(), policy, etag, gzip }
    }

    fn answer(&self, request: &PageRequest) -> Response {
        let response = Response::builder()
            .content_type(self.content_type)
            .header(header::CACHE_CONTROL, "no-cache") // caches revalidate: a new version has a new tag
            .header(header::CONTENT_SECURITY_POLICY, &self.policy)
            .header(header::REFERRER_POLICY, "no-referrer")
            .header(header::VARY, "Accept-Encoding")
            .header(header::ETAG, &self.etag);
        if request.known_tags.split(',').any(|tag| tag.trim() == self.etag || tag.trim() == "*") {
            return response.status(StatusCode::NOT_MODIFIED).finish();
        }
        if request.takes_gzip {
            return response.header(header::CONTENT_ENCODING, "gzip").body(self.gzip.clone());
        }
        response.body(self.body.clone())
    }
}

/// The part of a request that a page depends on.
struct PageRequest {
    takes_gzip: bool,
    known_tags: String,
}

impl PageRequest {
    fn new(request: &Request) -> Self {
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let gzip = |coding: &str| {
            let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
            let refused = parameters.trim().strip_prefix("q=").and_then(|q| q.trim().parse().ok()) == Some(0.0);
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        };
        Self {
            takes_gzip: text(header::ACCEPT_ENCODING).split(',').any(gzip),
            known_tags: text(header::IF_NONE_MATCH).to_owned(),
        }
    }
}

/// A page that is built at its first request.
struct LazyPage<M> {
    page: OnceLock<Page>,
    make: M,
    turn: Mutex<()>,
}

/// Serves a page that `make` builds at the first request.
fn page(make: impl Fn() -> Page + Send + Sync + 'static) -> impl Endpoint {
    let lazy = Arc::new(LazyPage { page: OnceLock::new(), make, turn: Mutex::new(()) });
    get(poem::endpoint::make(move |request| {
        let (lazy, request) = (Arc::clone(&lazy), PageRequest::new(&request));
        async move {
            if lazy.page.get().is_none() {
                // Compressing Swagger UI takes a tenth of a second, once. It runs on a blocking thread, and concurrent requests
                // share one run.
                let _turn = lazy.turn.lock().await;
                let lazy = Arc::clone(&lazy);
                let work = tokio::task::spawn_blocking(move || {
                    lazy.page.get_or_init(&lazy.make);
                });
                work.await.expect("BUG: making a page does not panic");
            }
            Ok::<_, poem::Error>(lazy.page.get().expect("BUG: it was made").answer(&request))
        }
    }))
}

/// Sends a browser to `path`.
fn redirect(path: String) -> impl Endpoint {
    get(poem::endpoint::make_sync(move |_| {
        Response::builder().status(StatusCode::TEMPORARY_REDIRECT).header(header::LOCATION, &path).finish()
    }))
}

/// Returns the paths that [`Pages::add`] adds.
pub fn paths(base: &str) -> impl Iterator<Item = String> {
    let documents = [UI, SWAGGER_JSON, OPENAPI_JSON, OPENAPI_YAML].into_iter();
    let aliases = ALIASES.into_iter().map(str::to_owned);
    FILES.files().map(file_path).chain(documents.map(move |path| format!("{base}{path}"))).chain(aliases)
}

fn file_path(file: &File<'_>) -> String {
    let name = file.path().to_str().expect("BUG: our own files have plain names");
    if name == "index.html" { "/".to_owned() } else { format!("/{name}") }
}

/// The settings and documents that the pages depend on.
pub struct Pages {
    /// The base path of the API.
    pub base: &'static str,
    /// Whether the start page offers registration.
    pub signup: bool,
    /// The OpenAPI document.
    pub json: String,
    /// The same as YAML.
    pub yaml: String,
}

impl Pages {
    /// Adds every page to `routes`.
    pub fn add(self, mut routes: Route) -> Route {
        let Self { base, signup, json, yaml } = self;
        for file in FILES.files() {
            let (path, kind) = (file_path(file), content_type(file.path()));
            let body = file.contents_utf8().expect("BUG: our own files are text");
            let body = for_signup(body, signup);
            routes = routes.at(path, page(move || Page::new(kind, body.clone(), POLICY.to_owned())));
        }
        let swagger_ui = format!("{base}{UI}");
        for path in ALIASES {
            routes = routes.at(path, redirect(swagger_ui.clone()));
        }
        let document =
            move |content_type, body: String| page(move || Page::new(content_type, body.clone(), POLICY.to_owned()));
        routes
            .at(format!("{base}{SWAGGER_JSON}"), document("application/json", json.clone()))
            .at(format!("{base}{OPENAPI_JSON}"), document("application/json", json.clone()))
            .at(format!("{base}{OPENAPI_YAML}"), document("application/yaml", yaml))
            .at(swagger_ui, page(move || swagger_page(&json)))
    }
}

/// Ends a part of [`for_signup`].
const END: &str = "<!-- signup end -->";

/// Removes the parts of a page that do not apply. A part starts with the comment `<!-- signup open -->` or `<!-- signup closed -->` and
/// ends with [`END`].
fn for_signup(html: &str, signup: bool) -> String {
    let other = if signup { "<!-- signup closed -->" } else { "<!-- signup open -->" };
    let mut kept = String::new();
    let mut rest = html;
    while let Some((before, after)) = rest.split_once(other) {
        kept.push_str(before);
        rest = after.split_once(END).map_or("", |(_, behind)| behind);
    }
    (kept + rest).replace(if signup { "<!-- signup open -->" } else { "<!-- signup closed -->" }, "").replace(END, "")
}

fn content_type(name: &Path) -> &'static str {
    match name.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("txt") => "text/plain; charset=utf-8",
        _ => unreachable!("BUG: a kind of file in static/ that has no content type here"),
    }
}

/// Builds the page of Swagger UI. All its parts are inline, and the policy allows them by their hashes (CSP 3 §8.1).
fn swagger_page(document: &str) -> Page {
    let mut html = String::new();
    GzDecoder::new(SWAGGER_UI).read_to_string(&mut html).expect("BUG: what we packed ourselves can be unpacked");
    // `<` could end the script element, so it is written as a JSON escape.
    let html = html.replacen(DOCUMENT, &document.replace('<', "\\u003c"), 1);
    let policy = format!(
        "default-src 'none'; script-src{}; style-src{}; img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hashes(&html, "script"),
        hashes(&html, "style"),
    );
    Page::new("text/html; charset=utf-8", html, policy)
}

/// Returns the CSP sources for the contents of every inline `element` of `html`.
fn hashes(html: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}"), format!("</{element}>"));
    let mut sources = String::new();
    let mut rest = html;
    while let Some((_, after)) = rest.split_once(open.as_str()) {
        let Some((contents, behind)) = after.split_once('>').and_then(|(_, inside)| inside.split_once(close.as_str()))
        else {
            break;
        };
        let digest = BASE64_STANDARD.encode(Sha256::digest(contents.as_bytes()));
        write!(sources, " 'sha256-{digest}'").expect("BUG: writing to memory does not fail");
        rest = behind;
    }
    sources
}
