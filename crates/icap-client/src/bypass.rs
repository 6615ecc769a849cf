//! Bodies that a service should have seen and did not.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::incoming::Incoming;
use crate::{Body, BodyError, BodySource, Frame, ServiceMetrics};

/// Counts the bytes of a bypassed body as they go by.
pub(crate) struct Bypassed {
    inner: Body,
    metrics: Arc<ServiceMetrics>,
}

impl Bypassed {
    pub(crate) fn wrap(body: Incoming, metrics: &Arc<ServiceMetrics>) -> Incoming {
        let this = Self { inner: body.into_body(), metrics: metrics.clone() };
        Incoming::new(Box::pin(this))
    }
}

impl BodySource for Bypassed {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        if let Some(Ok(Frame::Data(data))) = &frame {
            self.metrics.unadapted_bytes.add(data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn exact_length(&self) -> Option<u64> {
        self.inner.exact_length()
    }
}
