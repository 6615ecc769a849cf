//! One ICAP transaction on one connection.

use std::fmt;
use std::io;
use std::mem::take;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_wire::check_trailers;
use icap::client::{Demand, Event, Exchange, Fault, Terms};
use icap::{Limits, Method};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::copies::Reserved;
use crate::endpoint::{Endpoint, Ongoing};
use crate::incoming::Incoming;
use crate::transport::rejects_our_certificate;
use crate::{BodyError, BodySource, Failure, FailureKind, Frame};

/// Output bytes beyond which the body's source is left alone.
const HIGH_WATER: usize = 256 * 1024;
/// The same for a monitor, so that what is being written to it stays within its memory.
pub(crate) const MONITOR_HIGH_WATER: usize = 32 * 1024;

pub(crate) struct Transaction {
    connection: Box<Connection>,
    exchange: Exchange,
    source: Option<Incoming>,
    /// Memory for the copy that the exchange keeps, and what is in hand of the source.
    reserved: Reserved,
    has_body: bool,
    method: Method,
    sends_trailers: bool,
    endpoint: Arc<Endpoint>,
    affinity: Arc<str>,
    /// When the service, whose turn it is, must have made its next move.
    deadline: Option<Instant>,
    /// The head of the final answer has come.
    replying: bool,
    write_error: Option<io::Error>,
    unflushed: bool,
    _ongoing: Ongoing,
}

/// Why a transaction broke off.
#[derive(Debug)]
pub(crate) enum Trouble {
    Fault(Fault),
    Io(io::Error),
    Source(BodyError),
    Timeout(&'static str, Duration),
    Trailers(http_wire::Error),
}

/// What is left of the message's body after a failure.
pub(crate) enum Rest {
    /// All of it, or there never was one: it can go on or be sent again.
    Intact(Option<Incoming>),
    /// Part of it has been sent and is no longer held.
    Lost,
}

impl Transaction {
    /// In a place of its own: it goes through several hands, and would be copied each time.
    pub(crate) fn start(
        endpoint: &Arc<Endpoint>,
        connection: Box<Connection>,
        terms: Terms,
        head: impl IntoIterator<Item = Bytes>,
        mut source: Option<Incoming>,
        affinity: Arc<str>,
        ongoing: Ongoing,
    ) -> Box<Self> {
        Box::new(Self {
            connection,
            exchange: Exchange::new(terms, head, &Limits::default()),
            reserved: source.as_mut().map(|body| take(&mut body.reserved)).unwrap_or_default(),
            source,
            has_body: terms.has_body,
            method: terms.method,
            sends_trailers: terms.send_trailers,
            endpoint: endpoint.clone(),
            affinity,
            deadline: None,
            replying: false,
            write_error: None,
            unflushed: false,
            _ongoing: ongoing,
        })
    }

    /// The service's next event; meanwhile whatever it can take of the body is sent.
    pub(crate) async fn event(&mut self) -> Result<Event, Trouble> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Trouble>> {
        loop {
            if let Some(event) = self.buffered_event()? {
                return Poll::Ready(Ok(event));
            }
            self.pull(cx)?;
            self.release();
            let wrote = self.write(cx);
            match self.connection.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.ended())),
                Poll::Ready(Ok(_)) => {
                    // A head that drips in must not put off its deadline.
                    if self.replying {
                        self.deadline = None;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Trouble::Io(error))),
                Poll::Pending if wrote => {}
                Poll::Pending => return self.poll_deadline(cx).map(Err),
            }
        }
    }

    /// The next event that needs no more bytes than have come.
    pub(crate) fn buffered_event(&mut self) -> Result<Option<Event>, Trouble> {
        let event = self.exchange.poll(&mut self.connection.input).map_err(Trouble::Fault)?;
        match &event {
            Some(Event::Reply(_)) => {
                self.replying = true;
                self.release();
            }
            // They go on as they are, to peers that trust us.
            Some(Event::End { trailers, .. }) => {
                check_trailers(trailers).map_err(Trouble::Trailers)?;
            }
            None => return Ok(None),
            _ => {}
        }
        self.deadline = None;
        Ok(event)
    }

    /// Whether the connection ended, or broke, before a byte of an answer came.
    pub(crate) fn is_unanswered(&self) -> bool {
        !self.exchange.answered() && self.connection.input.is_empty()
    }

    pub(crate) fn ran_on_kept_connection(&self) -> bool {
        self.connection.reused
    }

    /// Gives up, and hands back the body if that is still whole.
    pub(crate) fn abandon(mut self) -> Rest {
        self.take_rest()
    }

    /// Ends after a complete answer: the connection is kept if it can be. Hands back the body if
    /// that is still whole.
    pub(crate) fn finish(mut self) -> Rest {
        let rest = self.take_rest();
        if self.exchange.reusable()
            && self.connection.input.is_empty()
            && self.write_error.is_none()
        {
            self.endpoint.pool.give_back(self.connection, &self.affinity);
        }
        rest
    }

    /// The method of a message whose trailers go on without having been sent to the service. None
    /// for a monitor: it lets nothing go on.
    pub(crate) fn unread_trailers(&self) -> Option<Method> {
        (!self.sends_trailers && !self.endpoint.config.monitor).then_some(self.method)
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    fn take_rest(&mut self) -> Rest {
        if !self.has_body {
            return Rest::Intact(None);
        }
        match self.exchange.take_original() {
            Some(original) => {
                let reserved = take(&mut self.reserved);
                Rest::Intact(Some(Incoming::resume(original, self.source.take(), reserved)))
            }
            None => Rest::Lost,
        }
    }

    /// Gives back the memory for a copy that is kept no longer.
    fn release(&mut self) {
        if !self.exchange.is_intact() {
            self.reserved.shrink_to(self.source.as_ref().map_or(0, Incoming::gathered));
        }
    }

    /// Takes from the source what the service can have now.
    fn pull(&mut self, cx: &mut Context<'_>) -> Result<(), Trouble> {
        let high_water = if self.endpoint.config.monitor { MONITOR_HIGH_WATER } else { HIGH_WATER };
        while self.exchange.output().len() < high_water {
            let demand = self.exchange.demand();
            if demand == Demand::Nothing {
                break;
            }
            let Some(source) = &mut self.source else {
                self.exchange.push_end(None);
                break;
            };
            match std::pin::Pin::new(source).poll_frame(cx) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) => self.exchange.push_data(data),
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                    self.source = None;
                    self.exchange.push_end(Some(trailers));
                }
                Poll::Ready(Some(Err(error))) => return Err(Trouble::Source(error)),
                Poll::Ready(None) => {
                    self.source = None;
                    self.exchange.push_end(None);
                }
                Poll::Pending => {
                    if demand == Demand::Edge {
                        self.exchange.end_preview();
                    }
                    break;
                }
            }
            self.deadline = None;
        }
        Ok(())
    }

    /// Writes what waits; true if anything was taken. After an error nothing more is written, but
    /// an answer may still be on its way.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut wrote = false;
        while self.write_error.is_none() && !self.exchange.output().is_empty() {
            match self.connection.poll_write(cx, self.exchange.output()) {
                Poll::Ready(Ok(())) => {
                    wrote = true;
                    self.unflushed = true;
                    self.deadline = None;
                }
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                Poll::Pending => break,
            }
        }
        if self.unflushed && self.write_error.is_none() {
            match self.connection.poll_flush(cx) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                Poll::Pending => {}
            }
        }
        wrote
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Trouble> {
        let services_turn = self.exchange.awaits_answer() || !self.exchange.output().is_empty();
        if !services_turn {
            self.deadline = None;
            return Poll::Pending;
        }
        let timeouts = &self.endpoint.config.timeouts;
        let (what, limit) = if self.replying {
            ("went on with its answer", timeouts.idle.0)
        } else if self.exchange.output().is_empty() {
            ("answered", timeouts.answer.0)
        } else {
            ("taken in the request", timeouts.idle.0)
        };
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + limit);
        self.connection.poll_deadline(cx, deadline).map(|()| Trouble::Timeout(what, limit))
    }

    fn ended(&mut self) -> Trouble {
        match (self.write_error.take(), self.exchange.end_of_input()) {
            (Some(error), _) => Trouble::Io(error),
            (None, Err(fault)) => Trouble::Fault(fault),
            (None, Ok(())) => Trouble::Io(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl Trouble {
    /// Whether the connection broke, as against the service misbehaving on a sound one.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Self::Io(_) | Self::Fault(Fault::Ended(_)))
    }

    pub(crate) fn into_failure(self, endpoint: &Endpoint) -> Failure {
        let kind = match &self {
            Self::Fault(Fault::Ended(_)) | Self::Io(_) => FailureKind::Closed,
            Self::Fault(_) | Self::Trailers(_) => FailureKind::Protocol,
            Self::Source(error) => match error.failure() {
                // An earlier service of the chain failed: its name and kind are what matters.
                Some(failure) => return failure.clone(),
                None => FailureKind::Source,
            },
            Self::Timeout(..) => FailureKind::Timeout,
        };
        let detail = match kind {
            FailureKind::Source => self.to_string(),
            _ => format!("{} {self}", endpoint.label),
        };
        Failure::new(endpoint.service.clone(), kind, detail)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "{fault}"),
            Self::Io(error) if rejects_our_certificate(error) => {
                write!(f, "does not accept our certificate (tls.cert), or wants one: {error}")
            }
            Self::Io(error) => write!(f, "broke the connection: {error}"),
            Self::Source(error) => write!(f, "{error}"),
            Self::Timeout(what, limit) => write!(f, "has not {what} within {limit:?}"),
            Self::Trailers(error) => write!(f, "sent trailers that can't go on: {error}"),
        }
    }
}
