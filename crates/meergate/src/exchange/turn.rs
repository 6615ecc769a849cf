//! A client's turn with a thread: who moves much waits until others have had theirs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use shares::{Client, Turns};
use tokio::task::yield_now;

/// Bytes that a client's transactions may move before those of others, which take a millisecond.
pub(super) const TURN: usize = 1 << 20;

thread_local! {
    static TURNS: Arc<Turns<Client>> = Turns::of(TURN as u64);
}

/// What one content spends of its client's turns.
pub(super) struct Turn {
    client: Client,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Turn {
    pub(super) fn of(client: Client) -> Self {
        Self { client, waiting: None }
    }

    /// Counts bytes that were moved. Ready when more may be.
    pub(super) fn poll_spend(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        if bytes > 0 && self.waiting.is_none() {
            let client = self.client;
            let turns = TURNS.with(Arc::clone);
            if !turns.spend(client, bytes as u64) {
                self.waiting = Some(Box::pin(async move {
                    let next = turns.wait(client).await;
                    // Those for whom something has come go first.
                    yield_now().await;
                    drop(next);
                }));
            }
        }
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        Poll::Ready(())
    }
}
