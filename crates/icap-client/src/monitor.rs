//! Copies for monitor services, which can never hold traffic up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::attempt::Verdict;
use crate::head::Message;
use crate::incoming::Incoming;
use crate::service::Service;
use crate::transaction::MONITOR_HIGH_WATER;
use crate::{Body, BodyError, BodySource, Frame, ServiceMetrics, TransactionInfo, next_frame};

/// Frames that a copy may lag behind the original before it is given up.
const MOST_FRAMES: usize = 64;
/// Copies under way at once for one service.
pub(crate) const MOST_COPIES: usize = 1024;

/// Sends a copy of the message to a monitor and returns the body to go on with.
pub(crate) fn copy(
    service: &Arc<Service>,
    copies: &Arc<Semaphore>,
    info: &TransactionInfo,
    message: &Message,
    body: Option<Incoming>,
) -> Option<Incoming> {
    let metrics = service.metrics().clone();
    let writing = body.as_ref().map_or(0, |body| {
        let length = body.exact_length().and_then(|length| usize::try_from(length).ok());
        length.map_or(MONITOR_HIGH_WATER, |length| length.min(MONITOR_HIGH_WATER))
    });
    let permit = copies.clone().try_acquire_owned().ok();
    let Some((permit, room)) = permit.zip(Room::take(service, message.heads_len() + writing))
    else {
        metrics.monitor_lost.add(1);
        return body;
    };
    let (body, copied) = match body {
        Some(body) => {
            let (sender, receiver) = mpsc::channel(MOST_FRAMES);
            let length = body.exact_length();
            let tee =
                Tee { inner: body.into_body(), sender: Some(sender), service: service.clone() };
            let copied: Body = Box::pin(Copied { receiver, length, ended: false });
            (Some(Incoming::new(Box::pin(tee))), Some(Incoming::new(copied)))
        }
        None => (None, None),
    };
    let (service, message) = (service.clone(), message.clone());
    // What it is sent has its room already.
    let info = TransactionInfo { copies: None, ..info.clone() };
    tokio::spawn(async move {
        let (_permit, _room) = (permit, room);
        metrics.transactions.add(1);
        match service.adapt(&info, &message, copied).await {
            Ok(answer) => {
                let rest = match answer.verdict {
                    Verdict::Adapted(message) => message.body.map(|b| b.into_body()),
                    Verdict::Ignored(_) | Verdict::Unoffered(_) => None,
                    // Read on so that the copy is not taken for lost.
                    Verdict::Passed(body) => body.map(Incoming::into_body),
                };
                metrics.passed.add(1);
                if let Some(mut rest) = rest {
                    while let Some(Ok(_)) = next_frame(&mut rest).await {}
                }
            }
            Err(failed) => {
                metrics.failures(failed.failure.kind()).add(1);
                tracing::warn!(service = %service.name(), reason = failed.failure.detail(), "monitor has not taken its copy");
            }
        }
    });
    body
}

/// A part of a monitor's memory, given back on drop.
struct Room {
    metrics: Arc<ServiceMetrics>,
    bytes: i64,
}

impl Room {
    /// None if the copies for this monitor hold as much as they may.
    fn take(service: &Service, bytes: usize) -> Option<Self> {
        let most = i64::try_from(service.config().monitor_memory.0).unwrap_or(i64::MAX);
        let bytes = i64::try_from(bytes).ok()?;
        let metrics = service.metrics().clone();
        metrics.monitor_bytes.add_within(bytes, most).then(|| Self { metrics, bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.metrics.monitor_bytes.add(-self.bytes);
    }
}

/// Bytes, and the room that they take for as long as anybody holds a part of them.
struct Held {
    bytes: Box<[u8]>,
    _room: Room,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A copy of its own: a slice of the original could keep the whole buffer that it was read into.
fn held(service: &Service, bytes: &[u8]) -> Option<Bytes> {
    let room = Room::take(service, bytes.len())?;
    Some(Bytes::from_owner(Held { bytes: bytes.into(), _room: room }))
}

/// The original, copied as it is read.
struct Tee {
    inner: Body,
    sender: Option<Sender<Option<Frame>>>,
    service: Arc<Service>,
}

impl BodySource for Tee {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        let Some(sender) = &self.sender else { return Poll::Ready(frame) };
        let copy = match &frame {
            Some(Ok(Frame::Data(data))) => {
                held(&self.service, data).map(|data| Some(Frame::Data(data)))
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                held(&self.service, trailers).map(|trailers| Some(Frame::Trailers(trailers)))
            }
            None => Some(None),
            Some(Err(_)) => {
                self.sender = None;
                return Poll::Ready(frame);
            }
        };
        let lost = match copy.map(|copy| sender.try_send(copy)) {
            Some(Ok(())) => return Poll::Ready(frame),
            // The monitor wants no more.
            Some(Err(TrySendError::Closed(_))) => false,
            // It lags, or lags together with others.
            Some(Err(TrySendError::Full(_))) | None => true,
        };
        self.service.metrics().monitor_lost.add(u64::from(lost));
        self.sender = None;
        Poll::Ready(frame)
    }

    fn exact_length(&self) -> Option<u64> {
        self.inner.exact_length()
    }
}

struct Copied {
    receiver: Receiver<Option<Frame>>,
    length: Option<u64>,
    ended: bool,
}

impl BodySource for Copied {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.receiver.poll_recv(cx)) {
            Some(Some(frame)) => {
                if let (Frame::Data(data), Some(length)) = (&frame, &mut self.length) {
                    *length = length.saturating_sub(data.len() as u64);
                }
                Some(Ok(frame))
            }
            Some(None) => None,
            None => Some(Err(BodyError::source("the copy was given up before its end"))),
        };
        self.ended = !matches!(frame, Some(Ok(Frame::Data(_))));
        Poll::Ready(frame)
    }

    fn exact_length(&self) -> Option<u64> {
        self.length
    }
}
