//! P22: introspection, which services ask for at each request, compared with `GET /auth/user`.

use std::time::Duration;

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::{
    bench::Bench,
    data::{self, Set, Signer},
    process::{Process, Server, latchkey},
    read::{CONNECTIONS, READERS, rate},
    row::{Bar, Row},
    stats::{Rounds, number},
    wrk::{self, TokenFiles, Tokens},
};

const INTROSPECT: &str = "/api/v1/token/introspect";
const SECONDS: u64 = 4;

pub(crate) fn p22(bench: &Bench) -> anyhow::Result<Row> {
    let copy = data::copy(&bench.work, Set::Thousand)?;
    let mut add = latchkey(&bench.program, copy.path(), "127.0.0.1:0", &[]);
    add.args(["service", "add", "bench", "--json"]);
    let service = Process::spawn(add)?.output(Duration::from_secs(30))?;
    let service: serde_json::Value = serde_json::from_str(&service)?;
    let text = |name: &str| service[name].as_str().with_context(|| format!("a service has no {name}"));
    let credentials = BASE64_STANDARD.encode(format!("{}:{}", text("id")?, text("secret")?));
    let server = Server::latchkey(&bench.program, copy.path(), &[])?;
    let tokens = Signer::new().among(Set::Thousand, READERS);
    let of_users = Tokens::Again(TokenFiles::write(&bench.work, &tokens)?);
    let of_service = Tokens::Form(TokenFiles::write(&bench.work, &tokens)?, format!("Basic {credentials}"));
    let introspect = || Ok(wrk::run(server.address, ("POST", INTROSPECT), CONNECTIONS, SECONDS, &of_service)?.rate);
    rate(&server, &of_users)?;
    introspect()?;
    let rounds = Rounds::alternate(|| rate(&server, &of_users), introspect)?;
    Ok(Row {
        name: "P22",
        what: "`POST /token/introspect`, 64 connections, 20,000 tokens in turn",
        against: "`GET /auth/user`",
        target: "≥ 0.9".to_owned(),
        figure: format!("{}: {}/s of {}/s", rounds.ratio_text(), number(rounds.subject()), number(rounds.baseline())),
        met: rounds.ratio() >= 0.9,
        unit: "requests/s",
        bars: vec![Bar::ours("introspection", rounds.subject()), Bar::baseline("GET /auth/user", rounds.baseline())],
    })
}
