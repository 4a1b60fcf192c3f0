//! Reads text with or without a byte order mark, in UTF-8 or UTF-16, as UTF-8.

use std::io::{self, ErrorKind, Read};

/// How much is read at once at the start, so that the first line of a table is seen as a whole.
const START_BYTES: u64 = 8192;

/// A reader of UTF-8. Text that begins with a byte order mark of UTF-16 is converted.
pub struct TranscodingReader<R> {
    inner: R,
    encoding: Encoding,
    /// Bytes that were read and not yet returned.
    ready: Vec<u8>,
    /// Bytes of UTF-16 that are not yet a whole character.
    rest: Vec<u8>,
}

enum Encoding {
    Utf8,
    Utf16(fn([u8; 2]) -> u16),
}

impl<R: Read> TranscodingReader<R> {
    /// Reads the byte order mark, if there is one.
    ///
    /// # Errors
    /// Those of `inner`.
    pub fn new(mut inner: R) -> io::Result<Self> {
        let mut start = Vec::new();
        (&mut inner).take(START_BYTES).read_to_end(&mut start)?;
        let (encoding, mark) = match start[..] {
            [0xef, 0xbb, 0xbf, ..] => (Encoding::Utf8, 3),
            [0xff, 0xfe, ..] => (Encoding::Utf16(u16::from_le_bytes), 2),
            [0xfe, 0xff, ..] => (Encoding::Utf16(u16::from_be_bytes), 2),
            _ => (Encoding::Utf8, 0),
        };
        start.drain(..mark);
        let (ready, rest) = match encoding {
            Encoding::Utf8 => (start, Vec::new()),
            Encoding::Utf16(_) => (Vec::new(), start),
        };
        Ok(Self { inner, encoding, ready, rest })
    }

    /// Converts the next part of UTF-16.
    fn convert(&mut self, unit: fn([u8; 2]) -> u16) -> io::Result<()> {
        let invalid = || io::Error::new(ErrorKind::InvalidData, "the text is not valid UTF-16");
        while self.ready.is_empty() {
            let mut chunk = [0; 8192];
            let length = self.inner.read(&mut chunk)?;
            self.rest.extend_from_slice(&chunk[..length]);
            let mut units: Vec<u16> = self.rest.chunks_exact(2).map(|pair| unit([pair[0], pair[1]])).collect();
            if length > 0 && units.last().is_some_and(|last| (0xd800..0xdc00).contains(last)) {
                units.pop(); // the first half of a pair
            }
            if length == 0 && self.rest.len() % 2 == 1 {
                return Err(invalid());
            }
            self.rest.drain(..units.len() * 2);
            let text: Result<String, _> = char::decode_utf16(units).collect();
            self.ready = text.map_err(|_| invalid())?.into_bytes();
            if length == 0 {
                break;
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for TranscodingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() {
            match self.encoding {
                Encoding::Utf8 => return self.inner.read(buffer),
                Encoding::Utf16(unit) => self.convert(unit)?,
            }
        }
        let length = self.ready.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.ready[..length]);
        self.ready.drain(..length);
        Ok(length)
    }
}
