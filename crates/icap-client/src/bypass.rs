//! What a service should have seen of a body and did not.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use icap::Method;

use crate::incoming::Incoming;
use crate::{Body, BodyError, BodySource, Frame, ServiceMetrics};

/// Counts bytes that a service did not see as they go by.
pub(crate) struct Bypassed {
    inner: Body,
    unseen: Unseen,
    metrics: Arc<ServiceMetrics>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unseen {
    All,
    /// Of a message of this method.
    Trailers(Method),
}

impl Bypassed {
    /// A body that the service was not sent.
    pub(crate) fn wrap(body: Incoming, metrics: &Arc<ServiceMetrics>) -> Incoming {
        Self::count(body, Unseen::All, metrics)
    }

    /// A body that the service was sent without its trailers, since it does not read any.
    pub(crate) fn trailers(body: Incoming, of: Method, metrics: &Arc<ServiceMetrics>) -> Incoming {
        // As a wrapped one it could not share its memory with the next service's copy.
        if body.has_no_trailers() { body } else { Self::count(body, Unseen::Trailers(of), metrics) }
    }

    fn count(body: Incoming, unseen: Unseen, metrics: &Arc<ServiceMetrics>) -> Incoming {
        let this = Self { inner: body.into_body(), unseen, metrics: metrics.clone() };
        Incoming::new(Box::pin(this))
    }
}

impl BodySource for Bypassed {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        let unseen = match &frame {
            Some(Ok(Frame::Data(data))) if self.unseen == Unseen::All => data.len(),
            Some(Ok(Frame::Trailers(trailers))) => trailers.len(),
            _ => 0,
        };
        let unseen = unseen as u64;
        self.metrics.unadapted_bytes.add(unseen);
        match self.unseen {
            Unseen::Trailers(Method::Respmod) => self.metrics.response_trailer_bytes.add(unseen),
            Unseen::Trailers(_) => self.metrics.request_trailer_bytes.add(unseen),
            Unseen::All => {}
        }
        Poll::Ready(frame)
    }

    fn exact_length(&self) -> Option<u64> {
        self.inner.exact_length()
    }
}
