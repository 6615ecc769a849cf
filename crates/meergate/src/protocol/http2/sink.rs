//! The content of an HTTP/2 stream as it is written.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use icap_client::Frame;

use super::head;
use crate::exchange::Sink;

/// Bytes asked of the receiver's window at once.
const PIECE: usize = 64 * 1024;

/// Writes one stream's content, as fast as the receiver's window opens and no faster.
pub(crate) struct StreamSink {
    /// `None` if the message ended with its head.
    stream: Option<SendStream<Bytes>>,
    waiting: Bytes,
    trailers: Option<Bytes>,
    ended: bool,
}

impl StreamSink {
    pub(super) fn new(stream: Option<SendStream<Bytes>>) -> Self {
        Self { stream, waiting: Bytes::new(), trailers: None, ended: false }
    }

    /// Sends what waits; with the end of the stream in the last frame if `end`.
    fn poll_send(&mut self, cx: &mut Context<'_>, end: bool) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        while !self.waiting.is_empty() {
            if stream.capacity() == 0 {
                stream.reserve_capacity(self.waiting.len().min(PIECE));
            }
            let room = match stream.capacity() {
                0 => match ready!(stream.poll_capacity(cx)) {
                    None => return Poll::Ready(Err(closed())),
                    Some(room) => room.map_err(io::Error::other)?,
                },
                room => room,
            };
            let piece = self.waiting.split_to(room.min(self.waiting.len()));
            let last = end && self.waiting.is_empty();
            stream.send_data(piece, last).map_err(io::Error::other)?;
            self.ended |= last;
        }
        Poll::Ready(Ok(()))
    }
}

impl Sink for StreamSink {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx, false)
    }

    fn push(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Data(data) => self.waiting = data,
            Frame::Trailers(trailers) => self.trailers = Some(trailers),
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, false))?;
        // A receiver that is not interested any more says so while nothing is sent, too.
        if let Some(stream) = &mut self.stream
            && !self.ended
            && let Poll::Ready(reset) = stream.poll_reset(cx)
        {
            return Poll::Ready(Err(reset.map_or_else(io::Error::other, |_| closed())));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let trailers = self.trailers.is_some();
        ready!(self.poll_send(cx, !trailers))?;
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        if !std::mem::replace(&mut self.ended, true) {
            match self.trailers.take() {
                Some(lines) => stream.send_trailers(head::to_trailers(&lines)),
                None => stream.send_data(Bytes::new(), true),
            }
            .map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        if let Some(stream) = &mut self.stream
            && !self.ended
        {
            stream.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the receiver closed the stream")
}
