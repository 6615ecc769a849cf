//! Copies for monitor services, which can never hold traffic up.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::attempt::Verdict;
use crate::head::Message;
use crate::incoming::Incoming;
use crate::service::Service;
use crate::{Body, BodyError, BodySource, Frame, TransactionInfo, next_frame};

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
    let metrics = service.counters().clone();
    let Ok(permit) = copies.clone().try_acquire_owned() else {
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
    let (service, info, message) = (service.clone(), info.clone(), message.clone());
    tokio::spawn(async move {
        let _permit = permit;
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
        let copy = match &frame {
            Some(Ok(frame)) => Some(frame.clone()),
            None => None,
            Some(Err(_)) => {
                self.sender = None;
                return Poll::Ready(frame);
            }
        };
        if let Some(sender) = &self.sender
            && let Err(error) = sender.try_send(copy)
        {
            // A closed channel means that the monitor wants no more; a full one, that it lags.
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                self.service.counters().monitor_lost.add(1);
            }
            self.sender = None;
        }
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
