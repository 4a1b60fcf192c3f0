//! The byte stream of a connection between the socket and hyper. It validates request heads and closes the connection in order.
//!
//! Guarantees: the connection's state knows when a head begins and ends, whether it is malformed, and when the client has read a
//! response. A client that is still sending when the server responds (413 to a large upload, 401 to an unread body) can read that
//! response. An immediate close would reset the connection because of its unread data, and the client's system would then discard what
//! it has received (RFC 9112 §9.6). A stopping server does not wait here, because it closes idle connections only.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::http::connection::{
    head_validator::{HeadValidator, ReadOutcome},
    limits::ConnectionState,
};

/// The empty line that ends a head.
const END_OF_HEADER: &[u8] = b"\r\n";

/// How long the server reads and discards what a client still sends after the last response.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// How many bytes it reads and discards then. A client that sends more is not waiting for a response.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A stream whose request heads are validated, and whose shutdown closes the sending side and then waits until the client closes its
/// side.
pub(in crate::http) struct ValidatedStream<S> {
    stream: S,
    connection_state: Arc<ConnectionState>,
    heads: HeadValidator,
    /// The number of responses that were flushed.
    taken: u64,
    until: Option<Pin<Box<Sleep>>>,
    thrown_away: usize,
    /// Bytes that hyper reads next in place of header fields beyond the maximum.
    owed: &'static [u8],
}

impl<S> ValidatedStream<S> {
    pub(in crate::http) fn new(stream: S, connection_state: Arc<ConnectionState>) -> Self {
        Self {
            stream,
            connection_state,
            heads: HeadValidator::default(),
            taken: 0,
            until: None,
            thrown_away: 0,
            owed: &[],
        }
    }

    /// Validates received bytes. Returns the offset from which hyper must not see them, if there is one.
    ///
    /// # Errors
    /// `OutOfMemory` if too many incomplete requests are buffered.
    fn validate(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let was_between = self.heads.is_between();
        let ReadOutcome { ended, refused, surplus } = self.heads.read(bytes);
        if ended > 0 {
            self.connection_state.heads_ended(ended);
        } else if was_between && !self.heads.is_between() {
            self.connection_state.head_began();
        }
        if let Some(why) = refused {
            self.connection_state.head_is_refused(why);
        }
        if self.connection_state.keep(self.heads.incomplete_bytes()) {
            Ok(surplus)
        } else {
            Err(io::ErrorKind::OutOfMemory.into())
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ValidatedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.owed.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
            let Some(surplus) = self.validate(&buffer.filled()[before..])? else { return Poll::Ready(Ok(())) };
            buffer.set_filled(before + surplus);
            self.owed = END_OF_HEADER;
        }
        let (now, later) = self.owed.split_at(self.owed.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.owed = later;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ValidatedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // hyper flushes when the operating system has taken the whole response.
        let answers = self.connection_state.answers();
        if self.taken != answers {
            self.taken = answers;
            self.connection_state.settled(self.heads.is_between());
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.until.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        let Self { stream, connection_state, until, thrown_away, .. } = &mut *self;
        let until = until.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER_MAX)));
        let mut bytes = [0; 8 * 1024];
        loop {
            if connection_state.is_last() || *thrown_away > LINGER_BYTES_MAX || until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut bytes);
            // An error ends it too: the response was sent, and the connection has no other purpose any more.
            if ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer)).is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            *thrown_away += buffer.filled().len();
        }
    }
}
