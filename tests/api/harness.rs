//! Starts a server for each test, and creates the personas. Every response is checked against the rules of `house_rules`.
//!
//! [`TestServer::start`] runs the real executable. [`TestServer::at`] runs the same server in this process with a clock that the test sets.
//! Both listen on a free port of the loopback interface and have their own data directory.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use clap::Parser as _;
use latchkey::{auth::throttle::Limit, clock::Clock, config::Config, server::Server};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

pub(crate) use super::bearer::claims;
use super::log::Log;

/// A cheap cost of hashing, so that tests of something else do not wait for it.
const CHEAP: &str = "ln=1,r=8,p=1";
pub(crate) const PASSWORD: &str = "correct horse battery";
pub(crate) const ADMIN: &str = "admin@example.com";
/// Turns the limits on guessing off, because most tests send many logins.
pub(crate) const LIMITS: [&str; 3] = ["LATCHKEY_LOGIN_LIMIT", "LATCHKEY_REGISTER_LIMIT", "LATCHKEY_FAILURE_LIMIT"];
/// The maximum time until an expected event before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Returns the command `latchkey` with cheap hashing and without limits on guessing. `LATCHKEY_` variables of the environment are removed.
pub(crate) fn latchkey() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
    cheap(&mut command);
    command
}

/// Like [`latchkey`], but no signal is ignored, as it would be if a shell in the background or `nohup` started the tests. The exception is
/// SIGXFSZ: a write beyond a limit on file size must be an error and must not kill the process.
pub(crate) fn latchkey_with_signals() -> Command {
    let mut command = Command::new("env");
    command.args(["--default-signal", "--ignore-signal=XFSZ", env!("CARGO_BIN_EXE_latchkey")]);
    cheap(&mut command);
    command
}

/// Waits for a program to end, for a bounded time.
pub(crate) fn ended(mut child: Child) -> ExitStatus {
    let pid = child.id();
    let (to, from) = mpsc::channel();
    std::thread::spawn(move || to.send(child.wait()));
    let Ok(ended) = from.recv_timeout(PATIENCE) else {
        send_signal(pid, "KILL");
        panic!("it does not end");
    };
    ended.unwrap()
}

pub(crate) fn send_signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

fn cheap(command: &mut Command) {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LATCHKEY_")) {
        command.env_remove(name);
    }
    command.env("LATCHKEY_SCRYPT", CHEAP);
    command.envs(LIMITS.map(|name| (name, "off")));
}

/// Adds a user with [`PASSWORD`] through the command line.
pub(crate) fn add_user(data_dir: &Path, email: &str, admin: bool) {
    let mut command = latchkey();
    command.args(["user", "add", email, "--password-stdin", "--init"]).arg("--data-dir").arg(data_dir);
    let mut child =
        command.args(admin.then_some("--admin")).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

enum Running {
    Process(Child, Log),
    Task(JoinHandle<anyhow::Result<()>>, oneshot::Sender<()>),
    Stopped,
}

pub(crate) struct TestServer {
    running: Running,
    args: Vec<String>,
    pub(crate) base: String,
    /// The address of the metrics of a server in this process.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) dir: Arc<TempDir>,
    client: reqwest::Client,
}

impl TestServer {
    /// Starts the real executable with cheap hashing, no limits on guessing, and otherwise the default settings.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts the real executable with these additional settings.
    pub(crate) fn with(args: &[&str]) -> Self {
        Self::on(Arc::new(TempDir::new().unwrap()), args)
    }

    /// Like [`TestServer::with`], with an administrator in the database.
    pub(crate) fn with_admin(args: &[&str]) -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        add_user(&dir.path().join("data"), ADMIN, true);
        Self::on(dir, args)
    }

    /// Starts the real executable on the data in `dir`.
    pub(crate) fn on(dir: Arc<TempDir>, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let mut server =
            Self { running: Running::Stopped, args, base: String::new(), metrics: None, dir, client: client() };
        server.launch();
        server
    }

    /// Starts the same server in this process with the time of `clock`. With `--with-admin` there is an administrator.
    pub(crate) async fn at(clock: Arc<impl Clock>, args: &[&str]) -> Self {
        let dir = Arc::new(TempDir::new().unwrap());
        if args.contains(&"--with-admin") {
            add_user(&dir.path().join("data"), ADMIN, true);
        }
        let args: Vec<_> = args.iter().copied().filter(|arg| *arg != "--with-admin").collect();
        Self::at_on(dir, clock, &args).await
    }

    /// Like [`TestServer::at`], on the data in `dir`.
    pub(crate) async fn at_on(dir: Arc<TempDir>, clock: Arc<impl Clock>, args: &[&str]) -> Self {
        #[derive(clap::Parser)]
        struct Settings {
            #[command(flatten)]
            config: Config,
        }
        let data = dir.path().join("data");
        let all = ["latchkey", "--scrypt", CHEAP, "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
        let mut config = Settings::parse_from(all.iter().chain(args)).config;
        let guessing = &mut config.guessing;
        (guessing.login_limit, guessing.register_limit, guessing.failure_limit) = (Limit::Off, Limit::Off, Limit::Off);
        let server = Server::bind(config, clock as Arc<dyn Clock>).await.unwrap();
        let base = format!("http://{}", server.address().unwrap());
        let metrics = server.metrics_address();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async move {
            let _ = stopped.await;
        }));
        Self { running: Running::Task(task, stop), args: Vec::new(), base, metrics, dir, client: client() }
    }

    /// Stops the server in this process gracefully.
    pub(crate) async fn end(mut self) {
        if let Running::Task(task, stop) = std::mem::replace(&mut self.running, Running::Stopped) {
            let _ = stop.send(());
            task.await.unwrap().unwrap();
        }
    }

    fn launch(&mut self) {
        let mut command = latchkey_with_signals();
        if !self.args.iter().any(|arg| arg == "--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.arg("--data-dir").arg(self.dir.path().join("data"));
        command.args(&self.args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Log::follow(child.stderr.take().unwrap());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        self.base = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "the server did not start:\n{}", log.text());
            if let Some(url) = line.trim().strip_prefix("Start page  ") {
                break url.trim_end_matches('/').to_owned();
            }
        };
        std::thread::spawn(move || stdout.read_to_string(&mut String::new()));
        self.running = Running::Process(child, log);
    }

    pub(crate) fn log(&self) -> &Log {
        match &self.running {
            Running::Process(_, log) => log,
            _ => panic!("only the executable has a log"),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.running {
            Running::Process(child, _) => child.id(),
            _ => panic!("only the executable has a process"),
        }
    }

    /// Sends a signal to the executable.
    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.pid(), name);
    }

    /// Limits the size of the files of the executable, which to it is a full disk.
    pub(crate) fn limit_files(&self, bytes: &str) {
        let limit = format!("--fsize={bytes}:");
        let limited = Command::new("prlimit").args([&limit, "--pid", &self.pid().to_string()]).status().unwrap();
        assert!(limited.success());
    }

    /// Waits until the executable has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        match std::mem::replace(&mut self.running, Running::Stopped) {
            Running::Process(child, _) => ended(child),
            _ => panic!("only the executable can be waited for"),
        }
    }

    /// Stops the executable gracefully.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        assert!(self.wait().success());
    }

    /// Starts the executable again on the same data.
    pub(crate) fn start_again(&mut self) {
        self.launch();
    }

    /// Creates a request to an API path such as `/auth/user`, or to any path that begins with `//`.
    pub(crate) fn request(&self, method: Method, path: &str) -> Call {
        let url = match path.strip_prefix("//") {
            Some(rest) => format!("{}/{rest}", self.base),
            None => format!("{}/api/v1{path}", self.base),
        };
        Call { request: self.client.request(method, url), may_fail: false }
    }

    pub(crate) fn get(&self, path: &str) -> Call {
        self.request(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Call {
        self.request(Method::POST, path)
    }

    /// Registers `email` with [`PASSWORD`] and returns the token.
    pub(crate) async fn user(&self, email: &str) -> String {
        let answer = self.post("/auth/register").form(&[("email", email), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.token()
    }

    /// Logs `email` in with [`PASSWORD`] and returns the token.
    pub(crate) async fn log_in(&self, email: &str) -> String {
        let answer = self.post("/auth/login").form(&[("email", email), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.token()
    }

    /// Returns a token of the user `email`. Registers the user if necessary.
    pub(crate) async fn anybody(&self, email: &str) -> String {
        let form = [("email", email), ("password", PASSWORD)];
        let answer = self.post("/auth/register").form(&form).await;
        if answer.status == 201 { answer.token() } else { self.log_in(email).await }
    }

    /// Returns a token of the administrator of [`TestServer::with_admin`].
    pub(crate) async fn admin(&self) -> String {
        self.log_in(ADMIN).await
    }

    /// Returns the status of `GET /auth/user` with this token.
    pub(crate) async fn status_of(&self, token: &str) -> StatusCode {
        self.get("/auth/user").bearer(token).send().await.status
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.running, Running::Stopped) {
            Running::Process(mut child, _) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Running::Task(task, stop) => {
                let _ = stop.send(());
                task.abort();
            }
            Running::Stopped => {}
        }
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(PATIENCE).no_proxy().build().unwrap()
}

/// A request that is being built.
pub(crate) struct Call {
    request: reqwest::RequestBuilder,
    may_fail: bool,
}

impl Call {
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// Like [`Call::header`], for a value that may not be text.
    pub(crate) fn header_value(mut self, name: &str, value: reqwest::header::HeaderValue) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<reqwest::Body>) -> Self {
        self.request = self.request.header("content-type", content_type).body(body);
        self
    }

    /// Allows a 5xx response, for the few tests that expect one.
    pub(crate) fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    pub(crate) async fn form(mut self, fields: &[(&str, &str)]) -> Answer {
        self.request = self.request.form(fields);
        self.send().await
    }

    pub(crate) async fn json(mut self, body: &Value) -> Answer {
        self.request = self.request.json(body);
        self.send().await
    }

    pub(crate) async fn send(self) -> Answer {
        let response = self.request.send().await.unwrap();
        let (status, headers, path) = (response.status(), response.headers().clone(), response.url().path().to_owned());
        let answer = Answer { status, headers, text: response.text().await.unwrap() };
        answer.keeps_the_house_rules(&path, self.may_fail);
        answer
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn token(&self) -> String {
        self.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().unwrap().to_owned()
    }

    /// Returns the error of a field, or an empty text if it has none.
    pub(crate) fn error(&self, field: &str) -> String {
        self.json()["errors"][field].as_str().unwrap_or_default().to_owned()
    }

    /// Returns the value of a header that the response must have once.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().unwrap_or_else(|| panic!("no {name} in {:?}", self.headers));
        assert!(values.next().is_none(), "{name} twice");
        value.to_str().unwrap()
    }
}
