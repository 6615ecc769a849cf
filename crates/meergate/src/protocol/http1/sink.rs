//! The content of an HTTP/1 message as it is written to a connection.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_wire::{LAST_CHUNK, MAX_CHUNK_HEADER, chunk_header};
use icap_client::Frame;

use super::wire::{SharedWire, Writing};
use crate::exchange::Sink;

/// How content is delimited on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// The chunked coding.
    Chunked,
    /// By the end of the connection.
    Close,
    /// Exactly so many bytes.
    Length(u64),
    /// There is none; what comes is left out (the answer to a HEAD).
    Nothing,
}

/// Writes one message's content.
pub(crate) struct WireSink {
    wire: SharedWire,
    encoding: Encoding,
    trailers: Option<Bytes>,
    ended: bool,
}

impl WireSink {
    /// For the content after a head that waits in `wire` to be written.
    pub(super) fn new(wire: &SharedWire, encoding: Encoding) -> Self {
        let mut locked = wire.lock();
        if locked.writing == Writing::Between {
            locked.writing = Writing::Message;
        }
        drop(locked);
        Self { wire: wire.clone(), encoding, trailers: None, ended: false }
    }
}

impl Sink for WireSink {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.wire.lock();
        match wire.out.is_full() {
            true => wire.poll_flush(cx),
            false => Poll::Ready(Ok(())),
        }
    }

    fn push(&mut self, frame: Frame) -> io::Result<()> {
        let data = match frame {
            Frame::Data(data) => data,
            Frame::Trailers(trailers) => {
                self.trailers = Some(trailers);
                return Ok(());
            }
        };
        let out = &mut self.wire.lock().out;
        match &mut self.encoding {
            Encoding::Nothing => {}
            Encoding::Close => out.put_data(data),
            Encoding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or_else(|| wrong("more"))?;
                out.put_data(data);
            }
            Encoding::Chunked if data.is_empty() => {}
            Encoding::Chunked => {
                out.put(chunk_header(data.len(), &mut [0; MAX_CHUNK_HEADER]));
                out.put_data(data);
                out.put(http_wire::CRLF);
            }
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.lock().poll_flush(cx)
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.wire.lock();
        if !self.ended {
            self.ended = true;
            match (self.encoding, self.trailers.take()) {
                (Encoding::Length(1..), _) => return Poll::Ready(Err(wrong("less"))),
                (Encoding::Chunked, None) => wire.out.put(LAST_CHUNK),
                (Encoding::Chunked, Some(trailers)) => {
                    wire.out.put(b"0\r\n");
                    wire.out.put(&trailers);
                    wire.out.put(http_wire::CRLF);
                }
                (Encoding::Close, _) => wire.writing = Writing::Over,
                (Encoding::Length(0) | Encoding::Nothing, _) => {}
            }
        }
        ready!(wire.poll_flush(cx))?;
        if wire.writing == Writing::Message {
            wire.writing = Writing::Between;
        }
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.wire.lock().writing = Writing::Over;
    }
}

fn wrong(amount: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{amount} content than the head announces"))
}
