//! A plain HTTP/1.1 client on one connection. It measures what a load generator does not report: the time of each response, its headers,
//! and its length on the wire.
//!
//! It blocks its thread, so that no other code delays a measured time. Deliberately absent: chunked bodies, because no measured response
//! has one.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, bail};

/// The maximum time of a response before the row fails.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client(BufReader<TcpStream>);

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Pairs of a name in lower case and a value.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The number of bytes of the whole response on the wire.
    pub(crate) bytes: usize,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> anyhow::Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Returns `None` if the server is busy and asks the client to retry later. Any other status than 200 is an error.
    pub(crate) fn unless_busy(self) -> anyhow::Result<Option<Self>> {
        if self.status == 503 && self.header("retry-after").is_some() { Ok(None) } else { self.ok().map(Some) }
    }

    pub(crate) fn ok(self) -> anyhow::Result<Self> {
        if self.status != 200 {
            bail!("answered {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(self)
    }
}

/// Returns the bytes of a request without a body.
pub(crate) fn bare_request(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    request(method, path, headers, "")
}

/// Returns the bytes of a request with a JSON body.
pub(crate) fn json_request(path: &str, body: &serde_json::Value) -> Vec<u8> {
    json_request_with(path, &[], body)
}

/// Like [`json_request`], with additional headers.
pub(crate) fn json_request_with(path: &str, headers: &[(&str, &str)], body: &serde_json::Value) -> Vec<u8> {
    let mut all = vec![("Content-Type", "application/json")];
    all.extend(headers);
    request("POST", path, &all, &body.to_string())
}

/// Returns the bytes of a request with a token.
pub(crate) fn with_token(method: &str, path: &str, token: &str) -> Vec<u8> {
    bare_request(method, path, &[("Authorization", &format!("Bearer {token}"))])
}

/// Returns the bytes of a login.
pub(crate) fn login(email: &str, password: &str) -> Vec<u8> {
    json_request("/api/v1/auth/login", &serde_json::json!({ "email": email, "password": password }))
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
    for (name, value) in headers {
        text.extend([name, ": ", value, "\r\n"]);
    }
    if method != "GET" {
        text.extend(["Content-Length: ", &body.len().to_string(), "\r\n"]);
    }
    text.extend(["\r\n", body]);
    text.into_bytes()
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request and reads the complete response.
    pub(crate) fn ask(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.0.get_mut().write_all(request)?;
        let mut line = String::new();
        let mut bytes = self.0.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no status in {line:?}"))?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            bytes += self.0.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new(), bytes };
        if ![204, 304].contains(&status) {
            let length = answer.header("content-length").context("no Content-Length")?.parse()?;
            answer.body.resize(length, 0);
            self.0.read_exact(&mut answer.body)?;
            answer.bytes += length;
        }
        Ok(answer)
    }
}

/// Sends one request on a new connection and returns the response.
pub(crate) fn once(address: SocketAddr, request: &[u8]) -> anyhow::Result<Answer> {
    Client::connect(address)?.ask(request)
}
