//! Where requests begin and end, read by the letter of RFC 9112.
//!
//! Guarantees: a header that another server could read in another way is found: lines that end in a bare LF, folded lines, more than
//! one length, a length beside a transfer coding, a coding that is not `chunked` alone, more or less than one `Host`. Behind a
//! proxy such a difference lets one client's request hide in another's (request smuggling). hyper parses for us and is
//! lenient in these; what it refuses by itself is not looked for here.

use std::mem;

/// The longest line that is kept while the rest of it is on its way. hyper refuses it as well.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What came in: how many headers ended, and whether the one behind them is malformed.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) ended: u64,
    pub(super) malformed: bool,
}

/// Follows the bytes of one connection.
#[derive(Default)]
pub(super) struct Heads {
    place: Place,
    /// The beginning of a line whose end was not read yet.
    line: Vec<u8>,
    head: Head,
}

#[derive(Default)]
enum Place {
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
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
}

impl Heads {
    /// Whether nothing of a request is there.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.place, Place::RequestLine) && self.line.is_empty()
    }

    /// Takes what was read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !bytes.is_empty() {
            match &mut self.place {
                Place::Last => break,
                Place::Body(left) => {
                    let here = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    *left -= here as u64;
                    if *left == 0 {
                        self.place = Place::RequestLine;
                    }
                    bytes = &bytes[here..];
                }
                Place::RequestLine | Place::Fields => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.line.extend_from_slice(bytes);
                        if self.line.len() > LINE_BYTES_MAX {
                            self.malformed(&mut seen);
                        }
                        break;
                    };
                    let (here, rest) = bytes.split_at(end + 1);
                    bytes = rest;
                    let ended = if self.line.is_empty() {
                        self.read_line(here)
                    } else {
                        self.line.extend_from_slice(here);
                        let line = mem::take(&mut self.line);
                        self.read_line(&line)
                    };
                    match ended {
                        Some(true) => seen.ended += 1,
                        Some(false) => {}
                        None => self.malformed(&mut seen),
                    }
                }
            }
        }
        seen
    }

    fn malformed(&mut self, seen: &mut Seen) {
        self.line = Vec::new();
        self.place = Place::Last;
        seen.malformed = true;
    }

    /// Whether the header ends with this line; `None` where it is malformed.
    fn read_line(&mut self, line: &[u8]) -> Option<bool> {
        let line = line.strip_suffix(b"\r\n")?;
        if matches!(self.place, Place::RequestLine) {
            // An empty line before a request is ignored (RFC 9112 §2.2).
            if !line.is_empty() {
                self.head = Head { is_1_1: line.ends_with(b" HTTP/1.1"), ..Head::default() };
                self.place = Place::Fields;
            }
            return Some(false);
        }
        if line.is_empty() {
            let Head { is_1_1, hosts, length, chunked } = self.head;
            self.place = match (length, chunked) {
                (None | Some(0), false) => Place::RequestLine,
                (Some(length), false) => Place::Body(length),
                (None, true) => Place::Last,
                (Some(_), true) => return None,
            };
            // RFC 9112 §3.2; before 1.1 there was no Host, and no chunked either.
            return ((hosts == 1 || !is_1_1 && hosts == 0) && (is_1_1 || !chunked)).then_some(true);
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return None;
        }
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
