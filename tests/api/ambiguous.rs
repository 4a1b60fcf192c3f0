//! Requests that two servers could interpret differently. `wire` sends them directly to the server, and `proxied` sends them through
//! proxies.

/// The beginning of a login, without the end of its header section and without a body.
pub(crate) const POST: &str = "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";

/// Header fields that state the coding `chunked`, or that a parser could misread as such.
const CODINGS: [&str; 23] = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: cow",
    "Transfer-Encoding: identity",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding:\0chunked",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked, cow",
    "Transfer-Encoding: cow, chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding\r\n: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    " Transfer-Encoding: chunked",
    "x: y\nTransfer-Encoding: chunked",
    "x: y\rTransfer-Encoding: chunked",
    "\x0bTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
];

/// Requests that must all be rejected.
pub(crate) fn ambiguous() -> Vec<String> {
    let get = |fields: &str| format!("GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let post = |fields: &str, body: &str| format!("{POST}{fields}\r\n{body}");
    Vec::from([
        // Missing, repeated and invalid Host fields.
        "GET /api/v1/auth/user HTTP/1.1\r\n\r\n".to_owned(),
        get("Host: a\r\n"),
        get("host: b\r\n"),
        "GET /api/v1/auth/user HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        "GET /api/v1/auth/user HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(),
        "GET /api/v1/auth/user HTTP/1.1\r\nHost: a,b\r\n\r\n".to_owned(),
        "GET /api/v1/auth/user HTTP/1.1\r\nHost: u@b\r\n\r\n".to_owned(),
        // Line ends other than CRLF, empty first lines, and folded lines.
        "GET /api/v1/auth/user HTTP/1.1\nHost: a\r\n\r\n".to_owned(),
        "GET /api/v1/auth/user HTTP/1.1\r\nHost: a\n\r\n".to_owned(),
        "GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\n\n".to_owned(),
        "\nGET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
        "GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\nx: y\n\r\n".to_owned(),
        get("x: a\rb\r\n"),
        get("x: y\r\n z\r\n"),
        get("x: y\r\n\tz\r\n"),
        "GET /api/v1/auth/user HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n".to_owned(),
        // Malformed header fields.
        "GET /api/v1/auth/user HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
        get("x y: z\r\n"),
        get(": z\r\n"),
        get("x\r\n"),
        get("x: \0\r\n"),
        post("Content-Length : 2\r\n", "{}"),
        post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"),
        // Ambiguous lengths and codings of a body.
        post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"),
        post("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"),
        post("Content-Length: 2, 2\r\n", "{}"),
        post("Content-Length: +2\r\n", "{}"),
        post("Content-Length: -2\r\n", "{}"),
        post("Content-Length: 0x2\r\n", "{}"),
        post("Content-Length: 2 0\r\n", "{}"),
        post("Content-Length: \r\n", "{}"),
        post("Content-Length: 2.0\r\n", "{}"),
        post("Content-Length: 18446744073709551616\r\n", "{}"),
        post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: identity, chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: gzip, chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked, chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked, identity\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: xchunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: \"chunked\"\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: \x0bchunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\x0b\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: ,chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: identity\r\nContent-Length: 2\r\n", "{}"),
        post("Transfer-Encoding: chunked\r\n", "2\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "2\r\n{}\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "2;\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "0x2\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\n", "+2\r\n{}\r\n0\r\n\r\n"),
        "POST /api/v1/auth/login HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned(),
    ])
}

/// Returns attacks that are known from research on request smuggling. Each request contains `smuggled`. A server that finds the end of the
/// request elsewhere takes `smuggled` for the next request.
pub(crate) fn hiding(smuggled: &str) -> Vec<String> {
    let post = |fields: &str, body: &str| format!("{POST}{fields}\r\n{body}");
    let ended = format!("0\r\n\r\n{smuggled}");
    let chunked = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let length = smuggled.len();
    // The length of the whole body, and that of the line with the size of its first chunk.
    let (all, first) = (ended.len(), chunked.find('\n').unwrap() + 1);
    let mut found = Vec::new();
    // CL.TE, TE.CL, and TE.TE: either the proxy or the server does not recognize the coding.
    for coding in CODINGS {
        found.push(post(&format!("Content-Length: {all}\r\n{coding}\r\n"), &ended));
        found.push(post(&format!("{coding}\r\nContent-Length: {first}\r\n"), &chunked));
        found.push(post(&format!("{coding}\r\n"), &chunked));
    }
    // A length that either the proxy or the server does not see.
    for line in [
        "Content-Length : N",
        "Content-Length: +N",
        "Content-Length: N, 0",
        "Content-Length:\r\n N",
        "Content_Length: N",
        "x: y\nContent-Length: N",
        "Content-Length: 0\r\nContent-Length: N",
        "Content-Length: N\r\nContent-Length: 0",
        "Content-Length: N\r\nConnection: Content-Length",
        "Content-Length: N\r\nConnection: close, Content-Length",
        "Content-Length: N\r\nExpect: 100-continue",
        "Content-Length: N\r\nExpect: x 100-continue",
        "Content-Length: N\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "Content-Length: N\r\nConnection: Upgrade\r\nUpgrade: websocket",
    ] {
        found.push(post(&(line.replace('N', &length.to_string()) + "\r\n"), smuggled));
    }
    // CL.0: a body in a request for which a server may expect none.
    for target in ["GET /", "GET /api/v1/auth/user", "HEAD /", "OPTIONS *", "DELETE /api/v1/auth/user", "POST /healthz"]
    {
        found.push(format!("{target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"));
        found.push(format!("{target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"));
    }
    // HTTP/1.0 has no transfer coding.
    for fields in ["", "Connection: keep-alive\r\n"] {
        let head = format!("POST /api/v1/auth/login HTTP/1.0\r\nHost: a\r\n{fields}Transfer-Encoding: chunked\r\n");
        found.push(format!("{head}\r\n{ended}"));
        found.push(format!("{head}Content-Length: {all}\r\n\r\n{ended}"));
        found.push(format!("{head}Content-Length: {first}\r\n\r\n{chunked}"));
    }
    // Malformed chunks: their line ends, their sizes, and the bytes after the last chunk.
    for chunks in [
        format!("2;\nxx\r\n{:x}\r\n0\r\n\r\n{smuggled}\r\n0\r\n\r\n", length + 5),
        format!("{:x};\nxx\r\n0\r\n\r\n{smuggled}\r\n0\r\n\r\n", length + 5),
        format!("2;a=b\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("2\nxx\n0\n\n{smuggled}"),
        format!("2\rxx\r0\r\r{smuggled}"),
        format!("2\r\nxxxx0\r\n\r\n{smuggled}"),
        format!("2 \r\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("2\t;a\r\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("10000000000000002\r\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("100000002\r\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("ffffffffffffffff\r\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("-1\r\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("0x2\r\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("\r\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("0_2\r\nxx\r\n0\r\n\r\n{smuggled}"),
        format!("0\r\n{smuggled}"),
        format!("0\r\nx: y\r\n{smuggled}"),
        format!("0\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!("0\n\n{smuggled}"),
        format!("0;a\n\r\n{smuggled}"),
        format!("0\r\n\r{smuggled}"),
    ] {
        found.push(post("Transfer-Encoding: chunked\r\n", &chunks));
    }
    // A request that is hidden in the request line, or that replaces the end of the header section.
    for hidden in [
        format!(
            "GET /?%0d%0a%0d%0a{} HTTP/1.1\r\nHost: a\r\n\r\n",
            smuggled.replace("\r\n", "%0d%0a").replace(' ', "%20")
        ),
        format!("GET / HTTP/1.1\r\nHost: a\r\nx: y\n\n{smuggled}"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nx: y\r\r{smuggled}"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n\x0b\r\n{smuggled}"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nx:\0\r\n\r\n{smuggled}"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{smuggled}"),
        format!("GET http://b/ HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!("GET / HTTP/0.9\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!("GET / HTTP/1.2\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!("GET / HTTP/2.0\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        format!("GET /\r\n{smuggled}"),
    ] {
        found.push(hidden);
    }
    found
}
