//! Requests whose content comes too slowly: each of them holds a connection, an origin's connection
//! and a service's, so a client that sends a byte now and then must not keep them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_wire::RequestHead;
use icap_client::{Body, BodyError, BodySource, Frame};
use tokio::time::{Instant, Sleep, sleep};

use crate::config::Limits;

/// Whether a request's content must keep pace, and whether it did.
#[derive(Debug, Default)]
pub(super) struct Pace {
    relaxed: AtomicBool,
    missed: AtomicBool,
}

impl Pace {
    /// From now on the content may come as it likes: there is an answer already, and the two may
    /// wait for each other.
    pub(super) fn relax(&self) {
        self.relaxed.store(true, Ordering::Relaxed);
    }

    /// Whether the content came too slowly.
    pub(super) fn is_missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed)
    }

    /// Holds the content of the request `head` to the settings, unless it is a gRPC stream, which
    /// has pauses of its own.
    pub(super) fn keep(self: &Arc<Self>, limits: &Limits, head: &RequestHead, body: Body) -> Body {
        let (rate, window) = (limits.min_rate.0, limits.min_rate_window.0);
        let streams = head.field("Content-Type").is_some_and(|kind| {
            kind.value.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC))
        });
        if rate == 0 || window.is_zero() || streams {
            return body;
        }
        let pace = self.clone();
        Box::pin(Paced {
            inner: body,
            pace,
            window,
            rate,
            credit: window,
            handed: None,
            timer: None,
        })
    }
}

const GRPC: &[u8] = b"application/grpc";

/// Content that may be waited for as long as it takes at the least rate, and a window longer: so it
/// may pause, but not drip.
struct Paced {
    inner: Body,
    pace: Arc<Pace>,
    window: Duration,
    /// The least rate, in bytes a second.
    rate: u64,
    /// How much longer than the timer says it may be waited for.
    credit: Duration,
    /// When the last piece was handed over. The time until more is asked for is the taker's.
    handed: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl BodySource for Paced {
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        let this = self.get_mut();
        if let (Some(handed), Some(timer)) = (this.handed.take(), &mut this.timer) {
            let later = timer.deadline() + handed.elapsed();
            timer.as_mut().reset(later);
        }
        let polled = this.inner.as_mut().poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                if let Frame::Data(data) = frame {
                    this.credit += Duration::from_secs_f64(data.len() as f64 / this.rate as f64);
                }
                this.handed = this.timer.is_some().then(Instant::now);
                return polled;
            }
            Poll::Ready(_) => return polled,
        }
        let wait = std::mem::take(&mut this.credit);
        let timer = match &mut this.timer {
            Some(timer) => {
                // Set anew when it fires: a busy body pays nothing for it.
                this.credit = wait;
                timer
            }
            none => none.insert(Box::pin(sleep(wait))),
        };
        while timer.as_mut().poll(cx).is_ready() {
            let mut more = std::mem::take(&mut this.credit);
            if this.pace.relaxed.load(Ordering::Relaxed) {
                more = this.window;
            }
            if more.is_zero() {
                this.pace.missed.store(true, Ordering::Relaxed);
                let e = std::io::Error::new(std::io::ErrorKind::TimedOut, "it comes too slowly");
                return Poll::Ready(Some(Err(BodyError::source(e))));
            }
            let later = timer.deadline() + more;
            timer.as_mut().reset(later);
        }
        Poll::Pending
    }

    fn exact_length(&self) -> Option<u64> {
        self.inner.exact_length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_wire::Limits as HeadLimits;
    use std::future::poll_fn;
    use tokio::sync::mpsc;

    use crate::config::{Config, Span};

    struct Fed(mpsc::Receiver<usize>);

    impl BodySource for Fed {
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame, BodyError>>> {
            self.0.poll_recv(cx).map(|n| n.map(|n| Ok(Frame::Data(Bytes::from(vec![0; n])))))
        }
    }

    /// Bytes that came of pieces sent every so many seconds, and whether the pace was missed. The
    /// taker takes `slow` seconds for each.
    async fn run(kind: &str, piece: usize, every: u64, count: usize, slow: u64) -> (usize, bool) {
        let mut limits = Config::default().limits;
        limits.min_rate.0 = 100;
        limits.min_rate_window = Span::seconds(10);
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n\r\n");
        let head = RequestHead::from_bytes(head.into(), &HeadLimits::default()).unwrap();
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for _ in 0..count {
                sleep(Duration::from_secs(every)).await;
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        });
        let pace = Arc::new(Pace::default());
        let mut body = pace.keep(&limits, &head, Box::pin(Fed(receiver)));
        let mut came = 0;
        while let Some(Ok(Frame::Data(data))) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            came += data.len();
            sleep(Duration::from_secs(slow)).await;
        }
        (came, pace.is_missed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_is_an_error() {
        // 100 bytes a second are wanted, and it may be ten seconds behind.
        assert_eq!(run("text/plain", 260, 2, 50, 0).await, (13_000, false));
        let (came, missed) = run("text/plain", 20, 2, 50, 0).await;
        assert!(missed && came < 200, "{came}");
        let (came, missed) = run("text/plain", 1, 60, 2, 0).await;
        assert!(missed && came == 0, "{came}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_not() {
        assert_eq!(run("text/plain", 5, 9, 1, 0).await, (5, false));
        // What came quickly may be followed by a long pause.
        assert!(run("text/plain", 5_000, 59, 3, 0).await.1);
        assert_eq!(run("text/plain", 5_000, 9, 1, 0).await, (5_000, false));
        assert_eq!(run("text/plain", 5_000, 9, 9, 0).await, (45_000, false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_taker_is_not_the_senders_fault() {
        assert_eq!(run("text/plain", 1_000, 1, 20, 60).await, (20_000, false));
    }

    #[tokio::test(start_paused = true)]
    async fn streams_have_pauses() {
        assert_eq!(run("application/grpc+proto", 1, 60, 5, 0).await, (5, false));
    }
}
