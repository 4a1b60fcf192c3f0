//! HTTP itself: unknown paths and methods, sizes, HEAD, request ids, CORS, and input that is not HTTP.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

use super::{
    harness::{PASSWORD, TestServer},
    raw::{raw, raw_to_the_end},
};

#[tokio::test]
async fn an_unknown_path_is_not_found_in_our_shape() {
    let server = TestServer::start();
    for path in [
        "/nope",
        "/auth",
        "/auth/",
        "/auth/register/",
        "/auth/Register",
        "/auth/login/x",
        "/widgets/x/y",
        "/swagger",
        "//nope",
        "//api",
        "//api/",
        "//api/v2/auth/user",
        "//API/v1/auth/user",
        "//auth/user",
        "//index.html/x",
        "//.env",
        "//..%2f..%2fetc%2fpasswd",
        "//%2e%2e/secret",
    ] {
        for method in [Method::GET, Method::POST] {
            let answer = server.request(method, path).send().await;
            assert_eq!(answer.status, 404, "{path}: {}", answer.text);
            let message = "The URL was not found on this server";
            assert_eq!(answer.json(), json!({ "status": "fail", "message": message }));
        }
    }
}

#[tokio::test]
async fn a_method_that_does_not_work_is_told_the_ones_that_do() {
    let server = TestServer::start();
    let paths = [
        ("/auth/register", "POST"),
        ("/auth/login", "POST"),
        ("/auth/logout", "POST"),
        ("/auth/user", "DELETE, GET, HEAD"),
        ("/widgets", "GET, HEAD, POST"),
        ("/widgets/x", "DELETE, GET, HEAD, PUT"),
        ("/swagger.json", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/openapi.yaml", "GET, HEAD"),
        ("/ui", "GET, HEAD"),
        ("//", "GET, HEAD"),
    ];
    for (path, allow) in paths {
        let allowed: Vec<_> = allow.split(", ").collect();
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = server.request(method.clone(), path).send().await;
            if allowed.contains(&method.as_str()) {
                assert_ne!(answer.status, 405, "{method} {path}");
                continue;
            }
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.message(), "The method is not allowed for this URL");
            let mut told: Vec<_> = answer.header("allow").split(", ").collect();
            told.sort_unstable();
            assert_eq!(told, allowed, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let server = TestServer::start();
    let token = server.user("jo@example.com").await;
    for path in ["/auth/user", "/widgets", "/widgets?page=2", "/swagger.json", "/ui", "//"] {
        let mut seen = Vec::new();
        for method in [Method::GET, Method::HEAD] {
            let answer = server.request(method.clone(), path).bearer(&token).send().await;
            assert_eq!(answer.status, 200, "{method} {path}");
            assert_eq!(answer.text.is_empty(), method == Method::HEAD, "{method} {path}");
            let mut headers = answer.headers;
            for name in ["x-request-id", "date"] {
                assert!(headers.remove(name).is_some());
            }
            seen.push(headers);
        }
        assert_eq!(seen[0], seen[1], "{path}");
    }
    for (path, status) in [("auth/user", 401), ("nope", 404), ("auth/login", 405), ("widgets/x", 401)] {
        let request = format!("HEAD /api/v1/{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = raw_head(&server, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{path} has a body: {answer}");
    }
}

/// Returns everything that the server sends before it closes the connection. A response to HEAD has a length and no body.
async fn raw_head(server: &TestServer, request: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_url_or_a_header_that_is_too_large_is_refused() {
    let server = TestServer::start();
    let (path, fixed) = ("/widgets?x=", "/api/v1/widgets?x=".len());
    for (bytes, status) in [(8 * 1024, 401), (8 * 1024 + 1, 414), (60_000, 414)] {
        let answer = server.get(&format!("{path}{}", "x".repeat(bytes - fixed))).send().await;
        assert_eq!(answer.status, status, "{bytes}");
    }
    let answer = server.get(&format!("//{}", "x".repeat(8 * 1024))).send().await;
    assert_eq!((answer.status.as_u16(), answer.message().as_str()), (414, "The URL is too long"));

    let fields = |n: usize| -> String { (0..n).fold(String::new(), |head, n| head + &format!("x-{n}: y\r\n")) };
    let sized = |n: usize| format!("x: {}\r\n", "y".repeat(n));
    for (head, status) in [
        (fields(98), 401), // 100 fields with Host and Connection
        (fields(99), 431),
        (fields(300), 431),
        (sized(32 * 1024 - 21), 401), // 32 KiB with the names and values of Host and Connection
        (sized(32 * 1024 - 20), 431),
        (sized(60_000), 431),
    ] {
        let request = format!("GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{head}\r\n");
        let answer = raw(&server, request.as_bytes()).await;
        assert_eq!(answer.status, status, "{} bytes", request.len());
        assert_eq!(answer.json()["status"], "fail");
        if status == 431 {
            assert_eq!(answer.json()["message"], "The request header fields are too large");
        }
    }
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_replaced() {
    let server = TestServer::start();
    let longest = "x".repeat(64);
    for id in ["1", "4f2d6e1a-7c3b-4e55-9c1e-0a1b2c3d4e5f", "a.b_c:d/e+f=", "Root=1-67891233-abcdef", longest.as_str()]
    {
        let answer = server.get("/auth/user").header("x-request-id", id).send().await;
        assert_eq!(answer.header("x-request-id"), id);
        server.log().wait_for(id);
    }
    let too_long = "x".repeat(65);
    let mut made = std::collections::HashSet::new();
    for id in ["", " ", "a b", "a\"b", "<script>", "a\tb", "a,b", "a;b", "{}", "ä", "a%0ab", too_long.as_str()] {
        let answer = server.get("/auth/user").header("x-request-id", id).send().await;
        let kept = answer.header("x-request-id");
        assert_ne!(kept, id);
        assert!(kept.len() == 32 && kept.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}: {kept}");
        assert!(made.insert(kept.to_owned()), "an id is made once");
    }
    // Each response has a request id, also if no route matches.
    for path in ["//nope", "//", "/auth/login"] {
        let answer = server.get(path).header("x-request-id", "mine").send().await;
        assert_eq!(answer.header("x-request-id"), "mine", "{path}");
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_ascii_lowercase()).collect()
}

#[tokio::test]
async fn by_default_a_page_of_any_origin_may_call() {
    let server = TestServer::start();
    for origin in ["https://a.example", "http://localhost:3000", "null"] {
        for path in ["/auth/user", "//nope"] {
            let answer = server.get(path).header("origin", origin).send().await;
            assert_eq!(answer.header("access-control-allow-origin"), "*");
            let exposed = list(answer.header("access-control-expose-headers"));
            for name in ["link", "location", "total-count", "www-authenticate", "x-request-id"] {
                assert!(exposed.iter().any(|exposed| exposed == name), "{name}");
            }
            assert!(!answer.headers.contains_key("access-control-allow-credentials"));
        }
        let call = server.post("/auth/register").header("origin", origin);
        let email = format!("jo{}@example.com", origin.len());
        let answer = call.form(&[("email", &email), ("password", PASSWORD)]).await;
        assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (201, "*"));
    }
    for (path, method) in [("/auth/login", "POST"), ("/widgets/x", "PUT"), ("/widgets/x", "DELETE")] {
        let preflight = server.request(Method::OPTIONS, path).header("origin", "https://a.example");
        let preflight = preflight.header("access-control-request-method", method);
        let answer = preflight.header("access-control-request-headers", "authorization,content-type").send().await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(list(answer.header("access-control-allow-methods")).contains(&method.to_ascii_lowercase()));
        let headers = list(answer.header("access-control-allow-headers"));
        assert!(headers.contains(&"authorization".to_owned()) && headers.contains(&"content-type".to_owned()));
        assert!(answer.header("access-control-max-age").parse::<u32>().is_ok());
    }
    let answer = server.get("/auth/user").send().await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "nobody asked");
}

#[tokio::test]
async fn with_origins_set_only_their_pages_may_call() {
    let server = TestServer::with(&["--cors-origin", "https://a.example", "--cors-origin", "http://b.example:8080"]);
    let others = [
        "https://c.example",
        "http://a.example",
        "https://a.example:8443",
        "https://a.example.evil.example",
        "https://evil-a.example",
        "https://sub.a.example",
        "null",
        "*",
        "",
    ];
    let ours = ["https://a.example", "http://b.example:8080"];
    for (origin, allowed) in ours.iter().map(|origin| (origin, true)).chain(others.iter().map(|origin| (origin, false)))
    {
        let simple = server.get("/auth/user").header("origin", origin).send().await;
        assert_eq!(simple.status, 401, "there is an answer, whatever the origin");
        let preflight = server.request(Method::OPTIONS, "/auth/login").header("origin", origin);
        let preflight = preflight.header("access-control-request-method", "POST").send().await;
        for answer in [&simple, &preflight] {
            let vary: Vec<_> =
                answer.headers.get_all("vary").iter().flat_map(|vary| list(vary.to_str().unwrap())).collect();
            assert!(vary.contains(&"origin".to_owned()), "{origin}");
            if allowed {
                assert_eq!(answer.header("access-control-allow-origin"), *origin);
            } else {
                assert!(!answer.headers.contains_key("access-control-allow-origin"), "{origin}");
            }
        }
    }
    let answer = server.get("/auth/user").send().await;
    assert!(answer.header("vary").eq_ignore_ascii_case("origin"), "a cache must know, also without an origin");
}

#[tokio::test]
async fn what_is_no_http_does_no_harm() {
    let server = TestServer::start();
    let post = "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    let post = |rest: &str| format!("{post}{rest}").into_bytes();
    let broken: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\r\n\r\n\r\n\r\n".to_vec(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        (0..=255).collect(),
        b"hello\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET /api/v1/auth/user".to_vec(),
        b"GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nx: a\r\n folded\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nx: a\0b\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /api/v1/widgets/\xc3\x28 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET nope HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET ?x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03".to_vec(),
        post("Content-Length: -1\r\n\r\n"),
        post("Content-Length: x\r\n\r\n"),
        post("Content-Length: 99999999999999999999999\r\n\r\n"),
        post("Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        post("Content-Length: 2, 3\r\n\r\n{}"),
        post("Content-Length: 100\r\n\r\n{}"),
        post("Transfer-Encoding: gzip\r\n\r\n{}"),
        post("Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
        post("Transfer-Encoding: chunked\r\n\r\n2\r\n{}"),
        post("Transfer-Encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n"),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)).into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(1000)).into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(1_000_000)).into_bytes(),
    ];
    for bytes in &broken {
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(100)]);
        let answer = raw_to_the_end(&server, bytes).await;
        assert!(matches!(answer.status, 0 | 400..=499), "{what:?}: {}\n{}", answer.head, answer.body);
        if !answer.body.is_empty() {
            assert_eq!(answer.json()["status"], "fail", "{what:?}");
            assert!(answer.head.contains("\r\ncontent-type: application/json"), "{what:?}: {}", answer.head);
        }
        assert_eq!(server.get("/auth/user").send().await.status, 401, "the server goes on after {what:?}");
    }
    server.user("jo@example.com").await;
}

/// tokio would start up to 512 blocking threads, each of which takes memory.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_ask_for_a_page_at_once_do_not_get_a_thread_each() {
    let server = TestServer::start();
    let threads = || std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().count();
    let before = threads();
    let all = join_all((0..100).map(|_| server.get("/ui").send())).await;
    assert!(all.iter().all(|answer| answer.status == 200));
    // An idle thread stays for some seconds, so that the test would count it.
    assert!(threads() < before + 10, "{before} before, {} now", threads());
}
