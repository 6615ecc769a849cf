//! The application protocols that are agreed on in TLS handshakes.

use std::fmt;

/// An application protocol that can be agreed on in a TLS handshake (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Alpn {
    /// HTTP/2.
    H2,
    /// HTTP/1.1.
    Http1,
    /// Another protocol, which is a stream to us.
    Other(Identification),
}

/// The registered identification of a protocol, of printable ASCII characters: 1 to
/// [`MAX_IDENTIFICATION`] of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identification {
    length: u8,
    bytes: [u8; MAX_IDENTIFICATION],
}

/// Bytes of the longest identification that is understood. Of those that are registered none has more
/// than 17.
const MAX_IDENTIFICATION: usize = 32;

/// The protocols that are served after a TLS handshake, most wanted first.
pub const SERVED: &[Alpn] = &[Alpn::H2, Alpn::Http1];

impl Alpn {
    /// The protocol's registered identification.
    pub fn wire(&self) -> &[u8] {
        self.as_str().as_bytes()
    }

    /// The protocol that `wire` identifies, if that can be a name.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        let served = SERVED.iter().copied().find(|alpn| alpn.wire() == wire);
        served.or_else(|| Identification::new(wire).map(Self::Other))
    }

    /// Whether it is one that is served, and not a stream to us.
    pub fn is_served(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// The identification as text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::H2 => "h2",
            Self::Http1 => "http/1.1",
            Self::Other(identification) => identification.as_str(),
        }
    }
}

impl Identification {
    fn new(wire: &[u8]) -> Option<Self> {
        let is_name = !wire.is_empty() && wire.iter().all(u8::is_ascii_graphic);
        let mut bytes = [0; MAX_IDENTIFICATION];
        bytes.get_mut(..wire.len()).filter(|_| is_name)?.copy_from_slice(wire);
        Some(Self { length: u8::try_from(wire.len()).ok()?, bytes })
    }

    fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length.into()]).unwrap_or_default()
    }
}

impl fmt::Debug for Identification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::Alpn;

    #[test]
    fn names_are_what_they_were_on_the_wire() {
        for name in ["h2", "http/1.1", "imap", "xmpp-client", &"x".repeat(32)] {
            let alpn = Alpn::from_wire(name.as_bytes()).unwrap();
            assert_eq!(alpn.as_str(), name);
            assert_eq!(alpn.is_served(), name.starts_with('h'));
        }
        for other in [&b""[..], b"\x0a\x0a", b"a b", &[b'x'; 33], &[b'x'; 255], "\u{e4}".as_bytes()]
        {
            assert_eq!(Alpn::from_wire(other), None, "{other:?}");
        }
    }
}
