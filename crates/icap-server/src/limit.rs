//! How many connections there may be at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use icap::server::Connection;
use icap::{Headers, Limits, reason_phrase};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Counts connections, and says when there are too many. Clones count together; may be used from
/// any thread.
#[derive(Clone, Debug)]
pub struct ConnectionLimit {
    open: Arc<AtomicUsize>,
    max: usize,
}

/// A connection's place within the limit, given back when dropped.
#[derive(Debug)]
pub struct ConnectionPermit {
    open: Arc<AtomicUsize>,
}

impl ConnectionLimit {
    /// At most `max` connections at a time.
    pub fn new(max: usize) -> Self {
        Self { open: Arc::default(), max }
    }

    /// A place for one more connection; `None` if there is none.
    pub fn try_acquire(&self) -> Option<ConnectionPermit> {
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < self.max).then_some(open + 1)
            })
            .ok()
            .map(|_| ConnectionPermit { open: Arc::clone(&self.open) })
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Tells a client that the server has no place for it (503), and closes. Takes at most two
/// seconds.
///
/// # Errors
/// If the client is gone, or does not read.
pub async fn refuse_overloaded(io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut io = io;
    let mut reply = Vec::new();
    let mut core = Connection::new(Limits::default());
    core.close_after();
    core.refuse(503, reason_phrase(503), &Headers::new(), &mut reply)
        .map_err(|error| io::Error::other(error.to_string()))?;
    let exchange = async {
        io.write_all(&reply).await?;
        io.shutdown().await?;
        // Closing over unread bytes would reset the connection and lose the reply.
        let mut rest = [0; 4096];
        while io.read(&mut rest).await? > 0 {}
        Ok(())
    };
    timeout(Duration::from_secs(2), exchange)
        .await
        .unwrap_or_else(|elapsed| Err(io::Error::new(io::ErrorKind::TimedOut, elapsed)))
}
