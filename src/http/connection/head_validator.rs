//! Validates request heads by the letter of RFC 9112, and finds where each request begins and ends.
//!
//! Guarantees: a head that another server could read differently is rejected: a line that ends in a bare LF, a folded line, more than
//! one length, a length beside a transfer coding, a coding other than `chunked` alone, more or fewer than one `Host`. Behind a proxy
//! such a difference lets one client's request hide in another's (request smuggling). hyper is lenient in these cases. This module does
//! not repeat what hyper rejects by itself, except for the number of fields: hyper's response to too many fields lacks the API's shape.

use std::mem;

/// The longest line that is kept while the rest of it is on its way. hyper refuses it as well.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The most fields of a header. hyper has places for as many without asking for memory.
const FIELDS_MAX: usize = 100;

/// Why a header is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Refusal {
    /// Another server could read it in another way.
    Malformed,
    /// It has more fields than are read.
    TooManyFields,
}

/// What came in.
#[derive(Default, PartialEq, Eq)]
pub(in crate::http) struct ReadOutcome {
    /// How many headers ended.
    pub(in crate::http) ended: u64,
    /// Whether the one behind them is refused.
    pub(in crate::http) refused: Option<Refusal>,
    /// Where the first field begins that is too many.
    pub(in crate::http) surplus: Option<usize>,
}

/// Follows the bytes of one connection.
#[derive(Default)]
pub(in crate::http) struct HeadValidator {
    position: Position,
    /// The beginning of a line whose end was not read yet.
    line: Vec<u8>,
    head: Head,
    /// How much is here of a request that is not complete.
    incomplete_bytes: u64,
}

#[derive(Default)]
enum Position {
    #[default]
    RequestLine,
    Fields,
    /// In a body, with so many bytes to come.
    Body(u64),
    /// Behind a malformed header, or in a body of unknown length: the connection ends with this request.
    Last,
}

#[derive(Default)]
struct Head {
    is_1_1: bool,
    fields: usize,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
}

impl HeadValidator {
    /// Whether nothing of a request is there.
    pub(in crate::http) fn is_between(&self) -> bool {
        matches!(self.position, Position::RequestLine) && self.line.is_empty()
    }

    /// How many bytes came of a request that is not complete.
    pub(in crate::http) fn incomplete_bytes(&self) -> u64 {
        self.incomplete_bytes
    }

    /// Takes what was read.
    pub(in crate::http) fn read(&mut self, all: &[u8]) -> ReadOutcome {
        let mut outcome = ReadOutcome::default();
        let mut bytes = all;
        while let Some(first) = bytes.first() {
            if self.begins_surplus(*first) {
                outcome.surplus = Some(all.len() - bytes.len());
                self.refuse(&mut outcome, Refusal::TooManyFields);
            }
            match &mut self.position {
                Position::Last => {
                    self.incomplete_bytes += bytes.len() as u64;
                    break;
                }
                Position::Body(left) => {
                    let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= here as u64;
                    self.incomplete_bytes += here as u64;
                    if *left == 0 {
                        self.position = Position::RequestLine;
                        self.incomplete_bytes = 0;
                    }
                    bytes = &bytes[here..];
                }
                Position::RequestLine | Position::Fields => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.line.extend_from_slice(bytes);
                        self.incomplete_bytes += bytes.len() as u64;
                        if self.line.len() > LINE_BYTES_MAX {
                            self.refuse(&mut outcome, Refusal::Malformed);
                        }
                        break;
                    };
                    let (here, rest) = bytes.split_at(end + 1);
                    bytes = rest;
                    self.incomplete_bytes += here.len() as u64;
                    let ended = if self.line.is_empty() {
                        self.read_line(here)
                    } else {
                        self.line.extend_from_slice(here);
                        let line = mem::take(&mut self.line);
                        self.read_line(&line)
                    };
                    match ended {
                        Some(true) => {
                            outcome.ended += 1;
                            if matches!(self.position, Position::RequestLine) {
                                self.incomplete_bytes = 0; // it has no body
                            }
                        }
                        Some(false) => {}
                        None => self.refuse(&mut outcome, Refusal::Malformed),
                    }
                }
            }
        }
        outcome
    }

    fn refuse(&mut self, outcome: &mut ReadOutcome, why: Refusal) {
        self.line = Vec::new();
        self.position = Position::Last;
        outcome.refused = Some(why);
    }

    /// Whether a line that begins with `first` is a field too many.
    fn begins_surplus(&self, first: u8) -> bool {
        let begins =
            matches!(self.position, Position::Fields) && self.line.is_empty() && !matches!(first, b'\r' | b'\n');
        begins && self.head.fields >= FIELDS_MAX
    }

    /// Whether the header ends with this line; `None` where it is malformed.
    fn read_line(&mut self, line: &[u8]) -> Option<bool> {
        let line = line.strip_suffix(b"\r\n")?;
        if matches!(self.position, Position::RequestLine) {
            // An empty line before a request is ignored (RFC 9112 §2.2).
            if !line.is_empty() {
                self.head = Head { is_1_1: line.ends_with(b" HTTP/1.1"), ..Head::default() };
                self.position = Position::Fields;
            }
            return Some(false);
        }
        if line.is_empty() {
            let Head { is_1_1, hosts, length, chunked, .. } = self.head;
            self.position = match (length, chunked) {
                (None | Some(0), false) => Position::RequestLine,
                (Some(length), false) => Position::Body(length),
                (None, true) => Position::Last,
                (Some(_), true) => return None,
            };
            // RFC 9112 §3.2; before 1.1 there was no Host, and no chunked either.
            return ((hosts == 1 || !is_1_1 && hosts == 0) && (is_1_1 || !chunked)).then_some(true);
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return None;
        }
        self.head.fields += 1;
        if let Some(value) = field(line, b"host") {
            self.head.hosts += 1;
            return is_host(value).then_some(false);
        }
        if let Some(value) = field(line, b"content-length") {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let length = str::from_utf8(value).ok().filter(|_| digits)?.parse().ok()?;
            return self.head.length.replace(length).is_none().then_some(false);
        }
        if let Some(value) = field(line, b"transfer-encoding") {
            let again = mem::replace(&mut self.head.chunked, true);
            return (!again && value.eq_ignore_ascii_case(b"chunked")).then_some(false);
        }
        Some(false)
    }
}

/// The value of the field `name`, in lowercase, where this is its line.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let named = line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name);
    named.then(|| line[name.len() + 1..].trim_ascii())
}

/// Whether it could be a host and a port, by its letters: proxies disagree about the others.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte))
}
