//! One connection, from its first request to its end.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use icap::server::{After, Heads};
use icap::{ErrorKind, Headers, Method, RequestHead};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::wire::{Patience, Wire};
use crate::{
    BodyEvent, BodyReader, Config, Peer, Router, Routes, Shutdown, TransactError, Transaction,
    access,
};

/// How the serving of a connection ended.
#[derive(Debug)]
pub enum Outcome<IO> {
    /// The connection is closed.
    Closed,
    /// A service wants the next transaction to run on another thread: call
    /// [`serve_connection`] there with the same stream and `leftover`.
    Migrate {
        /// The stream; nothing is waiting to be sent.
        io: IO,
        /// What was read and not used: from the first byte of the transaction's head on.
        leftover: BytesMut,
        /// The thread's number.
        worker: usize,
    },
}

/// Serves one connection to its end, transaction after transaction. `leftover` is what was read
/// from it already.
///
/// Requests that come pipelined are answered in order. What breaks the protocol is answered with
/// 4xx or 5xx and a reason; the connection is closed only where the request's end can't be found.
/// The future is not `Send`; dropping it cuts the connection.
pub async fn serve_connection<IO, R>(
    io: IO,
    mut leftover: BytesMut,
    peer: Peer,
    router: &Router<R>,
    config: &Config,
    shutdown: &Shutdown,
) -> Outcome<IO>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    R: Routes,
{
    let wire = Wire::new(io, *config);
    let end = Session { wire: &wire, routes: router.routes(), peer, shutdown };
    match end.run(&mut leftover).await {
        End::Closed => Outcome::Closed,
        End::Migrate(worker) => Outcome::Migrate { io: wire.into_io(), leftover, worker },
    }
}

struct Session<'a, R> {
    wire: &'a Wire,
    routes: &'a R,
    peer: Peer,
    shutdown: &'a Shutdown,
}

/// The wait for a shutdown.
struct Stop<'a, F> {
    shutdown: &'a Shutdown,
    requested: Pin<&'a mut F>,
    /// Who has asked, and will be woken.
    waker: Option<Waker>,
}

impl<F: Future<Output = ()>> Stop<'_, F> {
    /// To ask again takes a lock that all threads share, so it is not done where nothing is new.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if is_known && !self.shutdown.is_requested() {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.requested.as_mut().poll(cx)
    }
}

enum End {
    Closed,
    Migrate(usize),
}

/// What follows a transaction.
enum Next {
    /// Another one.
    Transaction,
    /// The end; what waits is sent first. `linger` if the client may still be sending.
    Close {
        linger: bool,
    },
    /// The end without another word, so that the client sees that its reply is not whole.
    Cut,
    Migrate(usize),
}

impl<R: Routes> Session<'_, R> {
    async fn run(&self, buf: &mut BytesMut) -> End {
        let mut head = RequestHead::empty();
        let requested = pin!(self.shutdown.requested());
        let mut stop = Stop { shutdown: self.shutdown, requested, waker: None };
        loop {
            match self.transaction(buf, &mut head, &mut stop).await {
                // As long as the head is kept, its buffer can't be used again.
                Next::Transaction => head.clear(),
                Next::Close { linger } => {
                    // The client is gone if this fails, and nobody is left to be told.
                    let _ = self.close(buf, linger).await;
                    return End::Closed;
                }
                Next::Cut => {
                    // Replies to earlier requests may still be waiting to be sent.
                    let _ = poll_fn(|cx| self.wire.poll_flush(cx)).await;
                    return End::Closed;
                }
                Next::Migrate(worker) => {
                    return match poll_fn(|cx| self.wire.poll_flush(cx)).await {
                        Ok(()) => End::Migrate(worker),
                        Err(_) => End::Closed,
                    };
                }
            }
        }
    }

    async fn transaction(
        &self,
        buf: &mut BytesMut,
        head: &mut RequestHead,
        stop: &mut Stop<'_, impl Future<Output = ()>>,
    ) -> Next {
        // A client that asks and asks and takes no replies has to wait.
        if poll_fn(|cx| self.wire.poll_room(cx)).await.is_err() {
            return Next::Cut;
        }
        let deadline = match self.read_head(buf, head, stop).await {
            Ok(Some(deadline)) => deadline,
            Ok(None) => return Next::Close { linger: false },
            Err(error) => return self.refuse(&error),
        };
        let route = match head.path() {
            "*" => Some(0),
            path => self.routes.find(path),
        };
        let heads = match self.read_heads(buf, deadline).await {
            Ok(heads) => heads,
            Err(error) => return self.refuse(&error),
        };
        self.answer(buf, head, &heads, route).await
    }

    /// Waits for a request's head. `None` if none came: the client is gone, has been idle for too
    /// long, or the server is to stop. Else the time by which the encapsulated heads must be here.
    async fn read_head(
        &self,
        buf: &mut BytesMut,
        head: &mut RequestHead,
        stop: &mut Stop<'_, impl Future<Output = ()>>,
    ) -> Result<Option<Option<Instant>>, TransactError> {
        let mut deadline = None;
        loop {
            if self.wire.core.borrow_mut().head(buf, head)? {
                return Ok(Some(deadline));
            }
            if !buf.is_empty() {
                self.fill(buf, self.head_deadline(&mut deadline)).await?;
                continue;
            }
            let filled = poll_fn(|cx| match self.wire.poll_fill(cx, buf, Patience::Idle) {
                Poll::Pending => stop.poll(cx).map(|()| None),
                filled => filled.map(Some),
            });
            match filled.await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }

    async fn read_heads(
        &self,
        buf: &mut BytesMut,
        mut deadline: Option<Instant>,
    ) -> Result<Heads, TransactError> {
        loop {
            if let Some(heads) = self.wire.core.borrow_mut().heads(buf)? {
                return Ok(heads);
            }
            self.fill(buf, self.head_deadline(&mut deadline)).await?;
        }
    }

    /// Runs the transaction, and finds out what may follow it.
    async fn answer(
        &self,
        buf: &mut BytesMut,
        head: &RequestHead,
        heads: &Heads,
        route: Option<usize>,
    ) -> Next {
        let entry = access::Entry::begin();
        {
            let mut core = self.wire.core.borrow_mut();
            if let Some(istag) = route.and_then(|index| self.routes.istag(index)) {
                core.set_istag(istag);
            }
            if self.shutdown.is_requested() {
                core.close_after();
            }
        }
        let mut transaction = Transaction::new(self.wire, buf, head, heads, &self.peer);
        let result = self.dispatch(&mut transaction, route).await;
        transaction.body.release();
        if let Err(TransactError::Elsewhere(worker)) = result
            && transaction.body.is_untouched()
            && !self.wire.core.borrow().reply_started()
        {
            *buf = unread(head, heads, buf);
            return Next::Migrate(worker);
        }
        if let Err(error) = &result {
            tracing::debug!(peer = %self.peer, path = head.path(), %error, "transaction failed");
        }
        let next = match self.settle(result) {
            Some(next) => next,
            None => self.follow(&mut transaction.body).await,
        };
        entry.end(&self.peer, head, &transaction);
        next
    }

    async fn dispatch(
        &self,
        transaction: &mut Transaction<'_>,
        route: Option<usize>,
    ) -> Result<(), TransactError> {
        let method = transaction.head().method();
        let Some(index) = route else {
            return transaction.reply.respond_error(404, icap::reason_phrase(404));
        };
        if method == Method::Options {
            let headers = self.routes.options(index).to_headers(self.routes.methods(index))?;
            let mut output = self.wire.output.borrow_mut();
            return Ok(self.wire.core.borrow_mut().options(&headers, output.buffer())?);
        }
        if !self.routes.methods(index).contains(&method) {
            return transaction.reply.respond_error(405, icap::reason_phrase(405));
        }
        self.routes.transact(index, transaction).await
    }

    /// Makes sure that a transaction has a reply. `None` if it has a whole one.
    fn settle(&self, result: Result<(), TransactError>) -> Option<Next> {
        let started = self.wire.core.borrow().reply_started();
        let finished = self.wire.core.borrow().reply_finished();
        match result {
            Ok(()) | Err(TransactError::Failed(_)) if finished => None,
            _ if started && !finished => Some(Next::Cut),
            Ok(()) => self.fail_service("the service gave no reply"),
            Err(TransactError::Failed(reason)) => self.fail_service(&reason),
            Err(TransactError::Elsewhere(_)) => {
                self.fail_service("the service wants another thread too late")
            }
            Err(TransactError::Protocol(error)) if error.kind() == ErrorKind::Sequence => {
                if finished {
                    None
                } else {
                    self.fail_service(error.what())
                }
            }
            Err(error) => Some(self.refuse(&error)),
        }
    }

    fn fail_service(&self, reason: &str) -> Option<Next> {
        tracing::warn!(peer = %self.peer, reason, "service failed, answered 500");
        let mut output = self.wire.output.borrow_mut();
        let mut core = self.wire.core.borrow_mut();
        match core.refuse(500, reason, &Headers::new(), output.buffer()) {
            Ok(()) => None,
            Err(_) => Some(Next::Cut),
        }
    }

    /// Answers what the client did wrong, if that can still be, and ends the connection.
    fn refuse(&self, error: &TransactError) -> Next {
        let mut output = self.wire.output.borrow_mut();
        let mut core = self.wire.core.borrow_mut();
        core.close_after();
        match error {
            TransactError::Protocol(error) => {
                tracing::info!(peer = %self.peer, %error, "request refused");
                core.fail(error, output.buffer());
            }
            TransactError::Stalled => {
                let reason = icap::reason_phrase(408);
                // If a reply was complete, only its being sent is left to do.
                let _ = core.refuse(408, reason, &Headers::new(), output.buffer());
            }
            TransactError::Failed(_) | TransactError::Elsewhere(_) | TransactError::Io(_) => {
                return Next::Cut;
            }
        }
        Next::Close { linger: true }
    }

    /// What follows a transaction with a whole reply.
    async fn follow(&self, body: &mut BodyReader<'_>) -> Next {
        let after = self.wire.core.borrow_mut().after();
        match after {
            After::Next => return Next::Transaction,
            After::Close => {
                return Next::Close { linger: !self.wire.core.borrow().request_is_over() };
            }
            After::Drain => {}
        }
        let limit = body.bytes_read().saturating_add(self.wire.config.max_drain);
        while body.bytes_read() <= limit {
            match body.next().await {
                Ok(BodyEvent::Data(_)) => {}
                Ok(BodyEvent::End { .. } | BodyEvent::PreviewEnd) => {
                    return match self.wire.core.borrow_mut().after() {
                        After::Next => Next::Transaction,
                        After::Close | After::Drain => Next::Close { linger: false },
                    };
                }
                Err(TransactError::Io(_)) => return Next::Close { linger: false },
                Err(_) => break,
            }
        }
        body.release();
        Next::Close { linger: true }
    }

    /// Sends what waits and closes. A client that is still sending would lose the reply if the
    /// connection were closed under it (the kernel resets it then), so its bytes are read off for
    /// a moment.
    async fn close(&self, buf: &mut BytesMut, linger: bool) -> Result<(), TransactError> {
        poll_fn(|cx| self.wire.poll_flush(cx)).await?;
        poll_fn(|cx| self.wire.poll_shutdown(cx)).await?;
        if linger {
            let deadline = Instant::now() + self.wire.config.linger_timeout;
            while Instant::now() < deadline {
                buf.clear();
                self.fill(buf, deadline).await?;
            }
        }
        Ok(())
    }

    async fn fill(&self, buf: &mut BytesMut, deadline: Instant) -> Result<(), TransactError> {
        poll_fn(|cx| self.wire.poll_fill(cx, buf, Patience::Until(deadline))).await
    }

    fn head_deadline(&self, deadline: &mut Option<Instant>) -> Instant {
        *deadline.get_or_insert_with(|| Instant::now() + self.wire.config.head_timeout)
    }
}

/// A transaction from its first byte on, up to what `buf` has of its body.
fn unread(head: &RequestHead, heads: &Heads, buf: &BytesMut) -> BytesMut {
    let encapsulated = [&heads.req_hdr, &heads.res_hdr].into_iter().flatten();
    let parts = || {
        [head.bytes()]
            .into_iter()
            .chain(encapsulated.clone().map(|head| &head[..]))
            .chain([&buf[..]])
    };
    let mut whole = BytesMut::with_capacity(parts().map(<[u8]>::len).sum());
    parts().for_each(|part| whole.extend_from_slice(part));
    whole
}
