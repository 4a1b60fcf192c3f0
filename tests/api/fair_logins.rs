//! Whose login goes first where several wait: the one from a known device, then the one of who used least.
//!
//! Each server hashes on one thread, which verifies an expensive hash while cheap ones are queued: so the order does not depend on how
//! fast the machine is. `crate::fairness` simulates floods.

use latchkey::{
    auth::known_devices::KnownDevices,
    clock::{Clock as _, SystemClock},
    store::{DataDir, Store},
};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    harness::{ADMIN, PASSWORD, TestServer, add_user, latchkey},
    metrics::{scrape, value},
};
use crate::import::import;

const JO: &str = "jo@example.com";
const NOBODY: &str = "nobody@example.com";
const HOME: &str = "192.0.2.1";
/// An account whose hash takes a quarter of a second, which is longer than it takes to queue some logins behind it, and far from too long
/// to wait.
const SLOW: &str = "slow@example.com";
const SLOW_HASH: &str = "$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234";
/// About 50 ms, so that a client also sees the order of the responses when the machine is busy.
const CHEAP: &str = "ln=13,r=8,p=3";
const DAY_S: u64 = 24 * 60 * 60;

fn one_thread() -> TestServer {
    let dir = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
    let data = dir.path().join("data");
    add_user(&data, ADMIN, true);
    let slow = json!({ "email": SLOW, "password_hash": SLOW_HASH });
    assert!(import(&data, &["-"], &slow.to_string()).status.success());
    let proxy = ["--trusted-proxy", "127.0.0.1", "--metrics-listen", "127.0.0.1:0"];
    TestServer::on(dir, &[&["--hash-threads", "1", "--scrypt", CHEAP], &proxy[..]].concat())
}

async fn log_in(server: &TestServer, from: &str) {
    let call = server.post("/auth/login").header("x-forwarded-for", from);
    assert_eq!(call.form(&[("email", JO), ("password", PASSWORD)]).await.status, 200);
}

/// Logs in while the thread is busy, one after the other, and returns the numbers of the logins in the order of their responses.
///
/// Returns `None` if the machine was too busy or too fast for it: a login was refused, or the slow one ended before all were queued.
async fn order(server: &TestServer, logins: &[(&str, &'static str)]) -> Option<Vec<usize>> {
    let mut answers = JoinSet::new();
    let all = [("203.0.113.1", SLOW)];
    for (number, (from, email)) in all.iter().chain(logins).enumerate() {
        let call = server.post("/auth/login").header("x-forwarded-for", from).may_fail();
        let email = *email;
        answers.spawn(async move { (number, call.form(&[("email", email), ("password", PASSWORD)]).await.status) });
        loop {
            let text = scrape(server).await;
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            let is_queued = (value(&text, "hashes_waiting") - number as f64).abs() < 0.5;
            if is_queued && value(&text, "hashes_running") > 0.5 {
                break;
            }
            if answers.try_join_next().is_some() {
                while answers.join_next().await.is_some() {}
                return None;
            }
        }
    }
    let mut order = Vec::new();
    while let Some(answer) = answers.join_next().await {
        let (number, status) = answer.unwrap();
        if status == 503 {
            while answers.join_next().await.is_some() {}
            return None;
        }
        order.extend(number.checked_sub(1));
    }
    Some(order)
}

/// Whether a login of jo's from [`HOME`] goes before those of strangers that came first. Afterwards the device is known.
async fn is_known(server: &TestServer) -> Option<bool> {
    let order = order(server, &[("198.51.100.1", NOBODY), ("198.51.101.1", NOBODY), (HOME, JO)]).await?;
    assert!(order == [0, 1, 2] || order == [2, 0, 1], "{order:?}");
    Some(order[0] == 2)
}

/// Runs `test` until the machine did not disturb it.
async fn undisturbed(test: impl AsyncFn() -> Option<()>) {
    for _ in 0..30 {
        if test().await.is_some() {
            return;
        }
    }
    panic!("the machine was too busy each time");
}

#[tokio::test]
async fn from_where_an_account_logged_in_rightly_it_goes_first_also_after_a_restart() {
    undisturbed(async || {
        let mut server = one_thread();
        server.user(JO).await;
        assert!(!is_known(&server).await?, "it never logged in there");
        log_in(&server, HOME).await;
        for _ in 0..2 {
            assert!(is_known(&server).await?);
            server.stop();
            server.start_again();
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn elsewhere_and_for_other_accounts_nobody_goes_first_and_none_tells_whether_there_is_an_account() {
    undisturbed(async || {
        let server = one_thread();
        server.user(JO).await;
        log_in(&server, HOME).await;
        let (a, b, c) = ("198.51.100.1", "198.51.101.1", "198.51.102.1");
        assert_eq!(order(&server, &[(a, NOBODY), (b, JO), (c, ADMIN)]).await?, [0, 1, 2]);
        let (a, b, c) = ("198.51.103.1", "198.51.104.1", "198.51.105.1");
        assert_eq!(order(&server, &[(a, ADMIN), (b, NOBODY), (c, JO)]).await?, [0, 1, 2]);
        // From home, but to an account that never logged in there, and to none.
        for email in [ADMIN, NOBODY] {
            let stranger = if email == ADMIN { "198.51.106.1" } else { "198.51.107.1" };
            assert_eq!(order(&server, &[(stranger, JO), (HOME, email)]).await?, [0, 1]);
        }
        Some(())
    })
    .await;
}

#[tokio::test]
async fn of_strangers_the_one_goes_first_who_used_least() {
    undisturbed(async || {
        let server = one_thread();
        let (busy, neighbour, other) = ("198.51.100.1", "198.51.100.2", "198.51.101.1");
        let logins = [(busy, NOBODY), (busy, NOBODY), (neighbour, NOBODY), (other, NOBODY), (other, NOBODY)];
        assert_eq!(order(&server, &logins).await?, [0, 3, 2, 4, 1]);
        Some(())
    })
    .await;
}

#[tokio::test]
async fn a_device_is_forgotten_with_the_account_and_with_the_old_password() {
    undisturbed(async || {
        let mut server = one_thread();
        let mut token = server.user(JO).await;
        let admin = server.admin().await;
        for forget in ["password", "sessions", "account"] {
            log_in(&server, HOME).await;
            assert!(is_known(&server).await?, "{forget}");
            let user = server.get("/auth/user").bearer(&token).send().await.json()["public_id"].clone();
            let of_user = format!("/users/{}", user.as_str().unwrap());
            let forgotten = match forget {
                "password" => {
                    let change = json!({ "current_password": PASSWORD, "new_password": "another good password" });
                    assert_eq!(server.post("/auth/password").bearer(&token).json(&change).await.status, 200);
                    let back = json!({ "password": PASSWORD });
                    server.request(Method::PATCH, &of_user).bearer(&admin).json(&back).await
                }
                "sessions" => server.post(&format!("{of_user}/end-sessions")).bearer(&admin).send().await,
                _ => server.request(Method::DELETE, &of_user).bearer(&admin).send().await,
            };
            assert!(forgotten.status.is_success(), "{}", forgotten.text);
            token = server.anybody(JO).await;
            assert!(!is_known(&server).await?, "{forget}");
        }
        server.request(Method::DELETE, "/auth/user").bearer(&token).json(&json!({ "password": PASSWORD })).await;
        log_in_admin_from_home(&server).await;
        server.stop();
        let checked = latchkey().arg("check").arg(server.dir.path().join("data/latchkey.redb")).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        Some(())
    })
    .await;
}

async fn log_in_admin_from_home(server: &TestServer) {
    let call = server.post("/auth/login").header("x-forwarded-for", HOME);
    assert_eq!(call.form(&[("email", ADMIN), ("password", PASSWORD)]).await.status, 200);
}

/// Changes the database of a server that is stopped meanwhile.
async fn change(server: &mut TestServer, change: impl AsyncFnOnce(&Store, &KnownDevices)) {
    server.stop();
    let dir = DataDir::take(&server.dir.path().join("data")).unwrap();
    let key = dir.signing_key(|| panic!("there is a key")).unwrap();
    let store = Store::open(&dir, 1 << 20).unwrap();
    change(&store, &KnownDevices::new(&key)).await;
    store.close().unwrap();
    drop(dir);
    server.start_again();
}

#[tokio::test]
async fn a_device_is_known_for_thirty_days_and_an_account_has_ten_of_them() {
    undisturbed(async || {
        let mut server = one_thread();
        server.user(JO).await;
        let now_s = SystemClock.unix_s();
        for (days, known) in [(29, true), (31, false)] {
            log_in(&server, HOME).await;
            change(&mut server, async |store, devices| {
                let user = store.find_user(&latchkey::model::Email::parse(JO).unwrap()).unwrap().unwrap();
                let home = devices.device(Some(user.public_id), HOME.parse().unwrap());
                assert!(store.last_login_s(home).unwrap().is_some_and(|last| last.abs_diff(now_s) < DAY_S));
                store.insert_known_device(user, home, now_s - days * DAY_S).await.unwrap();
            })
            .await;
            assert_eq!(is_known(&server).await?, known, "{days} days");
        }
        change(&mut server, async |store, devices| {
            let user = store.find_user(&latchkey::model::Email::parse(JO).unwrap()).unwrap().unwrap();
            let at = |n: u64| devices.device(Some(user.public_id), format!("192.0.2.{n}").parse().unwrap());
            for n in 1..=12 {
                store.insert_known_device(user.clone(), at(n), now_s - 100 + n).await.unwrap();
            }
            let known: Vec<u64> = (1..=12).filter(|n| store.last_login_s(at(*n)).unwrap().is_some()).collect();
            assert_eq!(known, (3..=12).collect::<Vec<_>>(), "the oldest go");
            assert_eq!(store.purge_known_devices(now_s - 100 + 8, 4).await.unwrap(), 4, "a batch");
            assert_eq!(store.purge_known_devices(now_s - 100 + 8, 4).await.unwrap(), 2);
            let known: Vec<u64> = (1..=12).filter(|n| store.last_login_s(at(*n)).unwrap().is_some()).collect();
            assert_eq!(known, [9, 10, 11, 12]);
        })
        .await;
        Some(())
    })
    .await;
}
