//! `/widgets`: pages, adding, reading, editing, deleting, and permissions. `widgets_rules` tests the allowed values of the fields.

use std::sync::Arc;

use futures_util::future::join_all;
use latchkey::clock::ManualClock;
use reqwest::Method;
use serde_json::{Value, json};

use super::harness::{ADMIN, Answer, TestServer};

/// A deadline in the far future.
pub(crate) const LATER: &str = "2999-12-31";
pub(crate) const URL: &str = "https://www.example.com/info";
/// 2020-02-28T23:38:53Z
const NOW: i64 = 1_582_933_133;
pub(crate) const FAILED: &str = "Input payload validation failed";
const NOT_ADMIN: &str = "You are not an administrator";

pub(crate) async fn add(server: &TestServer, token: &str, name: &str) -> Answer {
    let fields = [("name", name), ("info_url", URL), ("deadline", LATER)];
    server.post("/widgets").bearer(token).form(&fields).await
}

pub(crate) async fn put(server: &TestServer, token: &str, name: &str, fields: &[(&str, &str)]) -> Answer {
    server.request(Method::PUT, &format!("/widgets/{name}")).bearer(token).form(fields).await
}

pub(crate) async fn get(server: &TestServer, token: &str, name: &str) -> Answer {
    server.get(&format!("/widgets/{name}")).bearer(token).send().await
}

/// Returns the names of all widgets.
pub(crate) async fn names(server: &TestServer, token: &str) -> Vec<String> {
    let list = server.get("/widgets?per_page=100").bearer(token).send().await;
    assert_eq!(list.status, 200, "{}", list.text);
    list.json()["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns the relations of a `Link` header (RFC 8288) as an object like `links` of the body.
fn relations(header: &str) -> Value {
    let relation = |link: &str| {
        let (to, rel) = link.strip_prefix('<').unwrap().split_once(">; rel=\"").unwrap();
        (rel.strip_suffix('"').unwrap().to_owned(), Value::from(to))
    };
    Value::Object(header.split(", ").map(relation).collect())
}

/// More widgets than are counted in one row of the database, of which some are deleted.
#[tokio::test]
async fn pages_of_many_widgets_have_each_widget_once_also_where_others_were_deleted() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    let names: Vec<String> = (0..4_300).map(|number| format!("w{number:04}")).collect();
    for part in names.chunks(430) {
        let added = join_all(part.iter().map(|name| add(&server, &token, name))).await;
        assert!(added.iter().all(|answer| answer.status == 201));
    }
    let (deleted, kept) = names.split_at(40);
    for name in deleted {
        let call = server.request(Method::DELETE, &format!("/widgets/{name}")).bearer(&token);
        assert_eq!(call.send().await.status, 204);
    }
    let mut listed = Vec::new();
    for page in 1..=43 {
        let page = server.get(&format!("/widgets?per_page=100&page={page}")).bearer(&token).send().await.json();
        assert_eq!(page["total_items"], kept.len());
        let items = page["items"].as_array().unwrap().iter();
        listed.extend(items.map(|item| item["name"].as_str().unwrap().to_owned()));
    }
    listed.sort_unstable();
    assert!(listed == kept);
}

#[tokio::test]
async fn widgets_are_listed_in_pages_in_order_of_creation() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    // The names are neither in alphabetical order nor in its reverse.
    let created: Vec<String> = (0..12).map(|n| format!("w{}-{n}", n * 5 % 7)).collect();
    for name in &created {
        assert_eq!(add(&server, &token, name).await.status, 201);
    }
    let to = |page: u32| format!("/api/v1/widgets?page={page}&per_page=5");
    let pages = [
        (1, 0..5, None, Some(2)),
        (2, 5..10, Some(1), Some(3)),
        (3, 10..12, Some(2), None),
        // A page beyond the end is empty, and its `prev` link leads to the last page.
        (4, 12..12, Some(3), None),
        (4_294_967_295_u32, 12..12, Some(3), None),
    ];
    for (page, items, prev, next) in pages {
        let answer = server.get(&format!("/widgets?per_page=5&page={page}")).bearer(&token).send().await;
        assert_eq!(answer.status, 200);
        let mut body = answer.json();
        let listed = body.as_object_mut().unwrap().remove("items").unwrap();
        let listed: Vec<_> = listed.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(listed, created[items]);
        let mut links = json!({ "self": to(page), "first": to(1), "last": to(3) });
        for (rel, to_page) in [("prev", prev), ("next", next)] {
            if let Some(to_page) = to_page {
                links[rel] = to(to_page).into();
            }
        }
        let totals = json!({
            "links": links, "has_prev": prev.is_some(), "has_next": next.is_some(), "page": page, "total_pages": 3,
            "items_per_page": 5, "total_items": 12,
        });
        assert_eq!(body, totals);
        assert_eq!(relations(answer.header("link")), links);
        assert_eq!(answer.header("total-count"), "12");
    }

    // The `next` links lead through all widgets.
    let (mut path, mut walked) = (to(1), 0);
    loop {
        let page = server.get(path.strip_prefix("/api/v1").unwrap()).bearer(&token).send().await.json();
        walked += page["items"].as_array().unwrap().len();
        let Some(next) = page["links"]["next"].as_str() else { break };
        path = next.to_owned();
    }
    assert_eq!(walked, 12);

    // A widget that is deleted and added again is last, also if the last one was deleted.
    for name in ["w0-0", "w6-11"] {
        let path = format!("/widgets/{name}");
        assert_eq!(server.request(Method::DELETE, &path).bearer(&token).send().await.status, 204);
        assert_eq!(add(&server, &token, name).await.status, 201);
        assert_eq!(names(&server, &token).await.last().unwrap(), name);
    }
    // An edited widget keeps its position.
    let before = names(&server, &token).await;
    assert_eq!(put(&server, &token, &before[3], &[("info_url", URL), ("deadline", LATER)]).await.status, 200);
    assert_eq!(names(&server, &token).await, before);
}

#[tokio::test]
async fn an_empty_list_is_a_page_too_and_by_default_a_page_has_ten() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    let answer = server.get("/widgets").bearer(&token).send().await;
    let first = "/api/v1/widgets?page=1&per_page=10";
    let links = json!({ "self": first, "first": first, "last": first });
    let empty = json!({
        "links": links, "has_prev": false, "has_next": false, "page": 1, "total_pages": 0, "items_per_page": 10,
        "total_items": 0, "items": [],
    });
    assert_eq!((answer.status.as_u16(), answer.json()), (200, empty));
    assert_eq!(relations(answer.header("link")), links);
    assert_eq!(answer.header("total-count"), "0");

    for n in 0..11 {
        assert_eq!(add(&server, &token, &format!("w{n}")).await.status, 201);
    }
    let page = server.get("/widgets").bearer(&token).send().await.json();
    assert_eq!((page["items"].as_array().unwrap().len(), &page["has_next"]), (10, &json!(true)));
    for (per_page, total_pages) in [(5, 3), (10, 2), (25, 1), (50, 1), (100, 1)] {
        let page = server.get(&format!("/widgets?per_page={per_page}")).bearer(&token).send().await.json();
        assert_eq!((&page["items_per_page"], &page["total_pages"]), (&json!(per_page), &json!(total_pages)));
        assert_eq!(page["items"].as_array().unwrap().len(), 11.min(per_page));
    }
    let page = server.get("/widgets?other=1&page=2&colour=red").bearer(&token).send().await.json();
    assert_eq!((&page["page"], page["items"].as_array().unwrap().len()), (&json!(2), 1));
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused_with_every_field_that_failed() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    for page in ["0", "-1", "x", "", "1.5", "%201", "4294967296", "99999999999999999999999", "1e3", "%C2%B9"] {
        let answer = server.get(&format!("/widgets?page={page}&per_page=5")).bearer(&token).send().await;
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (400, FAILED), "{page}");
        assert_eq!(answer.json()["errors"], json!({ "page": "must be a whole number from 1" }), "{page}");
    }
    for per_page in ["0", "-5", "x", "", "1", "6", "99", "101", "1000000"] {
        let answer = server.get(&format!("/widgets?per_page={per_page}")).bearer(&token).send().await;
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (400, FAILED), "{per_page}");
        assert_eq!(answer.json()["errors"], json!({ "per_page": "must be one of 5, 10, 25, 50, 100" }), "{per_page}");
    }
    let both = server.get("/widgets?per_page=3&page=0").bearer(&token).send().await;
    assert_eq!(both.json()["errors"].as_object().unwrap().len(), 2, "{}", both.text);
    let twice = server.get("/widgets?page=1&page=1&per_page=5&per_page=10").bearer(&token).send().await;
    assert_eq!(twice.status, 400);
    let why = "was sent more than once";
    assert_eq!(twice.json()["errors"], json!({ "page": why, "per_page": why }));
}

#[tokio::test]
async fn a_widget_says_all_there_is_to_say_of_it_until_no_time_remains() {
    let clock = Arc::new(ManualClock::at(NOW));
    let server = TestServer::at(Arc::clone(&clock), &["--with-admin", "--token-lifetime", "30d"]).await;
    let token = server.admin().await;
    let fields = [("name", "first"), ("info_url", URL), ("deadline", "2020-03-02T02:42:58Z")];
    let added = server.post("/widgets").bearer(&token).form(&fields).await;
    assert_eq!(added.status, 201);
    assert_eq!(added.json(), json!({ "status": "success", "message": "New widget added: first." }));
    assert_eq!(added.header("location"), "/api/v1/widgets/first");

    let me = server.get("/auth/user").bearer(&token).send().await.json();
    let owner = json!({ "email": ADMIN, "public_id": me["public_id"] });
    let reader = server.user("jo@example.com").await;
    let mut widget = json!({
        "name": "first",
        "info_url": URL,
        "created_at": "02/28/20 11:38:53 PM UTC",
        "created_at_iso8601": "2020-02-28T23:38:53Z",
        "created_at_rfc822": "Fri, 28 Feb 2020 23:38:53 +0000",
        "deadline": "03/02/20 02:42:58 AM UTC",
        "deadline_iso8601": "2020-03-02T02:42:58Z",
        "deadline_passed": false,
        "time_remaining": "2 days 3 hours 4 minutes 5 seconds",
        "owner": owner,
        "link": "/api/v1/widgets/first",
    });
    assert_eq!(get(&server, &reader, "first").await.json(), widget);
    let listed = server.get("/widgets").bearer(&reader).send().await.json();
    assert_eq!(listed["items"], json!([widget]));

    for (seconds, remaining, passed) in [
        (2 * 86_400 + 3 * 3600, "4 minutes 5 seconds", false),
        (4 * 60 + 4, "1 second", false),
        (1, "No time remaining", true),
        (86_400, "No time remaining", true),
    ] {
        clock.advance(seconds);
        widget["time_remaining"] = remaining.into();
        widget["deadline_passed"] = passed.into();
        assert_eq!(get(&server, &reader, "first").await.json(), widget);
    }
    // A deadline without a time is the end of that day. Noon and midnight have the hour 12.
    let today = [("info_url", URL), ("deadline", "03/03/20")];
    assert_eq!(put(&server, &token, "first", &today).await.status, 200);
    let widget = get(&server, &reader, "first").await.json();
    assert_eq!(widget["deadline_iso8601"], "2020-03-03T23:59:59Z");
    assert_eq!(widget["time_remaining"], "21 hours 17 minutes 1 second");
    for (at, text) in [("12:00:00", "12:00:00 PM"), ("00:00:00", "12:00:00 AM")] {
        let fields = [("info_url", URL), ("deadline", &format!("2020-03-04T{at}Z"))];
        assert_eq!(put(&server, &token, "first", &fields).await.status, 200);
        assert_eq!(get(&server, &reader, "first").await.json()["deadline"], format!("03/04/20 {text} UTC"));
    }
}

#[tokio::test]
async fn a_name_is_given_once_and_the_first_widget_stays_as_it_is() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    assert_eq!(add(&server, &token, "x").await.status, 201);
    let before = get(&server, &token, "x").await.json();
    let fields = json!({ "name": "x", "info_url": "https://other.example.com", "deadline": "2998-01-01" });
    let again = server.post("/widgets").bearer(&token).json(&fields).await;
    assert_eq!(again.status, 409);
    assert_eq!(again.json(), json!({ "status": "fail", "message": "Widget name: x already exists, must be unique." }));
    let mut after = get(&server, &token, "x").await.json();
    after["time_remaining"] = before["time_remaining"].clone();
    assert_eq!(after, before);
    assert_eq!(names(&server, &token).await, ["x"]);
}

#[tokio::test]
async fn of_many_creations_of_one_name_at_once_exactly_one_wins() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    let calls = (0..16).map(|n| {
        let (server, token) = (&server, &token);
        async move {
            let fields = [("info_url", URL), ("deadline", LATER)];
            if n % 2 == 0 { add(server, token, "x").await } else { put(server, token, "x", &fields).await }
        }
    });
    let answers = futures_util::future::join_all(calls).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!(count(201), 1);
    assert_eq!(count(201) + count(200) + count(409), 16);
    assert_eq!(names(&server, &token).await, ["x"]);
}

#[tokio::test]
async fn an_unknown_widget_is_not_found() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    for method in [Method::GET, Method::DELETE] {
        let answer = server.request(method, "/widgets/nothing").bearer(&token).send().await;
        assert_eq!(answer.status, 404);
        assert_eq!(answer.json(), json!({ "status": "fail", "message": "nothing not found in database." }));
    }
}

#[tokio::test]
async fn putting_changes_the_widget_and_adds_it_where_there_is_none() {
    let clock = Arc::new(ManualClock::at(NOW));
    let server = TestServer::at(Arc::clone(&clock), &["--with-admin"]).await;
    let token = server.admin().await;
    let created = put(&server, &token, "x", &[("info_url", URL), ("deadline", LATER)]).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.json(), json!({ "status": "success", "message": "New widget added: x." }));
    assert_eq!(created.header("location"), "/api/v1/widgets/x");

    let mut widget = get(&server, &token, "x").await.json();
    clock.advance(60);
    // The field `name` in the body is ignored, because the path identifies the widget.
    let fields = json!({ "info_url": "http://example.org", "deadline": "2020-02-28T00:00:00Z", "name": "y" });
    let updated = server.request(Method::PUT, "/widgets/x").bearer(&token).json(&fields).await;
    assert_eq!(updated.status, 200);
    assert_eq!(updated.json(), json!({ "status": "success", "message": "'x' was successfully updated" }));
    assert!(!updated.headers.contains_key("location"));

    widget["info_url"] = "http://example.org".into();
    widget["deadline"] = "02/28/20 12:00:00 AM UTC".into();
    widget["deadline_iso8601"] = "2020-02-28T00:00:00Z".into();
    widget["deadline_passed"] = true.into();
    widget["time_remaining"] = "No time remaining".into();
    assert_eq!(get(&server, &token, "x").await.json(), widget, "created_at and owner stay");
    assert_eq!(names(&server, &token).await, ["x"]);
}

#[tokio::test]
async fn a_deleted_widget_is_gone_and_the_answer_has_no_body() {
    let server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    assert_eq!(add(&server, &token, "x").await.status, 201);
    let deleted = server.request(Method::DELETE, "/widgets/x").bearer(&token).send().await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
    assert!(!deleted.headers.contains_key("content-type"));
    assert_eq!(get(&server, &token, "x").await.status, 404);
    assert_eq!(server.request(Method::DELETE, "/widgets/x").bearer(&token).send().await.status, 404);
    assert_eq!(names(&server, &token).await, [""; 0]);
    assert_eq!(add(&server, &token, "x").await.status, 201);
}

#[tokio::test]
async fn everyone_with_a_token_reads_and_only_administrators_write() {
    let server = TestServer::with_admin(&[]);
    let (admin, user) = (server.admin().await, server.user("jo@example.com").await);
    assert_eq!(add(&server, &admin, "x").await.status, 201);
    for (method, path, realm) in [
        (Method::GET, "/widgets", "registered_users"),
        (Method::GET, "/widgets/x", "registered_users"),
        (Method::POST, "/widgets", "admin_users"),
        (Method::PUT, "/widgets/x", "admin_users"),
        (Method::PUT, "/widgets/new", "admin_users"),
        (Method::DELETE, "/widgets/x", "admin_users"),
    ] {
        let fields = [("name", "new"), ("info_url", URL), ("deadline", LATER)];
        let realm = format!(r#"Bearer realm="{realm}@mydomain.com""#);
        let anonymous = server.request(method.clone(), path).form(&fields).await;
        assert_eq!((anonymous.status.as_u16(), anonymous.message().as_str()), (401, "Unauthorized"), "{method} {path}");
        assert_eq!(anonymous.header("www-authenticate"), realm);

        let answer = server.request(method.clone(), path).bearer(&user).form(&fields).await;
        if method == Method::GET {
            assert_eq!(answer.status, 200, "{method} {path}");
            continue;
        }
        assert_eq!((answer.status.as_u16(), answer.message().as_str()), (403, NOT_ADMIN), "{method} {path}");
        let challenge = format!(r#"{realm}, error="insufficient_scope", error_description="{NOT_ADMIN}""#);
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    assert_eq!(names(&server, &user).await, ["x"]);
    assert_eq!(get(&server, &user, "x").await.json()["info_url"], URL);
}

#[tokio::test]
async fn widgets_survive_a_restart_and_kill_9_right_after_the_answer() {
    let mut server = TestServer::with_admin(&[]);
    let token = server.admin().await;
    for name in ["kept", "edited", "deleted"] {
        assert_eq!(add(&server, &token, name).await.status, 201);
    }
    server.stop();
    server.start_again();
    assert_eq!(names(&server, &token).await, ["kept", "edited", "deleted"]);
    let before = get(&server, &token, "kept").await.json();

    let kill = |server: &mut TestServer| {
        server.signal("KILL");
        server.wait();
        server.start_again();
    };
    assert_eq!(add(&server, &token, "added").await.status, 201);
    kill(&mut server);
    assert_eq!(names(&server, &token).await, ["kept", "edited", "deleted", "added"]);
    assert_eq!(put(&server, &token, "edited", &[("info_url", "http://a"), ("deadline", LATER)]).await.status, 200);
    kill(&mut server);
    assert_eq!(get(&server, &token, "edited").await.json()["info_url"], "http://a");
    assert_eq!(server.request(Method::DELETE, "/widgets/deleted").bearer(&token).send().await.status, 204);
    kill(&mut server);
    assert_eq!(names(&server, &token).await, ["kept", "edited", "added"]);
    let mut after = get(&server, &token, "kept").await.json();
    after["time_remaining"] = before["time_remaining"].clone();
    assert_eq!(after, before);
}
