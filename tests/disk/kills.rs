//! The process is killed under a mixed load: all acknowledged writes are there, and logged-out tokens stay invalid.

use std::{
    cell::Cell,
    collections::BTreeMap,
    process::Stdio,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::images::Dice;
use crate::{
    api::{
        harness::{ADMIN, PASSWORD, TestServer, add_user, latchkey, send_signal},
        revocations::Follower,
        services,
    },
    backup::done,
    cli::run,
};

const CLIENTS: usize = 4;
/// The server is killed after fewer responses than this, so that the number of acknowledged requests does not depend on the machine's
/// speed.
const ANSWERS_MAX: usize = 120;
/// The maximum delay in microseconds between the last response and the kill.
const DELAY_US: usize = 3_000;
const OTHER_PASSWORD: &str = "another horse battery";

/// The possible states of an account: two, if a change was requested and not acknowledged.
struct Account {
    passwords: Vec<&'static str>,
    admin: Vec<bool>,
}

/// The state that the server acknowledged.
#[derive(Default)]
struct Ledger {
    accounts: BTreeMap<String, Account>,
    dead: Vec<String>,
    /// The names of widgets, and whether they exist.
    widgets: BTreeMap<String, bool>,
}

impl Ledger {
    fn account(&mut self, email: &str) -> &mut Account {
        self.accounts.get_mut(email).unwrap()
    }

    fn add(&mut self, more: Self) {
        self.accounts.extend(more.accounts);
        self.dead.extend(more.dead);
        self.widgets.extend(more.widgets);
    }

    /// `follower` is a service that has followed the feed so far.
    async fn holds(&self, server: &TestServer, follower: &mut Follower) {
        for (email, account) in &self.accounts {
            let mut good = Vec::new();
            for password in [PASSWORD, OTHER_PASSWORD] {
                let login = server.post("/auth/login").form(&[("email", email), ("password", password)]).await;
                if login.status == 200 {
                    let answer = server.get("/auth/user").bearer(&login.token()).send().await;
                    assert!(account.admin.contains(&answer.json()["admin"].as_bool().unwrap()), "{email}");
                    good.push(password);
                }
            }
            assert!(good.len() == 1 && account.passwords.contains(&good[0]), "{email}: {good:?}");
        }
        for token in &self.dead {
            assert_eq!(server.status_of(token).await, 401, "a dead token lives");
        }
        follower.follow(server).await;
        assert!(self.dead.iter().all(|token| follower.refuses(token)), "a dead token is not in the feed");
        let admin = server.admin().await;
        for (name, there) in &self.widgets {
            let status = server.get(&format!("/widgets/{name}")).bearer(&admin).send().await.status;
            assert_eq!(status, if *there { 200 } else { 404 }, "{name}");
        }
    }
}

/// Sends requests until the server is killed.
struct Client<'a> {
    http: reqwest::Client,
    base: &'a str,
    name: String,
    admin: &'a str,
    ledger: Ledger,
    /// The number of responses before the server is killed, shared by all clients.
    answers_left: &'a Cell<usize>,
    killer: &'a mpsc::Sender<()>,
}

impl Client<'_> {
    /// Sends a request. Returns `None` if there is no response because the server was killed.
    async fn ask(&self, method: Method, path: &str, token: &str, body: Value) -> Option<Value> {
        let request = self.http.request(method, format!("{}/api/v1{path}", self.base));
        let answer = request.header("authorization", format!("Bearer {token}")).json(&body).send().await.ok()?;
        let (status, text) = (answer.status(), answer.text().await.ok()?);
        assert!(status.is_success(), "{path}: {status} {text}");
        if self.answers_left.replace(self.answers_left.get().saturating_sub(1)) == 1 {
            self.killer.send(()).unwrap();
        }
        Some(if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
    }

    async fn token(&self, path: &str, token: &str, body: Value) -> Option<String> {
        Some(self.ask(Method::POST, path, token, body).await?["access_token"].as_str().unwrap().to_owned())
    }

    async fn promote(&mut self, email: &str, id: &str, admin: bool) -> Option<()> {
        self.ledger.account(email).admin.push(admin);
        self.ask(Method::PATCH, &format!("/users/{id}"), self.admin, json!({ "admin": admin })).await?;
        self.ledger.account(email).admin = vec![admin];
        Some(())
    }

    async fn life_of_a_user(&mut self, n: usize) -> Option<()> {
        let (email, widget) = (format!("{}-{n}@example.com", self.name), format!("{}-{n}", self.name));
        let first = self.token("/auth/register", "", json!({ "email": email, "password": PASSWORD })).await?;
        let account = Account { passwords: vec![PASSWORD], admin: vec![false] };
        self.ledger.accounts.insert(email.clone(), account);
        let second = self.token("/auth/login", "", json!({ "email": email, "password": PASSWORD })).await?;
        let id = self.ask(Method::GET, "/auth/user", &second, Value::Null).await?["public_id"].clone();
        let id = id.as_str().unwrap();
        self.promote(&email, id, true).await?;
        let body = json!({ "name": widget, "info_url": "https://example.com", "deadline": "2099-01-01" });
        self.ask(Method::POST, "/widgets", &second, body).await?;
        self.ledger.widgets.insert(widget.clone(), true);
        self.ask(Method::POST, "/auth/logout", &second, Value::Null).await?;
        self.ledger.dead.push(second);
        self.ledger.account(&email).passwords.push(OTHER_PASSWORD);
        let body = json!({ "current_password": PASSWORD, "new_password": OTHER_PASSWORD });
        let third = self.token("/auth/password", &first, body).await?;
        self.ledger.account(&email).passwords.remove(0);
        self.ledger.dead.push(first);
        self.promote(&email, id, false).await?;
        if n.is_multiple_of(2) {
            self.ledger.widgets.remove(&widget);
            self.ask(Method::DELETE, &format!("/widgets/{widget}"), self.admin, Value::Null).await?;
            self.ledger.widgets.insert(widget, false);
        }
        self.ask(Method::POST, "/auth/logout-all", &third, Value::Null).await?;
        self.ledger.dead.push(third);
        Some(())
    }
}

/// Kills the process with this id, `delay` after a message. If the sender is dropped without a message, the process is not killed.
fn kill_when_told(pid: u32, delay: Duration) -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
    let (tell, told) = mpsc::channel();
    let killer = thread::spawn(move || {
        if told.recv().is_ok() {
            let _ = told.recv_timeout(delay);
            send_signal(pid, "KILL");
        }
    });
    (tell, killer)
}

/// Runs the clients and kills the server after this many responses. Returns the state that it acknowledged.
async fn live_and_die(server: &mut TestServer, life: usize, answers: usize, delay: Duration) -> Ledger {
    let admin = server.admin().await;
    let (tell, killer) = kill_when_told(server.pid(), delay);
    let answers_left = Cell::new(answers);
    let clients = (0..CLIENTS).map(async |n| {
        let (http, name) = (reqwest::Client::builder().no_proxy().build().unwrap(), format!("life-{life}-{n}"));
        let (base, admin, ledger) = (server.base.as_str(), admin.as_str(), Ledger::default());
        let mut client = Client { http, base, name, admin, ledger, answers_left: &answers_left, killer: &tell };
        let mut n = 0;
        while client.life_of_a_user(n).await.is_some() {
            n += 1;
        }
        client.ledger
    });
    let ledgers = join_all(clients).await;
    drop(tell);
    killer.join().unwrap();
    server.wait();
    let mut all = Ledger::default();
    for ledger in ledgers {
        all.add(ledger);
    }
    all
}

async fn ready(server: &TestServer) {
    assert_eq!(server.get("//readyz").send().await.status, 200);
}

async fn kills(times: usize) {
    let mut server = TestServer::with_admin(&[]);
    let secret = services::add(&server, &server.admin().await).await.secret;
    let (mut dice, mut all, mut follower) = (Dice::new(times as u64), Ledger::default(), Follower::new(&secret));
    for life in 0..times {
        let delay = Duration::from_micros(dice.below(DELAY_US) as u64);
        let ledger = live_and_die(&mut server, life, 1 + dice.below(ANSWERS_MAX), delay).await;
        server.start_again();
        ready(&server).await;
        ledger.holds(&server, &mut follower).await;
        all.add(ledger);
    }
    all.holds(&server, &mut Follower::new(&secret)).await;
    server.stop();
    done(&run(&["check"], &server.dir.path().join("data"), ""));
    let Ledger { accounts, dead, widgets } = all;
    println!(
        "{times} kills: {} accounts, {} dead tokens, {} widgets, none lost",
        accounts.len(),
        dead.len(),
        widgets.len()
    );
    assert!(accounts.len() > times && !dead.is_empty() && !widgets.is_empty());
}

#[tokio::test]
async fn a_killed_server_has_all_that_it_acknowledged_and_no_dead_token_lives() {
    kills(100).await;
}

#[tokio::test]
#[ignore = "long: ten minutes"]
async fn many_killed_servers_have_all_that_they_acknowledged() {
    kills(2_000).await;
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_makes_its_data_starts_all_the_same() {
    let mut dice = Dice::new(0);
    for _ in 0..20 {
        let dir = Arc::new(TempDir::new().unwrap());
        let data = dir.path().join("data");
        let mut child = latchkey()
            .args(["--listen", "127.0.0.1:0", "--log", "error", "--data-dir"])
            .arg(&data)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let (tell, killer) = kill_when_told(child.id(), Duration::from_micros(dice.below(20_000) as u64));
        tell.send(()).unwrap();
        child.wait().unwrap();
        killer.join().unwrap();
        add_user(&data, ADMIN, true);
        let server = TestServer::on(dir, &[]);
        ready(&server).await;
        server.admin().await;
    }
}
