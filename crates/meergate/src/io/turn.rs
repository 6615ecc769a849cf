//! A client's turn with a thread: who moves much waits until others have had theirs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use icap_client::{Body, BodyError, BodySource, Frame};
use shares::{Client, Turns};

/// Bytes that a client may move before others, which take a millisecond or two.
const TURN: usize = 1 << 20;

thread_local! {
    static TURNS: Arc<Turns<Client>> = Turns::of(TURN as u64);
}

/// What one content or connection spends of its client's turns.
pub struct Turn {
    client: Client,
    /// Not counted yet.
    moved: usize,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Turn {
    /// Of this client.
    pub fn of(client: Client) -> Self {
        Self { client, moved: 0, waiting: None }
    }

    /// Notes bytes that were moved. True if that is as much as may be in one go.
    pub fn moved(&mut self, bytes: usize) -> bool {
        self.moved += bytes;
        self.moved >= TURN
    }

    /// Ready when more may be moved. Whatever else the task waits for is to be looked at anew then.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let moved = std::mem::take(&mut self.moved) as u64;
        if moved > 0 && self.waiting.is_none() {
            let client = self.client;
            let turns = TURNS.with(Arc::clone);
            if !turns.spend(client, moved) {
                self.waiting = Some(Box::pin(async move { turns.wait(client).await }));
            }
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        Poll::Ready(())
    }
}

/// A content that comes when it is its client's turn.
pub(crate) struct InTurns {
    inner: Body,
    turn: Turn,
}

impl InTurns {
    /// The content, at the expense of this client.
    pub(crate) fn of(client: Client, inner: Body) -> Body {
        Box::pin(Self { inner, turn: Turn::of(client) })
    }
}

impl BodySource for InTurns {
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame, BodyError>>> {
        ready!(self.turn.poll(cx));
        let frame = ready!(self.inner.as_mut().poll_frame(cx));
        if let Some(Ok(Frame::Data(data))) = &frame {
            self.turn.moved(data.len());
        }
        Poll::Ready(frame)
    }

    fn exact_length(&self) -> Option<u64> {
        self.inner.exact_length()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use bytes::Bytes;
    use icap_client::next_frame;
    use tokio::task::yield_now;

    use super::*;

    /// A content without an end, of a client of this number.
    fn endless(number: u8) -> Body {
        struct Endless;
        impl BodySource for Endless {
            fn poll_frame(
                self: Pin<&mut Self>,
                _cx: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame, BodyError>>> {
                Poll::Ready(Some(Ok(Frame::Data(Bytes::from_static(&[0; 64 << 10])))))
            }
        }
        let client = IpAddr::from(Ipv4Addr::new(192, 0, 2, number));
        InTurns::of(client.into(), Box::pin(Endless))
    }

    #[tokio::test]
    async fn a_hundred_contents_of_one_client_get_no_more_than_one_of_another() {
        let moved = Arc::new(AtomicU64::new(0));
        for _ in 0..100 {
            let moved = moved.clone();
            tokio::spawn(async move {
                let mut content = endless(1);
                while let Some(Ok(_)) = next_frame(&mut content).await {
                    moved.fetch_add(1, Relaxed);
                    // As a service's connection that takes it at once, one piece each time.
                    yield_now().await;
                }
            });
        }
        let mut content = endless(2);
        // All of the others wait by then.
        while moved.load(Relaxed) < 1000 {
            yield_now().await;
        }
        let before = moved.load(Relaxed);
        for _ in 0..1000 {
            let _ = next_frame(&mut content).await;
            yield_now().await;
        }
        let meanwhile = moved.load(Relaxed) - before;
        assert!(meanwhile < 2000, "{meanwhile} pieces of the greedy one");
    }

    #[tokio::test]
    async fn a_content_that_nobody_reads_on_holds_nobody_up() {
        let mut unread: Vec<_> = (0..100).map(|_| endless(1)).collect();
        for content in &mut unread {
            // Until it waits for a turn, which it will get and not use.
            let until_it_waits = poll_fn(|cx| {
                loop {
                    if content.as_mut().poll_frame(cx).is_pending() {
                        return Poll::Ready(());
                    }
                }
            });
            until_it_waits.await;
        }
        let mut content = endless(2);
        for _ in 0..1000 {
            assert!(next_frame(&mut content).await.is_some());
        }
    }
}
