//! The content of an HTTP/1 message as it is read from a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_wire::{ChunkEvent, ChunkedDecoder, Framing};
use icap_client::{Body, BodyError, BodySource, Frame};

use super::wire::{Reading, SharedWire, Wire};
use crate::config::Responses;
use crate::exchange::{Counted, Progress};
use crate::io::BLOCK;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Reads one message's content. When it is dropped early the connection stays marked as being in a
/// body, so that what is left of it is never taken for the next message.
pub(super) struct WireBody {
    wire: SharedWire,
    left: Left,
    progress: Arc<Progress>,
    counted: Counted,
}

/// Whose content it is.
#[derive(Clone, Copy)]
pub(super) enum Sender {
    /// A client's, which `continues` once it is told 100 (Continue).
    Client { continues: bool },
    /// An origin's, whose chunks are read so.
    Origin(Responses),
}

enum Left {
    Chunked(ChunkedDecoder),
    Done,
    Length(u64),
    Trailers(Bytes),
    UntilClose,
}

impl WireBody {
    /// The content that `framing` announces, or `None` if there is none.
    pub(super) fn begin(
        wire: &SharedWire,
        framing: Framing,
        progress: &Arc<Progress>,
        from: Sender,
    ) -> Option<Body> {
        let (decoder, counted, continues) = match from {
            Sender::Client { continues } => {
                (ChunkedDecoder::default(), Counted::FromClient, continues)
            }
            Sender::Origin(Responses::Strict) => {
                (ChunkedDecoder::default(), Counted::FromOrigin, false)
            }
            Sender::Origin(Responses::Lenient) => {
                (ChunkedDecoder::default().lenient(), Counted::FromOrigin, false)
            }
        };
        let left = match framing {
            Framing::None | Framing::Length(0) => return None,
            Framing::Length(n) => Left::Length(n),
            Framing::Chunked => Left::Chunked(decoder),
            Framing::UntilClose => Left::UntilClose,
        };
        wire.lock().reading = if continues { Reading::HeldBack } else { Reading::Content };
        let progress = progress.clone();
        Some(Box::pin(Self { wire: wire.clone(), left, progress, counted }))
    }
}

impl BodySource for WireBody {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let this = self.get_mut();
        let mut wire = this.wire.lock();
        // Said when somebody asks for content, and not before.
        if wire.release() {
            wire.out.put(CONTINUE);
        }
        loop {
            match this.left.take(&mut wire) {
                Err(e) => {
                    wire.reading = Reading::Faulty(e.clone());
                    return Poll::Ready(Some(Err(BodyError::source(e))));
                }
                Ok(Some(Taken::End)) => return Poll::Ready(None),
                Ok(Some(Taken::Frame(frame))) => {
                    if let Frame::Data(data) = &frame {
                        this.progress.add(this.counted, data.len() as u64);
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) => {}
            }
            // Whoever waits for content may be waiting for what is queued here: the 100.
            if !wire.out.is_empty()
                && this.counted == Counted::FromClient
                && let Poll::Ready(Err(e)) = wire.poll_flush(cx)
            {
                return Poll::Ready(Some(Err(e.into())));
            }
            let filled = match ready!(this.left.poll_fill(&mut wire, cx)) {
                // TLS that ended without a word: many servers do so, and where nothing else tells the
                // content's end, the end of the connection does.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                filled => filled,
            };
            match filled {
                Ok(0) if matches!(this.left, Left::UntilClose) => {
                    this.left = Left::Done;
                    wire.reading = Reading::Over;
                }
                Ok(0) => {
                    let e = io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the connection ended in the midst of the content",
                    );
                    return Poll::Ready(Some(Err(e.into())));
                }
                Ok(_) => {}
                Err(e) => return Poll::Ready(Some(Err(e.into()))),
            }
        }
    }

    fn exact_length(&self) -> Option<u64> {
        match self.left {
            Left::Length(n) => Some(n),
            Left::Done => Some(0),
            _ => None,
        }
    }
}

enum Taken {
    End,
    Frame(Frame),
}

impl Left {
    /// Takes what the input holds already; `None` if more is to be read first.
    fn take(&mut self, wire: &mut Wire) -> Result<Option<Taken>, http_wire::Error> {
        match self {
            Self::Done => Ok(Some(Taken::End)),
            Self::Trailers(_) => {
                let Self::Trailers(trailers) = std::mem::replace(self, Self::Done) else {
                    return Ok(Some(Taken::End));
                };
                Ok(Some(Taken::Frame(Frame::Trailers(trailers))))
            }
            Self::Length(_) | Self::UntilClose if wire.input.is_empty() => Ok(None),
            Self::UntilClose => {
                let data = wire.input.split().freeze();
                Ok(Some(Taken::Frame(Frame::Data(data))))
            }
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(wire.input.len());
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::Done;
                    wire.reading = Reading::Between;
                }
                Ok(Some(Taken::Frame(Frame::Data(wire.input.split_to(length).freeze()))))
            }
            Self::Chunked(decoder) => match decoder.decode(&mut wire.input)? {
                None => Ok(None),
                Some(ChunkEvent::Data(data)) => {
                    // The end, if it has come along, is read now: then the connection is free as
                    // soon as the last data are taken.
                    if let Some(end) = end_of(decoder, wire)? {
                        *self = end;
                    }
                    Ok(Some(Taken::Frame(Frame::Data(data))))
                }
                Some(ChunkEvent::End { trailers }) => {
                    *self = ended(decoder, trailers, wire);
                    self.take(wire)
                }
            },
        }
    }

    /// Reads what is there to be read, up to [`BLOCK`] bytes, so that large bodies move in large
    /// pieces whatever the size of TLS records.
    fn poll_fill(&self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let want = match self {
            Self::Length(left) => usize::try_from(*left).unwrap_or(usize::MAX).min(BLOCK),
            _ => BLOCK,
        };
        let mut got = ready!(wire.poll_fill(cx, want))?;
        while got > 0 && got < want {
            match wire.poll_fill(cx, want - got) {
                Poll::Ready(Ok(n)) if n > 0 => got += n,
                // An end or an error shows again at the next read.
                _ => break,
            }
        }
        // Whoever keeps little of a slow sender's is not to keep a whole block for it.
        if wire.input.len() < wire.input.capacity() / 4 {
            wire.input = BytesMut::from(&wire.input[..]);
        }
        Poll::Ready(Ok(got))
    }
}

fn end_of(decoder: &mut ChunkedDecoder, wire: &mut Wire) -> Result<Option<Left>, http_wire::Error> {
    // Only an end is looked for: data of a further chunk stay for the next call.
    if !wire.input.starts_with(b"\r\n0\r\n") {
        return Ok(None);
    }
    match decoder.decode(&mut wire.input)? {
        Some(ChunkEvent::End { trailers }) => Ok(Some(ended(decoder, trailers, wire))),
        _ => Ok(None),
    }
}

fn ended(decoder: &ChunkedDecoder, trailers: Bytes, wire: &mut Wire) -> Left {
    // Whoever writes chunks in his own way may see their end elsewhere, too.
    wire.reading = if decoder.is_mended() { Reading::Over } else { Reading::Between };
    match trailers.is_empty() {
        true => Left::Done,
        false => Left::Trailers(trailers),
    }
}
