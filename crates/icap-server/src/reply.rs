//! The reply to a transaction, as a service writes it.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use icap::server::ReplyHead;
use icap::{CHUNK_HEADER_MAX, Headers};

use crate::TransactError;
use crate::output::{CHUNKS, Chunk};
use crate::wire::Wire;

/// Bytes of data in one chunk, at most: with their lines, [`CHUNKS`] of them fit four segments of
/// loopback TCP (65,483 bytes each). A few bytes more would go as a fifth, at the price of a whole one.
const CHUNK: usize = 65_280;

/// Data of so many bytes goes out without being copied.
const DIRECT_FROM: usize = 8 << 10;

/// The writing half of a transaction.
///
/// Methods that are not `async` only append to a buffer, which leaves when it is large enough,
/// when [`BodyReader`](crate::BodyReader) has to wait for input, on [`flush`](Self::flush), or at
/// the end of the transaction. So a small reply is one system call.
///
/// All methods return `Protocol` with a kind of `Sequence` if the state of the transaction does
/// not allow what is asked; then nothing is sent.
pub struct Reply<'a> {
    wire: &'a Wire,
    written: u64,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(wire: &'a Wire) -> Self {
        Self { wire, written: 0 }
    }

    /// Whether a 204 may be sent now: the client allowed it, or is within its preview.
    pub fn allows_204(&self) -> bool {
        self.wire.core.borrow().allows_204()
    }

    /// Whether a 206 may be started now.
    pub fn allows_206(&self) -> bool {
        self.wire.core.borrow().allows_206()
    }

    /// Whether a final reply has been started.
    pub fn is_started(&self) -> bool {
        self.wire.core.borrow().reply_started()
    }

    /// Whether the reply is complete.
    pub fn is_finished(&self) -> bool {
        self.wire.core.borrow().reply_finished()
    }

    /// Asks for what comes after the preview (100 Continue). Wait for the next event before the
    /// reply is started: there are clients that lose what comes in one packet with the 100.
    ///
    /// # Errors
    /// Only after [`BodyEvent::PreviewEnd`](crate::BodyEvent::PreviewEnd), once, and before a
    /// final reply.
    pub fn continue_(&mut self) -> Result<(), TransactError> {
        let mut output = self.wire.output.borrow_mut();
        Ok(self.wire.core.borrow_mut().continue_(output.buffer())?)
    }

    /// The message stays as it is (204).
    ///
    /// # Errors
    /// Unless [`allows_204`](Self::allows_204).
    pub fn no_content(&mut self, headers: &Headers) -> Result<(), TransactError> {
        let mut output = self.wire.output.borrow_mut();
        Ok(self.wire.core.borrow_mut().no_content(headers, output.buffer())?)
    }

    /// Starts a 200 or 206 with an HTTP message. With a body, [`data`](Self::data) and
    /// [`finish`](Self::finish) follow.
    ///
    /// # Errors
    /// As [`icap::server::Connection::start`].
    pub fn start(&mut self, head: &ReplyHead<'_>) -> Result<(), TransactError> {
        let mut output = self.wire.output.borrow_mut();
        Ok(self.wire.core.borrow_mut().start(head, output.buffer())?)
    }

    /// Sends a piece of the body: waits until the client has taken enough of what came before.
    /// Large pieces leave at once and are not copied. Empty ones are skipped.
    ///
    /// # Errors
    /// `Stalled` if the client takes nothing, `Io` if the connection broke, `Protocol` if no body
    /// is being sent.
    pub async fn data(&mut self, mut data: &[u8]) -> Result<(), TransactError> {
        while !data.is_empty() {
            let taken = poll_fn(|cx| self.poll_data(cx, data)).await?;
            data = &data[taken..];
        }
        Ok(())
    }

    /// As [`data`](Self::data), for a service that drives several things in one future: says how
    /// many bytes of `data` it has taken, which is none only if there are none.
    ///
    /// Offer much: up to 255 KiB leave in one system call, in a few chunks, and the client is
    /// woken once.
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Result<usize, TransactError>> {
        ready!(self.wire.poll_room(cx))?;
        if data.len() < DIRECT_FROM {
            self.put(data)?;
            return Poll::Ready(Ok(data.len()));
        }
        let mut lines = [[0; CHUNK_HEADER_MAX]; CHUNKS];
        let mut chunks = [Chunk::default(); CHUNKS];
        let mut offered = 0;
        for ((chunk, line), piece) in chunks.iter_mut().zip(&mut lines).zip(data.chunks(CHUNK)) {
            *chunk = [self.wire.core.borrow().chunk(piece.len(), line)?, piece, b"\r\n"];
            offered += 1;
        }
        let taken = self.wire.send(cx, &chunks[..offered])?;
        let bytes = chunks[..taken].iter().map(|[_, piece, _]| piece.len()).sum();
        self.written += bytes as u64;
        Poll::Ready(Ok(bytes))
    }

    /// Ready when more data may be [put](Self::put).
    ///
    /// # Errors
    /// As [`data`](Self::data).
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransactError>> {
        self.wire.poll_room(cx)
    }

    /// Appends a piece of the body at once. Only [`poll_ready`](Self::poll_ready) keeps what waits
    /// within bounds: ask it first.
    ///
    /// # Errors
    /// `Protocol` if no body is being sent.
    pub fn put(&mut self, data: &[u8]) -> Result<(), TransactError> {
        if data.is_empty() {
            return Ok(());
        }
        let mut line = [0; CHUNK_HEADER_MAX];
        let line = self.wire.core.borrow().chunk(data.len(), &mut line)?;
        self.wire.put(line, data);
        self.written += data.len() as u64;
        Ok(())
    }

    /// Ends the body.
    ///
    /// # Errors
    /// `Protocol` if no body is being sent.
    pub fn finish(&mut self) -> Result<(), TransactError> {
        self.finish_with_trailers(&Headers::new())
    }

    /// Ends the body with trailers; they are left out unless the client takes them
    /// (`Allow: trailers`).
    ///
    /// # Errors
    /// `Protocol` if no body is being sent.
    pub fn finish_with_trailers(&mut self, trailers: &Headers) -> Result<(), TransactError> {
        let mut output = self.wire.output.borrow_mut();
        Ok(self.wire.core.borrow_mut().finish(trailers, output.buffer())?)
    }

    /// Ends the body of a 206: the client goes on with its original from byte `offset` on, the
    /// preview counted.
    ///
    /// # Errors
    /// `Protocol` if no 206 is being sent.
    pub fn finish_with_original(&mut self, offset: u64) -> Result<(), TransactError> {
        let mut output = self.wire.output.borrow_mut();
        Ok(self.wire.core.borrow_mut().finish_with_original(offset, output.buffer())?)
    }

    /// Answers with an error, 400 to 599. The connection stays in use.
    ///
    /// # Errors
    /// `Protocol` if a reply has started or the status is no error.
    pub fn respond_error(&mut self, status: u16, reason: &str) -> Result<(), TransactError> {
        let mut output = self.wire.output.borrow_mut();
        let mut core = self.wire.core.borrow_mut();
        Ok(core.refuse(status, reason, &Headers::new(), output.buffer())?)
    }

    /// Waits until all has left.
    ///
    /// # Errors
    /// `Stalled` if the client takes nothing, `Io` if the connection broke.
    pub async fn flush(&mut self) -> Result<(), TransactError> {
        poll_fn(|cx| self.wire.poll_flush(cx)).await
    }

    /// As [`flush`](Self::flush).
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransactError>> {
        self.wire.poll_flush(cx)
    }

    /// The ICAP status of the reply, 0 if none has started.
    pub fn status(&self) -> u16 {
        self.wire.core.borrow().reply_status()
    }

    /// Bytes of body handed over so far.
    pub fn bytes_written(&self) -> u64 {
        self.written
    }
}
