//! The client address: that of the connection, or the one in `X-Forwarded-For` of a trusted proxy.

use super::harness::{PASSWORD, TestServer};

/// Sends a login with these `X-Forwarded-For` headers. Returns the client address in the access log and in the audit stream.
async fn client(server: &TestServer, id: &str, forwarded: &[&[u8]]) -> String {
    let mut call = server.post("/auth/login").header("x-request-id", id);
    for value in forwarded {
        call = call.header_value("x-forwarded-for", reqwest::header::HeaderValue::from_bytes(value).unwrap());
    }
    call.form(&[("email", "jo@example.com"), ("password", PASSWORD)]).await;
    let answered = format!("answered id=\"{id}\" method=POST route=\"/api/v1/auth/login\" client=");
    server.log().wait_for(&answered);
    let log = server.log().text();
    let of = |start: &str, end: char| {
        let (_, rest) = log.rsplit_once(start).unwrap();
        rest.split(end).next().unwrap().to_owned()
    };
    let client = of(&answered, ' ');
    assert_eq!(of("event=login_failed email=jo@example.com client=", '\n'), client);
    client
}

#[tokio::test]
async fn without_a_trusted_proxy_the_header_changes_nothing() {
    for settings in [&[][..], &["--trusted-proxy", "10.0.0.0/8,::1", "--trusted-proxy", "127.0.0.2"]] {
        let server = TestServer::with(&[settings, &["--login-limit", "5/1h"]].concat());
        for (n, value) in ["192.0.2.1", "10.0.0.1", "127.0.0.2", "garbage", ""].iter().enumerate() {
            assert_eq!(client(&server, &format!("id-{n}"), &[value.as_bytes()]).await, "127.0.0.1", "{value}");
        }
        let spoofed = server.post("/auth/login").header("x-forwarded-for", "192.0.2.99");
        let answer = spoofed.form(&[("email", "jo@example.com"), ("password", PASSWORD)]).await;
        assert_eq!(answer.status, 429, "all of them were one client");
    }
}

#[tokio::test]
async fn the_client_is_the_first_from_the_right_that_is_no_trusted_proxy() {
    let server = TestServer::with(&["--trusted-proxy", "127.0.0.1,10.0.0.0/8", "--trusted-proxy", "2001:db8::/32"]);
    let cases: [(&[&[u8]], &str); 21] = [
        (&[], "127.0.0.1"),
        (&[b"192.0.2.1"], "192.0.2.1"),
        (&[b"192.0.2.9, 192.0.2.1"], "192.0.2.1"),
        (&[b"192.0.2.9,192.0.2.1,10.1.2.3"], "192.0.2.1"),
        (&[b"192.0.2.1 ,\t10.1.2.3 , 10.3.2.1"], "192.0.2.1"),
        // If all addresses are trusted, the client is the farthest one.
        (&[b"10.0.0.7, 10.1.2.3"], "10.0.0.7"),
        // Several headers form one list.
        (&[b"192.0.2.1", b"10.1.2.3"], "192.0.2.1"),
        (&[b"192.0.2.9, 192.0.2.1", b"10.1.2.3, 10.3.2.1"], "192.0.2.1"),
        (&[b"10.1.2.3", b"192.0.2.1"], "192.0.2.1"),
        // The evaluation ends at an entry that cannot be parsed. The client is then the proxy that wrote this entry.
        (&[b"192.0.2.1, garbage"], "127.0.0.1"),
        (&[b"192.0.2.1, garbage, 10.1.2.3"], "10.1.2.3"),
        (&[b"192.0.2.1,,10.1.2.3"], "10.1.2.3"),
        (&[b"192.0.2.1", b"", b"10.1.2.3"], "10.1.2.3"),
        (&[b"192.0.2.1", b"\xff\xfe", b"10.1.2.3"], "10.1.2.3"),
        (&[b"192.0.2.1, unknown"], "127.0.0.1"),
        (&[b"192.0.2.256"], "127.0.0.1"),
        // Addresses in other notations.
        (&[b"192.0.2.1:1234"], "192.0.2.1"),
        (&[b"[2001:db9::1]:1234, 2001:db8::1"], "2001:db9::1"),
        (&[b"2001:DB9:0::1"], "2001:db9::1"),
        (&[b"::ffff:192.0.2.1"], "192.0.2.1"),
        (&[b"192.0.2.1, ::ffff:10.1.2.3"], "192.0.2.1"),
    ];
    for (n, (forwarded, expected)) in cases.into_iter().enumerate() {
        assert_eq!(client(&server, &format!("id-{n}"), forwarded).await, expected, "case {n}");
    }
}
