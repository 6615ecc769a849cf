//! A connection to an origin, of which the ServerHello is kept as it came, and no other handshake is taken.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flight::{Progress, ServerFlight};

/// What is said of an origin that begins another handshake.
const AGAIN: &str = "it asks for another TLS handshake (renegotiation) within the connection, as servers of TLS 1.2 do \
    that want a client's certificate for some paths: that can't be intercepted, and only a rule that bypasses the host leads there";

/// A connection, and the ServerHello that came on it.
#[derive(Debug)]
pub struct Recorded<S> {
    inner: S,
    record: Record,
    records: Records,
    /// A handshake is over, after which no other one may begin.
    is_settled: bool,
}

#[derive(Debug)]
enum Record {
    /// What came until now.
    Awaited {
        bytes: Vec<u8>,
        flight: ServerFlight,
    },
    Hello(Vec<u8>),
    /// None came, or it was taken.
    Nothing,
}

impl<S> Recorded<S> {
    /// Records what comes on `inner` from here on.
    pub fn new(inner: S) -> Self {
        let record = Record::Awaited { bytes: Vec::new(), flight: ServerFlight::default() };
        Self { inner, record, records: Records::default(), is_settled: false }
    }

    /// The ServerHello, with its header, if one came that can be read. Nothing is recorded any more.
    pub fn take_hello(&mut self) -> Option<Vec<u8>> {
        match std::mem::replace(&mut self.record, Record::Nothing) {
            Record::Hello(hello) => Some(hello),
            Record::Awaited { .. } | Record::Nothing => None,
        }
    }

    /// From here on the origin may begin no other handshake. TLS 1.2 lets it ask for one, and then it says nothing
    /// until it has it; rustls begins none, and does not tell.
    pub fn settle(&mut self) {
        self.is_settled = true;
    }
}

/// Where records begin (RFC 5246 section 6.2.1). Their heads are in the clear.
#[derive(Debug, Default)]
struct Records {
    head: [u8; 5],
    /// Bytes of the head that came.
    came: usize,
    /// Bytes of the record that are still to come.
    left: usize,
}

impl Records {
    /// Whether a record of a handshake begins in what came next.
    fn begin_handshake(&mut self, mut bytes: &[u8]) -> bool {
        const HANDSHAKE: u8 = 22;
        let mut begins = false;
        while !bytes.is_empty() {
            let rest = self.left.min(bytes.len());
            bytes = &bytes[rest..];
            self.left -= rest;
            let head = (self.head.len() - self.came).min(bytes.len());
            self.head[self.came..self.came + head].copy_from_slice(&bytes[..head]);
            begins |= self.came == 0 && bytes.first() == Some(&HANDSHAKE);
            bytes = &bytes[head..];
            self.came += head;
            if self.came == self.head.len() {
                self.left = usize::from(u16::from_be_bytes([self.head[3], self.head[4]]));
                self.came = 0;
            }
        }
        begins
    }
}

impl Record {
    fn add(&mut self, came: &[u8]) {
        let Self::Awaited { bytes, flight } = self else { return };
        bytes.extend_from_slice(came);
        let read = loop {
            match flight.read(bytes) {
                // Asked for another one by the TLS library, which says it.
                Ok(Progress::Retry) => {}
                other => break other,
            }
        };
        match (flight.hello(), read) {
            (Some(hello), _) => *self = Self::Hello(hello.to_vec()),
            (None, Ok(Progress::Partial | Progress::Retry)) => {}
            (None, Ok(Progress::Complete) | Err(_)) => *self = Self::Nothing,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let Self { record, records, .. } = &mut *self;
        let came = &buf.filled()[before..];
        record.add(came);
        if records.begin_handshake(came) && self.is_settled {
            return Poll::Ready(Err(io::Error::other(AGAIN)));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[test]
    fn beginnings_of_handshakes_are_found_however_they_are_cut() {
        let data = b"\x17\x03\x03\0\x03\x16\x16\x16";
        let again = b"\x16\x03\x03\0\x01a";
        let empty = b"\x17\x03\x03\0\0";
        for (bytes, expected) in [
            ([&data[..], data].concat(), false),
            ([&data[..], empty, again].concat(), true),
            ([&again[..], data].concat(), true),
            (empty.repeat(3), false),
        ] {
            for size in 1..=bytes.len() {
                let mut records = Records::default();
                let found: Vec<_> =
                    bytes.chunks(size).map(|piece| records.begin_handshake(piece)).collect();
                assert_eq!(found.contains(&true), expected, "{bytes:?} in pieces of {size}");
            }
        }
    }

    #[tokio::test]
    async fn an_origin_begins_no_other_handshake() {
        let bytes = b"\x16\x03\x03\0\x01a\x17\x03\x03\0\x01b\x16\x03\x03\0\x01c";
        let mut recorded = Recorded::new(&bytes[..]);
        recorded.read_exact(&mut [0; 6]).await.unwrap();
        recorded.settle();
        recorded.read_exact(&mut [0; 6]).await.unwrap();
        let error = recorded.read(&mut [0; 6]).await.unwrap_err();
        assert!(error.to_string().contains("renegotiation"), "{error}");
    }
}
