//! Valid tokens with random changes: none is accepted, causes an error of the server, or is logged.

use std::time::Instant;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::harness::TestServer;

/// The number of requests in flight, so that none waits for the one before.
const PIPELINED: usize = 100;

/// xorshift64*: the same changes in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % n
    }

    /// Returns a byte that is allowed in a header: with probability one half a base64 character, else any.
    fn byte(&mut self) -> u8 {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/";
        if self.below(2) == 0 {
            return alphabet[self.below(alphabet.len())];
        }
        let byte = u8::try_from(self.below(256)).unwrap();
        if byte < 0x20 || byte == 0x7f { b'.' } else { byte }
    }

    /// Applies one to four random changes to `token`. The result differs from `token`.
    fn damage(&mut self, token: &[u8]) -> Vec<u8> {
        loop {
            let mut bytes = token.to_vec();
            for _ in 0..=self.below(4) {
                let (from, to) = (self.below(bytes.len() + 1), self.below(bytes.len() + 1));
                let (from, to) = (from.min(to), from.max(to));
                match self.below(8) {
                    0 if from < bytes.len() => bytes[from] = self.byte(),
                    1 if from < bytes.len() => bytes[from] ^= 1 << self.below(5),
                    2 => bytes.insert(from, self.byte()),
                    3 if from < bytes.len() => drop(bytes.remove(from)),
                    4 => bytes.truncate(to),
                    5 => drop(bytes.drain(from..to)),
                    6 => bytes.extend_from_within(from..to),
                    7 => bytes[from..to].make_ascii_uppercase(),
                    _ => bytes.reverse(),
                }
            }
            bytes.retain(|byte| *byte >= 0x20 && *byte != 0x7f);
            if bytes.trim_ascii() != token && !bytes.trim_ascii().is_empty() {
                return bytes;
            }
        }
    }
}

/// Sends `count` damaged tokens over one connection and returns how many were refused. Fails if one was not.
async fn send(server: &TestServer, token: &str, count: usize) -> usize {
    let mut stream = TcpStream::connect(server.base.strip_prefix("http://").unwrap()).await.unwrap();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let (mut refused, mut unread) = (0, Vec::new());
    for _ in 0..count / PIPELINED {
        let mut requests = Vec::new();
        for _ in 0..PIPELINED {
            requests.extend_from_slice(b"GET /api/v1/auth/user HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ");
            requests.extend_from_slice(&dice.damage(token.as_bytes()));
            requests.extend_from_slice(b"\r\n\r\n");
        }
        let (mut from, mut to) = stream.split();
        let receive = async {
            for _ in 0..PIPELINED {
                assert_eq!(status(&mut from, &mut unread).await, 401);
            }
        };
        tokio::join!(async { to.write_all(&requests).await.unwrap() }, receive);
        refused += PIPELINED;
    }
    refused
}

/// Reads one response and returns its status.
async fn status(from: &mut (impl tokio::io::AsyncRead + Unpin), unread: &mut Vec<u8>) -> u16 {
    loop {
        if let Some(end) = unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8(unread[..end].to_vec()).unwrap().to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let whole = end + 4 + length.parse::<usize>().unwrap();
            if unread.len() >= whole {
                unread.drain(..whole);
                return head[9..12].parse().unwrap();
            }
        }
        assert!(from.read_buf(unread).await.unwrap() > 0, "the connection was closed");
    }
}

async fn refuses(count: usize) {
    let mut server = TestServer::start();
    let token = server.user("jo@example.com").await;
    let started = Instant::now();
    assert_eq!(send(&server, &token, count).await, count);
    println!("{count} damaged tokens refused in {:.0} s", started.elapsed().as_secs_f64());
    assert_eq!(server.status_of(&token).await, 200, "the token itself is still good");
    let log = server.log().clone();
    server.stop();
    let log = log.text();
    assert!(log.lines().filter(|line| line.contains("status=401")).count() >= count);
    // Damage leaves most of a token unchanged, so that a logged token would contain one of these parts.
    for part in token.as_bytes().chunks(16).filter(|part| part.len() == 16) {
        let part = std::str::from_utf8(part).unwrap();
        assert!(!log.contains(part), "a part of the token is in the log");
    }
}

#[tokio::test]
async fn twenty_thousand_damaged_tokens_are_refused_and_not_logged() {
    refuses(20_000).await;
}

#[tokio::test]
#[ignore = "long: a million requests"]
async fn a_million_damaged_tokens_are_refused_and_not_logged() {
    refuses(1_000_000).await;
}
