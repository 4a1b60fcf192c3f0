//! Validates request heads strictly by RFC 9112, and finds where each request begins and ends.
//!
//! Guarantees: a head that another server could read differently is rejected: a line that ends in a bare LF, a folded line, more than
//! one length, a length beside a transfer coding, a coding other than `chunked` alone, more or fewer than one `Host`. Behind a proxy
//! such a difference lets one client's request hide in another's (request smuggling). hyper is lenient in these cases. This module does
//! not repeat what hyper rejects by itself, except for the number of fields: hyper's response to too many fields lacks the API's shape.

use std::mem;

/// The longest incomplete line that is kept, in bytes. hyper rejects a longer one too.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// The maximum number of header fields. hyper parses as many without allocating.
const FIELDS_MAX: usize = 100;

/// Why a request head is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Refusal {
    /// It is malformed, or another server could interpret it differently.
    Malformed,
    /// It has more than [`FIELDS_MAX`] fields.
    TooManyFields,
}

/// The result of reading some bytes.
#[derive(Default, PartialEq, Eq)]
pub(in crate::http) struct ReadOutcome {
    /// The number of request heads that ended in these bytes.
    pub(in crate::http) ended: u64,
    /// Why the head after those is rejected, if it is.
    pub(in crate::http) refused: Option<Refusal>,
    /// The offset of the first field beyond the maximum.
    pub(in crate::http) surplus: Option<usize>,
}

/// The state of parsing the bytes of one connection.
#[derive(Default)]
pub(in crate::http) struct HeadValidator {
    position: Position,
    /// The start of a line whose end has not arrived yet.
    line: Vec<u8>,
    head: Head,
    /// The number of bytes received of an incomplete request.
    incomplete_bytes: u64,
}

#[derive(Default)]
enum Position {
    #[default]
    RequestLine,
    Fields,
    /// In a body, with the number of missing bytes.
    Body(u64),
    /// After a rejected head, or in a body of unknown length: the connection closes after this request.
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
    /// Whether no byte of a next request has arrived.
    pub(in crate::http) fn is_between(&self) -> bool {
        matches!(self.position, Position::RequestLine) && self.line.is_empty()
    }

    /// Returns the number of bytes received of an incomplete request.
    pub(in crate::http) fn incomplete_bytes(&self) -> u64 {
        self.incomplete_bytes
    }

    /// Parses the next bytes of the connection.
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

    /// Whether a line that starts with the byte `first` is a field beyond the maximum.
    fn begins_surplus(&self, first: u8) -> bool {
        let begins =
            matches!(self.position, Position::Fields) && self.line.is_empty() && !matches!(first, b'\r' | b'\n');
        begins && self.head.fields >= FIELDS_MAX
    }

    /// Parses a line. Returns whether the head ends with it, or `None` if it is malformed.
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
            // RFC 9112 §3.2. HTTP/1.0 has neither `Host` nor `chunked`.
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

/// Returns the value of the field `name` (in lower case), or `None` if this is the line of another field.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let named = line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name);
    named.then(|| line[name.len() + 1..].trim_ascii())
}

/// Whether all characters may occur in a host and port. Proxies disagree about others.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte))
}
