//! The application protocols that are agreed on in TLS handshakes.

/// An application protocol that can be agreed on in a TLS handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alpn {
    /// HTTP/2.
    H2,
    /// HTTP/1.1.
    Http1,
}

/// The protocols that are served after a TLS handshake, most wanted first; nothing else is offered
/// to origins or agreed on with clients.
pub const SERVED: &[Alpn] = &[Alpn::H2, Alpn::Http1];

impl Alpn {
    /// The protocol's registered identification.
    pub fn wire(self) -> &'static [u8] {
        self.as_str().as_bytes()
    }

    /// The protocol that `wire` identifies, if it is one that is served.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        SERVED.iter().copied().find(|alpn| alpn.wire() == wire)
    }

    /// The identification as text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::H2 => "h2",
            Self::Http1 => "http/1.1",
        }
    }
}
