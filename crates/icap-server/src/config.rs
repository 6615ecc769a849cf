//! Limits and times of connections.

use std::time::Duration;

use icap::Limits;

/// Limits of a connection. The defaults suit a server that trusts nobody.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Sizes and counts.
    pub limits: Limits,
    /// How long a connection may wait for its next request. Default 5 minutes.
    pub idle_timeout: Duration,
    /// How long a request's heads may take, from their first byte to their last; then 408.
    /// Default 30 s.
    pub head_timeout: Duration,
    /// How long the peer may neither send the rest of a chunk nor take what is sent; then 408
    /// if no reply has started, else the connection is cut. Long enough for a download that its
    /// user has paused. Default 5 minutes.
    pub stall_timeout: Duration,
    /// The same between two chunks, where the peer has taken all: then it is most likely the origin that
    /// is silent, as with events that are rare. Default 5 minutes.
    pub silence_timeout: Duration,
    /// Bytes of a request's body that are read off after its reply is complete, so that the
    /// connection can be used again; beyond, it is closed. Default 16 MiB.
    pub max_drain: u64,
    /// How long the server goes on reading after its last reply where the client is still
    /// sending, so that the reply is not lost. Default 2 s.
    pub linger_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            idle_timeout: Duration::from_secs(300),
            head_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(300),
            silence_timeout: Duration::from_secs(300),
            max_drain: 16 << 20,
            linger_timeout: Duration::from_secs(2),
        }
    }
}
