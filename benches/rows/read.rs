//! P1 and P2: a protected request compared with bare hyper, and with a million users compared with a thousand.

use anyhow::ensure;

use crate::{
    bare,
    bench::Bench,
    client::{self, Answer},
    data::{Set, Signer},
    process::Server,
    row::{Bar, Row},
    stats::{Rounds, number},
    wrk::{self, TokenFiles, Tokens, USER},
};

pub(crate) const CONNECTIONS: usize = 64;
const SECONDS: u64 = 4;
/// The number of users whose tokens alternate in measurements over all users. Their pages do not fit into the cache of the database.
pub(crate) const READERS: usize = 20_000;

/// Returns how many protected requests the server answers per second.
pub(crate) fn rate(server: &Server, tokens: &Tokens) -> anyhow::Result<f64> {
    Ok(wrk::run(server.address, ("GET", USER), CONNECTIONS, SECONDS, tokens)?.rate)
}

/// Returns tokens of users who are spread over the whole `set`.
pub(crate) fn readers(bench: &Bench, set: Set) -> anyhow::Result<Tokens> {
    Ok(Tokens::Again(TokenFiles::write(&bench.work, &Signer::new().among(set, READERS))?))
}

pub(crate) fn p1(bench: &Bench) -> anyhow::Result<Row> {
    let (_copy, server) = bench.serve(Set::Thousand, &[])?;
    let token = Signer::new().among(Set::Thousand, 1).remove(0);
    let request = client::with_token("GET", USER, &token);
    let answer = client::once(server.address, &request)?.ok()?;
    let bare = bare::start(&answer, &bench.work)?;
    let copied = client::once(bare.address, &request)?;
    ensure!(pattern(&answer) == pattern(&copied), "the bare server answers otherwise");
    let tokens = Tokens::One(token);
    rate(&bare, &tokens)?;
    rate(&server, &tokens)?;
    let rounds = Rounds::alternate(|| rate(&bare, &tokens), || rate(&server, &tokens))?;
    Ok(Row {
        name: "P1",
        what: "`GET /auth/user`, 64 connections",
        against: "bare hyper answering the same bytes",
        target: "≥ 0.75".to_owned(),
        figure: format!("{}: {}/s of {}/s", rounds.ratio_text(), number(rounds.subject()), number(rounds.baseline())),
        met: rounds.ratio() >= 0.75,
        unit: "requests/s",
        bars: vec![Bar::ours("latchkey", rounds.subject()), Bar::baseline("bare hyper", rounds.baseline())],
    })
}

/// Returns the parts of a response that must be the same on both servers: everything except the `Date` header.
fn pattern(answer: &Answer) -> (u16, usize, Vec<&(String, String)>, &[u8]) {
    let mut headers: Vec<_> = answer.headers.iter().filter(|(name, _)| name != "date").collect();
    headers.sort();
    (answer.status, answer.bytes, headers, &answer.body)
}

/// The rates among the users of `set` against those among a thousand.
pub(crate) fn against_a_thousand(bench: &Bench, set: Set) -> anyhow::Result<Rounds> {
    let (_thousand, few) = bench.serve(Set::Thousand, &[])?;
    let (_copy, many) = bench.serve(set, &[])?;
    let (few_tokens, many_tokens) = (readers(bench, Set::Thousand)?, readers(bench, set)?);
    rate(&few, &few_tokens)?;
    rate(&many, &many_tokens)?;
    Rounds::alternate(|| rate(&few, &few_tokens), || rate(&many, &many_tokens))
}

pub(crate) fn p2(bench: &Bench) -> anyhow::Result<Row> {
    let rounds = against_a_thousand(bench, Set::Million)?;
    Ok(Row {
        name: "P2",
        what: "the same with 1,000,000 users and 1,000,000 live blacklist entries",
        against: "itself with 1,000",
        target: "≥ 0.95".to_owned(),
        figure: format!("{}: {}/s of {}/s", rounds.ratio_text(), number(rounds.subject()), number(rounds.baseline())),
        met: rounds.ratio() >= 0.95,
        unit: "requests/s",
        bars: vec![Bar::ours("among 1,000,000", rounds.subject()), Bar::baseline("among 1,000", rounds.baseline())],
    })
}
