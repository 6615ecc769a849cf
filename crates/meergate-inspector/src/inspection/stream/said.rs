//! What the gateway says that a stream is.

use suricata::Expect;

/// What is said to be spoken. Where it is said, rules on that are to be asked, or the stream fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing that changes how it is shown.
    Other,
    /// TLS handshakes.
    Tls,
    /// WebSocket, in the form of `docs/stream-carrier.md`.
    WebSocket,
}

impl Said {
    /// What `X-Proto` says.
    pub(super) fn of(protocol: &str) -> Self {
        match protocol.trim() {
            name if name.eq_ignore_ascii_case("tls") => Self::Tls,
            name if name.eq_ignore_ascii_case("websocket") => Self::WebSocket,
            _ => Self::Other,
        }
    }

    /// What the engine is to expect.
    pub(super) fn expected(self) -> Expect {
        match self {
            Self::Other | Self::Tls => Expect::Any,
            Self::WebSocket => Expect::Protocol("websocket"),
        }
    }

    /// Why the stream fails if the engine takes it for `seen`, and all was shown that is needed to tell.
    pub(super) fn is_misread(self, seen: Option<&str>) -> Option<&'static str> {
        match self {
            Self::Other => None,
            Self::Tls => (seen != Some("tls"))
                .then_some("the engine did not recognise the TLS that this is said to be"),
            Self::WebSocket => (seen != Some("websocket"))
                .then_some("the engine did not recognise the WebSocket that this is said to be"),
        }
    }
}
