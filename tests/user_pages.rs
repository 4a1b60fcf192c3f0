//! Pages of many users: every page that a cursor or a number leads to has the users that it should have, with exact or honest totals.
//!
//! The users have all combinations of flags and ids in random order, and more than fit into one counted range of the index.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::{
    api::harness::{ADMIN, TestServer, add_user},
    cli::{run, text},
    import::{exported, import, line},
};

/// More than two counted ranges of the index in each of two groups.
const USERS: u64 = 20_000;

/// Which of the users are administrators, and which are disabled. Some groups are large, and some are small.
fn flags(number: u64) -> (bool, bool) {
    (number % 2_500 == 17, number % 2 == 1)
}

/// An email and a public id, both of which follow from the number, in different orders.
fn user(number: u64) -> Value {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (admin, disabled) = flags(number);
    let mut user = line(&format!("u{:05}@example.com", number * 7_919 % USERS));
    user["public_id"] = format!("{:08x}-{:04x}-7000-8000-000000000000", mixed >> 32, (mixed >> 16) & 0xffff).into();
    (user["admin"], user["disabled"]) = (admin.into(), disabled.into());
    user
}

fn furnish(data: &Path) {
    add_user(data, ADMIN, true);
    let lines: Vec<String> = (0..USERS).map(|number| user(number).to_string()).collect();
    let output = import(data, &["-"], &lines.join("\n"));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// The emails of all users with these flags, as the list must have them.
fn expected(users: &[Value], admin: Option<bool>, disabled: Option<bool>, search: &str) -> Vec<String> {
    let fits = |user: &&Value| {
        admin.is_none_or(|admin| user["admin"] == admin)
            && disabled.is_none_or(|disabled| user["disabled"] == disabled)
            && user["email"].as_str().unwrap().starts_with(search)
    };
    let found = users.iter().filter(fits).map(|user| (user["public_id"].as_str().unwrap(), &user["email"]));
    let by_id: BTreeMap<_, _> = found.collect();
    let mut emails: Vec<String> = by_id.into_values().map(|email| email.as_str().unwrap().to_owned()).collect();
    if !search.is_empty() {
        emails.sort_unstable();
    }
    emails
}

struct Client<'a> {
    server: &'a TestServer,
    token: String,
}

impl Client<'_> {
    async fn page(&self, path: &str) -> Value {
        let path = path.trim_start_matches("/api/v1");
        let answer = self.server.get(path).bearer(&self.token).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    /// Follows `links.next` from the first page to the last, and returns the emails and the number of pages.
    async fn all(&self, query: &str) -> (Vec<String>, u64) {
        let mut path = format!("/users?per_page=100{query}");
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let page = self.page(&path).await;
            pages += 1;
            assert_eq!(page["page"], pages);
            found.extend(emails(&page));
            match page["links"]["next"].as_str() {
                Some(next) => next.clone_into(&mut path),
                None => return (found, pages),
            }
        }
    }
}

fn emails(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_by_cursor_and_by_number_have_the_same_users_whatever_the_filter() {
    let dir = Arc::new(TempDir::new().unwrap());
    let data = dir.path().join("data");
    furnish(&data);
    let mut users = exported(&data);
    let server = TestServer::on(dir, &[]);
    let client = Client { server: &server, token: server.log_in(ADMIN).await };

    // Removing users makes the counted ranges uneven.
    let removed: Vec<_> = users.extract_if(.., |user| user["email"].as_str().unwrap().starts_with("u0000")).collect();
    assert_eq!(removed.len(), 10);
    for user in removed {
        let path = format!("/users/{}", user["public_id"].as_str().unwrap());
        assert_eq!(server.request(Method::DELETE, &path).bearer(&client.token).send().await.status, 204);
    }
    let changed = users.iter_mut().find(|user| user["email"] == "u00017@example.com").unwrap();
    changed["disabled"] = (changed["disabled"] == false).into();
    let path = format!("/users/{}", changed["public_id"].as_str().unwrap());
    let change = json!({ "disabled": changed["disabled"] });
    assert_eq!(server.request(Method::PATCH, &path).bearer(&client.token).json(&change).await.status, 200);

    for (admin, disabled) in [None, Some(true), Some(false)]
        .into_iter()
        .flat_map(|admin| [None, Some(true), Some(false)].map(|disabled| (admin, disabled)))
    {
        let mut query = String::new();
        for (name, flag) in [("admin", admin), ("disabled", disabled)] {
            query += &flag.map(|flag| format!("&{name}={flag}")).unwrap_or_default();
        }
        let expected = expected(&users, admin, disabled, "");
        let (found, pages) = client.all(&query).await;
        assert!(found == expected, "{query}");
        for number in [1, 2, pages / 2, pages].into_iter().filter(|number| (1..=pages).contains(number)) {
            let page = client.page(&format!("/users?per_page=100&page={number}{query}")).await;
            let skip = (usize::try_from(number).unwrap() - 1) * 100;
            assert_eq!(emails(&page), expected[skip..expected.len().min(skip + 100)], "page {number} {query}");
            assert_eq!((&page["total_items"], &page["total_is_exact"]), (&expected.len().into(), &true.into()));
            assert_eq!((&page["total_pages"], &page["has_next"]), (&pages.into(), &(number < pages).into()));
        }
    }
    let past_the_end = client.page("/users?per_page=100&page=4294967295").await;
    assert_eq!((emails(&past_the_end).len(), &past_the_end["has_next"]), (0, &false.into()));
    let sound = run(&["check"], &data, "");
    assert!(sound.status.success(), "{}", text(&sound.stderr));
}

#[tokio::test]
async fn a_search_goes_in_the_order_of_emails_and_says_where_its_total_is_not_exact() {
    let dir = Arc::new(TempDir::new().unwrap());
    let data = dir.path().join("data");
    furnish(&data);
    let users = exported(&data);
    let server = TestServer::on(dir, &[]);
    let client = Client { server: &server, token: server.log_in(ADMIN).await };
    for (search, admin, disabled) in [
        ("u", None, None),
        ("u01", None, None),
        ("u", Some(true), None),
        ("u", None, Some(true)),
        ("u1", Some(false), Some(false)),
        ("u0123", None, Some(true)),
        ("nobody", None, None),
    ] {
        let mut query = format!("&search={}", search.to_uppercase());
        for (name, flag) in [("admin", admin), ("disabled", disabled)] {
            query += &flag.map(|flag| format!("&{name}={flag}")).unwrap_or_default();
        }
        let expected = expected(&users, admin, disabled, search);
        let (found, _) = client.all(&query).await;
        assert!(found == expected, "{query}");
        let page = client.page(&format!("/users?per_page=100{query}")).await;
        let total = page["total_items"].as_u64().unwrap();
        if page["total_is_exact"] == true {
            assert_eq!(total, expected.len() as u64, "{query}");
            assert_eq!(
                server.get(&format!("/users?{query}")).bearer(&client.token).send().await.header("total-count"),
                total.to_string()
            );
        } else {
            assert!(total <= expected.len() as u64 && page["links"]["last"].is_null(), "{query}");
            assert!(
                server
                    .get(&format!("/users?{query}"))
                    .bearer(&client.token)
                    .send()
                    .await
                    .headers
                    .get("total-count")
                    .is_none()
            );
        }
        assert_eq!(
            page["total_is_exact"] == true,
            expected.len() <= 10_000 && (disabled.is_none() || expected.len() < 100),
            "{query}"
        );
    }
    let second = client.page("/users?per_page=5&page=2&search=u01").await;
    assert_eq!(emails(&second), expected(&users, None, None, "u01")[5..10]);
    let all = expected(&users, None, None, "u");
    assert_eq!(emails(&client.page("/users?per_page=100&page=101&search=u").await), all[10_000..10_100]);
    let too_deep = client.page("/users?per_page=100&page=102&search=u").await;
    assert!(emails(&too_deep).is_empty());
    assert_eq!(emails(&client.page(too_deep["links"]["next"].as_str().unwrap()).await), all[10_000..10_100]);
    for wrong in ["x", "*", "AAAA", ""] {
        let answer = server.get(&format!("/users?after={wrong}")).bearer(&client.token).send().await;
        assert_eq!(answer.error("after"), "must be from the links of another page");
    }
    let next = second["links"]["next"].as_str().unwrap();
    let without_number = client.page(&next.replace("page=3&", "")).await;
    assert_eq!(emails(&without_number), expected(&users, None, None, "u01")[10..15]);
    assert!(without_number["page"].is_null() && without_number["links"]["prev"].is_null());
    assert_eq!(without_number["has_prev"], true);
}

/// A request that is sent after many pages were asked for is answered before most of them.
#[tokio::test]
async fn pages_do_not_hold_up_other_requests() {
    let dir = Arc::new(TempDir::new().unwrap());
    furnish(&dir.path().join("data"));
    let server = TestServer::on(dir, &[]);
    let token = server.log_in(ADMIN).await;
    let (answered, first) = (AtomicUsize::new(0), Notify::new());
    let page = async || {
        let query = "/users?per_page=100&search=u&disabled=true&admin=false";
        let status = server.get(query).bearer(&token).send().await.status;
        answered.fetch_add(1, Ordering::SeqCst);
        first.notify_one();
        status
    };
    let other = async {
        first.notified().await;
        assert_eq!(server.status_of(&token).await, 200);
        answered.load(Ordering::SeqCst)
    };
    let (pages, before) = futures_util::join!(join_all((0..60).map(|_| page())), other);
    assert!(pages.iter().all(|status| *status == 200));
    assert!(before < 20, "{before} of 60 pages were answered before");
}

#[tokio::test]
async fn the_command_line_lists_every_user_beside_a_running_server_and_without_one() {
    let dir = Arc::new(TempDir::new().unwrap());
    let data = dir.path().join("data");
    furnish(&data);
    let users = exported(&data);
    let listed = |args: &[&str]| {
        let output = run(&[&["user", "list"], args].concat(), &data, "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).to_owned()
    };
    let check = || {
        for (args, admin, disabled, search) in [
            (&["--json"][..], None, None, ""),
            (&["--json", "--admin"], Some(true), None, ""),
            (&["--json", "--disabled", "--search", "U1"], None, Some(true), "u1"),
        ] {
            let lines = listed(args);
            let found: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let emails: Vec<_> = found.iter().map(|user| user["email"].as_str().unwrap().to_owned()).collect();
            assert!(emails == expected(&users, admin, disabled, search), "{args:?}");
        }
        assert_eq!(listed(&[]).lines().count(), users.len() + 1);
        assert_eq!(listed(&["--search", "nobody"]).lines().count(), 1, "the head of the table");
    };
    check();
    let _server = TestServer::on(Arc::clone(&dir), &[]);
    check();
}
