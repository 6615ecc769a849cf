//! `[limits]`.

use std::time::Duration;

use icap_stream::Window;
use serde::{Deserialize, Serialize};
use start_error::StartError;
use units::{Size, Span};

/// Limits. Memory for bodies is at most `max_connections × (hold + 256 KiB)`; the engine itself and
/// the connection need up to 1.25 MiB more for each large one under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// ICAP connections at once; more wait unanswered in the listening sockets' queue.
    pub(crate) max_connections: usize,
    /// How much of `max_connections` and `max_flows` one client may have, in percent: 1 to 100.
    pub(crate) per_client_percent: usize,
    /// TCP streams at once, each of which takes a connection; none are offered if 0.
    pub(crate) max_streams: usize,
    /// Bytes of one direction of a stream that may come ahead of their verdict.
    pub(crate) stream_window: Size,
    /// Flows at once, idle ones included; when full, the longest idle one is closed.
    pub(crate) max_flows: usize,
    /// How long a flow that nobody uses stays open.
    pub(crate) flow_idle_timeout: Span,
    /// How long a request without a response is waited with (only clients that do not
    /// say which connection a transaction belongs to).
    pub(crate) response_timeout: Span,
    /// How long a peer may take for its next byte.
    pub(crate) io_timeout: Span,
    /// The same between two chunks of a body: how long an origin may be silent. The engine's flows take
    /// a day.
    pub(crate) silence_timeout: Span,
    /// Bytes of an ICAP head, and of each HTTP head in it.
    pub(crate) max_head: Size,
    /// Bytes held in memory for one body under `hold = "all"` if the client does not allow a 204.
    pub(crate) max_held: Size,
    /// Bytes of memory of the engine's process at which it is ended and started anew; no limit if 0.
    pub(crate) engine_memory: Size,
    /// How long without a sign of life until the engine's process is ended.
    pub(crate) hang_timeout: Span,
    /// How long the engine may take to start.
    pub(crate) start_timeout: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_streams: 5_000,
            stream_window: Size(256 << 10),
            max_flows: 65_536,
            per_client_percent: 25,
            flow_idle_timeout: Span::seconds(120),
            response_timeout: Span::seconds(60),
            io_timeout: Span::seconds(60),
            silence_timeout: Span::seconds(3600),
            max_head: Size(128 << 10),
            max_held: Size(64 << 20),
            engine_memory: Size(0),
            hang_timeout: Span::seconds(15),
            start_timeout: Span::seconds(300),
        }
    }
}

/// How long the engine keeps flows in which nothing moves.
const DAY: Duration = Duration::from_secs(86_400);

impl Limits {
    /// How much of a stream may come ahead; checked to be in range.
    pub(crate) fn window(&self) -> Window {
        Window::new(self.stream_window.0).unwrap_or(Window::DEFAULT)
    }

    /// Checks what no type can show.
    ///
    /// # Errors
    /// A number is out of its range.
    pub(super) fn check(&self) -> Result<(), StartError> {
        if !(1..=100).contains(&self.per_client_percent) {
            return Err(StartError::new(
                format!("a client's share cannot be {} percent", self.per_client_percent),
                "limits.per_client_percent",
                "name a number from 1 to 100",
            ));
        }
        if Window::new(self.stream_window.0).is_none() {
            return Err(StartError::new(
                format!("a stream's window cannot be {} bytes", self.stream_window),
                "limits.stream_window",
                format!("name a number from 1 to {}", Window::MAX.bytes()),
            ));
        }
        Ok(())
    }

    /// How long a peer may have nothing to send on.
    pub(crate) fn silence(&self) -> Duration {
        self.silence_timeout.0.min(DAY)
    }
}
