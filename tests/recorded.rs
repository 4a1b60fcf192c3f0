//! Compares all output with recordings of an earlier build: the help of each command, the man page, the completions, the OpenAPI document,
//! HTTP responses for each persona with their headers, and the metrics without their values.
//!
//! Users depend on these texts, so that none may change by accident. `RECORD=1 cargo test --test latchkey recorded` records them again
//! after an intended change, and the commit then shows the difference. Values that differ in each run (ids, tokens, times) are masked.

use std::{fmt::Write as _, fs, path::Path};

use regex::Regex;
use reqwest::{Method, header::HeaderMap};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{
    api::{
        harness::{ADMIN, PASSWORD, TestServer, latchkey},
        metrics::scrape,
    },
    cli::{finish, text},
};

const MASKS: [(&str, &str); 10] = [
    (r"\d\d/\d\d/\d\d \d\d:\d\d:\d\d [AP]M UTC", "<time>"),
    (r#""token_expires_in":"[\d:]+""#, r#""token_expires_in":"<duration>""#),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<id>"),
    (r"eyJ[\w.-]+", "<token>"),
    (r"\b[0-9a-f]{32}\b", "<request id>"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "<time>"),
    (r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d (GMT|UTC|\+0000)", "<time>"),
    (r#""time_remaining":"\d[^"]+""#, r#""time_remaining":"<duration>""#),
    (r"127\.0\.0\.1:\d+", "<address>"),
    (r" \(a server runs on [^)]*\)", ""), // other tests run some
];

/// The maximum length of a response body that is recorded as it is. Of a longer one, such as Swagger UI, the digest is recorded.
const SHOWN_BYTES_MAX: usize = 8 * 1024;

fn masked(text: &str) -> String {
    let replace = |text: String, (pattern, mask)| Regex::new(pattern).unwrap().replace_all(&text, mask).into_owned();
    MASKS.into_iter().fold(text.to_owned(), replace)
}

fn compare(name: &str, answers: &str) {
    let masked = masked(answers);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name);
    if std::env::var_os("RECORD").is_some() {
        fs::write(&file, &masked).unwrap();
    }
    let recorded = fs::read_to_string(&file).unwrap();
    for (number, (new, old)) in masked.lines().zip(recorded.lines()).enumerate() {
        assert_eq!(new, old, "tests/recorded/{name}:{}", number + 1);
    }
    assert_eq!(masked.len(), recorded.len(), "tests/recorded/{name}: one is longer than the other");
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().fold("SHA-256 ".to_owned(), |all, byte| all + &format!("{byte:02x}")) + "\n"
}

#[test]
fn the_command_line_answers_as_it_was_recorded() {
    let (dir, spaces) = (TempDir::new().unwrap(), Regex::new(" {2,}").unwrap());
    let mut answers = String::new();
    let commands = [
        "",
        "serve",
        "health",
        "user",
        "user add",
        "user list",
        "user show",
        "user disable",
        "user enable",
        "user promote",
        "user demote",
        "user set-password",
        "user end-sessions",
        "user remove",
        "config",
        "openapi",
        "completions",
        "man",
        "token",
        "token revoke",
        "backup",
        "check",
        "export",
        "import",
        "restore",
        "help",
    ];
    let help = commands.map(|command| format!("{command} --help"));
    let completions = ["bash", "elvish", "fish", "powershell", "zsh"].map(|shell| format!("completions {shell}"));
    let others = [
        "man",
        "openapi",
        "config",
        "config --json",
        "--version",
        "user list",
        "user show nobody@example.com",
        "no-such-command",
        "user add",
        "--listen nowhere",
        "token revoke",
        "check",
        "export -",
        "import no-such-file",
        "restore no-such-file",
        "health",
        "backup - --json",
    ];
    for args in help.into_iter().chain(completions).chain(others.map(str::to_owned)) {
        let mut command = latchkey();
        command.args(args.split_whitespace()).arg("--data-dir").arg(dir.path().join("data"));
        command.env_remove("COLUMNS"); // the width at which help is wrapped
        if args.starts_with("config") {
            command.env("LATCHKEY_HASH_THREADS", "2"); // else the number of cores
        }
        let output = finish(&mut command, "");
        let (code, stdout, stderr) = (output.status.code(), text(&output.stdout), text(&output.stderr));
        let data = dir.path().to_str().unwrap();
        // Completions repeat the text of `--help` and are ten times as long.
        let stdout = if args.starts_with("completions ") { digest(stdout) } else { stdout.to_owned() };
        // The width of the column depends on how long the path of the data directory is.
        let stdout = if args == "config" { spaces.replace_all(&stdout, "  ").into_owned() } else { stdout };
        let output = format!("{stdout}--- stderr\n{stderr}").replace(data, "<dir>");
        writeln!(answers, "=== latchkey {args}\n--- exit code {code:?}\n{output}").unwrap();
    }
    compare("command_line.txt", &answers);
}

fn headers_as_text(headers: &HeaderMap) -> String {
    let mut lines: Vec<String> =
        headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap_or("<bytes>"))).collect();
    lines.sort();
    lines.concat()
}

#[tokio::test]
async fn http_answers_each_persona_as_it_was_recorded() {
    let server = TestServer::with_admin(&["--metrics-listen", "127.0.0.1:0"]);
    let user = server.user("jo@example.com").await;
    let admin = server.admin().await;
    let mut answers = String::new();
    let widget = json!({ "name": "first", "info_url": "https://example.com/a?b=c", "deadline": "2099-01-01" });
    let changed = json!({ "info_url": "https://example.com", "deadline": "2098-12-31T10:00:00Z" });
    let steps = [
        (Method::GET, "//", None),
        (Method::GET, "//healthz", None),
        (Method::GET, "//readyz", None),
        (Method::GET, "//no-such-page", None),
        (Method::GET, "//style.css", None),
        (Method::GET, "//icon.svg", None),
        (Method::GET, "/ui", None),
        (Method::GET, "/swagger.json", None),
        (Method::GET, "/openapi.json", None),
        (Method::GET, "/openapi.yaml", None),
        (Method::POST, "/auth/register", Some(json!({ "email": "no email", "password": "short" }))),
        (Method::POST, "/auth/register", Some(json!({ "email": "JO@example.com", "password": PASSWORD }))),
        (Method::POST, "/auth/login", Some(json!({ "email": "jo@example.com", "password": "wrong password" }))),
        (Method::POST, "/auth/login", Some(json!({ "email": ADMIN, "password": PASSWORD }))),
        (Method::POST, "/auth/login", Some(json!([1, 2]))),
        (Method::GET, "/auth/user", None),
        (Method::PUT, "/auth/user", None),
        (Method::GET, "/users", None),
        (Method::GET, "/users?per_page=1&page=2", None),
        (Method::GET, "/users?email=jo&admin=false", None),
        (Method::GET, "/users?page=none", None),
        (Method::GET, "/users/not-an-id", None),
        (Method::POST, "/users", Some(json!({ "email": "al@example.com", "password": PASSWORD, "admin": true }))),
        (Method::POST, "/widgets", Some(widget.clone())),
        (Method::POST, "/widgets", Some(json!({ "name": "a b", "info_url": "x", "deadline": "yesterday" }))),
        (Method::GET, "/widgets", None),
        (Method::GET, "/widgets/first", None),
        (Method::PUT, "/widgets/first", Some(changed.clone())),
        (Method::DELETE, "/widgets/first", None),
        (Method::DELETE, "/widgets/first", None),
        (Method::POST, "/auth/logout", None),
        (Method::GET, "/auth/user", None),
    ];
    for (persona, token) in [("anonymous", None), ("user", Some(&user)), ("administrator", Some(&admin))] {
        for (method, path, body) in &steps {
            let mut call = server.request(method.clone(), path).header("origin", "https://app.example.com");
            if let Some(token) = token {
                call = call.bearer(token);
            }
            let answer = match body {
                Some(body) => call.json(body).await,
                None => call.send().await,
            };
            let mut headers = answer.headers.clone();
            headers.remove("date");
            if masked(&answer.text) != answer.text {
                headers.remove("content-length"); // it depends on the masked values
            }
            writeln!(
                answers,
                "=== {persona}: {method} {path} {}\n{}\n{}\n{}",
                body.as_ref().map(ToString::to_string).unwrap_or_default(),
                answer.status,
                headers_as_text(&headers),
                if answer.text.len() > SHOWN_BYTES_MAX { digest(&answer.text) } else { answer.text }
            )
            .unwrap();
        }
    }
    compare("http.txt", &answers);

    // The value of a series differs from run to run.
    let names: String = scrape(&server)
        .await
        .lines()
        .map(|line| if line.starts_with('#') { line } else { line.rsplit_once(' ').map_or(line, |(series, _)| series) })
        .fold(String::new(), |all, line| all + line + "\n");
    compare("metrics.txt", &names);
}
