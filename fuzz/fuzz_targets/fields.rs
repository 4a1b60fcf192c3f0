//! Bodies: a login of any content type and bytes is answered with JSON of our shape, and never with 5xx.
#![no_main]

use std::sync::{Arc, LazyLock};

use clap::Parser;
use latchkey::{clock::SystemClock, config::Config, http::Routes, server::{ApplicationState, SigningKeys}};
use libfuzzer_sys::fuzz_target;
use poem::{Endpoint, Request, http::Method};
use tokio::runtime::Runtime;

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    config: Config,
}

struct Served {
    routes: Routes,
    runtime: Runtime,
    _state: ApplicationState,
    _dir: tempfile::TempDir,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let args =
        ["latchkey", "--data-dir", data, "--scrypt", "ln=1,r=8,p=1", "--login-limit", "off", "--failure-limit", "off"];
    let config = Settings::parse_from(args).config;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let state = runtime.block_on(ApplicationState::open(&config, Arc::new(SystemClock), SigningKeys::Needed)).unwrap();
    Served { routes: state.routes(&config), runtime, _state: state, _dir: dir }
});

fuzz_target!(|input: &[u8]| {
    // The first byte says which content type; with the last of them it is the first line.
    let Some((kind, rest)) = input.split_first() else { return };
    let (content_type, body) = match kind % 3 {
        0 => ("application/x-www-form-urlencoded".as_bytes(), rest),
        1 => ("application/json".as_bytes(), rest),
        _ => {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            (&rest[..end], rest.get(end + 1..).unwrap_or_default())
        }
    };
    let Ok(content_type) = poem::http::HeaderValue::from_bytes(content_type) else { return };
    let request = Request::builder().method(Method::POST).uri_str("/api/v1/auth/login");
    let request = request.header("content-type", content_type).body(body.to_vec());
    let Served { routes, runtime, .. } = &*SERVED;
    let (status, text) = runtime.block_on(async {
        let answer = routes.call(request).await.unwrap();
        (answer.status(), answer.into_body().into_string().await.unwrap())
    });
    // Nobody has an account.
    assert!(status.is_client_error(), "{status} {text}");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(json["status"] == "fail" && json["message"].as_str().is_some_and(|message| !message.is_empty()), "{text}");
    let known = |name: &String| ["status", "message", "errors"].contains(&name.as_str());
    assert!(json.as_object().unwrap().keys().all(known), "{text}");
});
