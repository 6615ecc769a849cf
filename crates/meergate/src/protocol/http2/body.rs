//! The content of an HTTP/2 stream as it is read.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use h2::RecvStream;
use icap_client::{Body, BodyError, BodySource, Frame};

use super::client::Back;
use super::head;
use super::windows::Room;
use crate::exchange::{Counted, Progress};

/// Reads one stream's content. The sender's window opens again only as frames are taken: a slow
/// taker slows this stream, and no other.
pub(super) struct StreamBody {
    stream: RecvStream,
    length: Option<u64>,
    data_ended: bool,
    done: bool,
    progress: Arc<Progress>,
    counted: Counted,
    /// Until the content has ended, or nobody wants it any more.
    room: Option<Room>,
    /// Who is told that the content is wanted, if its sender may wait for that.
    back: Option<Back>,
}

impl StreamBody {
    /// The content of `stream`, or `None` if it has ended already; `length` is what the head states.
    /// Its sender is told by `back` once somebody wants it.
    pub(super) fn begin(
        stream: RecvStream,
        length: Option<u64>,
        progress: &Arc<Progress>,
        counted: Counted,
        room: Room,
        back: Option<Back>,
    ) -> Option<Body> {
        if stream.is_end_stream() {
            return None;
        }
        let progress = progress.clone();
        let room = Some(room);
        let (data_ended, done) = (false, false);
        Some(Box::pin(Self { stream, length, data_ended, done, progress, counted, room, back }))
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame>, BodyError>> {
        loop {
            let data = match self.stream.poll_data(cx) {
                Poll::Pending => {
                    if let Some(back) = self.back.take() {
                        back.ask();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(data)) => data.map_err(BodyError::source)?,
            };
            // It came unasked.
            self.back = None;
            if data.is_empty() {
                continue;
            }
            let bytes = data.len() as u64;
            self.stream.flow_control().release_capacity(data.len()).map_err(BodyError::source)?;
            self.progress.add(self.counted, bytes);
            if let Some(left) = &mut self.length {
                *left = left.checked_sub(bytes).ok_or_else(|| wrong("more"))?;
            }
            return Poll::Ready(Ok(Some(Frame::Data(data))));
        }
    }
}

impl BodySource for StreamBody {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        if !this.data_ended {
            match ready!(this.poll_data(cx)) {
                Err(e) => return Poll::Ready(Some(Err(e))),
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if this.length.is_some_and(|left| left > 0) => {
                    return Poll::Ready(Some(Err(wrong("less"))));
                }
                Ok(None) => {
                    this.data_ended = true;
                    this.room = None;
                }
            }
        }
        let trailers = ready!(this.stream.poll_trailers(cx));
        this.done = true;
        match trailers {
            Err(e) => Poll::Ready(Some(Err(BodyError::source(e)))),
            Ok(None) => Poll::Ready(None),
            Ok(Some(trailers)) => match head::trailer_lines(&trailers) {
                Ok(lines) if lines.is_empty() => Poll::Ready(None),
                Ok(lines) => Poll::Ready(Some(Ok(Frame::Trailers(lines)))),
                Err(e) => Poll::Ready(Some(Err(BodyError::source(e)))),
            },
        }
    }

    fn exact_length(&self) -> Option<u64> {
        self.length
    }
}

fn wrong(amount: &str) -> BodyError {
    BodyError::source(std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        format!("{amount} content than the head announces"),
    ))
}
