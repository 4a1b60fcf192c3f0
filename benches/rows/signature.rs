//! P20 and P21: tokens of ES256, whose signatures take long to verify, and strangers who send tokens that nobody signed.

use std::fs;

use anyhow::Context as _;

use crate::{
    bench::Bench,
    data::{Copy, Set, Signer},
    process::{Process, Server, latchkey},
    read::{READERS, rate},
    row::{Bar, Row},
    stats::{Rounds, number},
    wrk::{self, TokenFiles, Tokens},
};

/// How many tokens strangers send per second: a million a minute.
const STRANGERS_PER_S: f64 = 1_000_000.0 / 60.0;
/// How long strangers send, in seconds: all rounds of P21.
const STRANGERS_S: u64 = 60;

/// Starts a server that also verifies tokens of the returned signer, of ES256.
fn serve(bench: &Bench) -> anyhow::Result<(Copy, Server, Signer)> {
    let copy = crate::data::copy(&bench.work, Set::Thousand)?;
    let (signer, pem) = Signer::es256();
    let file = copy.path().join("es256.pem");
    fs::write(&file, pem)?;
    let mut add = latchkey(&bench.program, copy.path(), "127.0.0.1:0", &[]);
    add.args(["key", "add"]).arg(&file);
    Process::spawn(add)?.output(std::time::Duration::from_secs(30)).context("the key was not added")?;
    let server = Server::latchkey(&bench.program, copy.path(), &[])?;
    Ok((copy, server, signer))
}

fn tokens(bench: &Bench, signer: &Signer) -> anyhow::Result<Tokens> {
    Ok(Tokens::Again(TokenFiles::write(&bench.work, &signer.among(Set::Thousand, READERS))?))
}

pub(crate) fn p20(bench: &Bench) -> anyhow::Result<Row> {
    let (_copy, server, signer) = serve(bench)?;
    let (elliptic, symmetric) = (tokens(bench, &signer)?, tokens(bench, &Signer::new())?);
    rate(&server, &elliptic)?;
    rate(&server, &symmetric)?;
    let rounds = Rounds::alternate(|| rate(&server, &symmetric), || rate(&server, &elliptic))?;
    Ok(Row {
        name: "P20",
        what: "`GET /auth/user`, 20,000 tokens of ES256 in turn",
        against: "the same with HS256",
        target: "≥ 0.95".to_owned(),
        figure: format!("{}: {}/s of {}/s", rounds.ratio_text(), number(rounds.subject()), number(rounds.baseline())),
        met: rounds.ratio() >= 0.95,
        unit: "requests/s",
        bars: vec![Bar::ours("ES256", rounds.subject()), Bar::baseline("HS256", rounds.baseline())],
    })
}

/// Returns tokens that a stranger makes up: with the header of `token`, and otherwise as if they had the key.
fn forged(token: &str) -> anyhow::Result<Vec<String>> {
    let (header, _) = token.split_once('.').context("a token has dots")?;
    let (stranger, _) = Signer::es256();
    let other = |theirs: &String| theirs.split_once('.').map(|(_, rest)| format!("{header}.{rest}"));
    stranger.among(Set::Thousand, READERS * 5).iter().map(other).collect::<Option<_>>().context("a token has dots")
}

pub(crate) fn p21(bench: &Bench) -> anyhow::Result<Row> {
    let (_copy, server, signer) = serve(bench)?;
    let (_other_copy, other_server) = bench.serve(Set::Thousand, &[])?;
    let (elliptic, symmetric) = (tokens(bench, &signer)?, tokens(bench, &Signer::new())?);
    let write = |signer: &Signer| TokenFiles::write(&bench.work, &forged(&signer.among(Set::Thousand, 1)[0])?);
    let (of_strangers, of_other_strangers) = (write(&signer)?, write(&Signer::new())?);
    let alone = rate(&server, &elliptic)?;
    let before = server.process.memory_bytes()?;
    // Each server in turn, with its strangers alone, because both share the processors.
    let under = |server: &Server, files: &TokenFiles, tokens: &Tokens| {
        let strangers = wrk::strangers(server.address, files, STRANGERS_PER_S, STRANGERS_S)?;
        let rate = rate(server, tokens)?;
        drop(strangers);
        anyhow::Ok(rate)
    };
    let rounds = Rounds::alternate(
        || under(&other_server, &of_other_strangers, &symmetric),
        || under(&server, &of_strangers, &elliptic),
    )?;
    let after = rate(&server, &elliptic)?;
    let memory = server.process.memory_bytes()? / before;
    Ok(Row {
        name: "P21",
        what: "the same while strangers send a million forged tokens of ES256 a minute; after them; memory after and before them",
        against: "HS256 while strangers send as many",
        target: "≥ 0.95; ≤ 1.05".to_owned(),
        figure: format!(
            "{}: {}/s of {}/s; {}/s of {}/s before; {memory:.2}",
            rounds.ratio_text(),
            number(rounds.subject()),
            number(rounds.baseline()),
            number(after),
            number(alone),
        ),
        met: rounds.ratio() >= 0.95 && memory <= 1.05,
        ..Row::default()
    })
}
