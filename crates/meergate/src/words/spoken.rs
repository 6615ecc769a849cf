//! What is spoken on a connection, as far as rules tell it apart.

use serde::Deserialize;

/// A kind of protocol that rules tell apart.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Speech {
    /// HTTP of any version.
    Http,
    /// What is neither TLS nor HTTP, or whose server speaks first.
    Tcp,
    /// TLS, whatever is spoken inside.
    Tls,
}

/// What is known of what is spoken on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spoken {
    tls: bool,
    /// In the clear, or inside the TLS.
    inside: Option<Speech>,
}

impl Spoken {
    /// HTTP in the clear.
    pub const HTTP: Self = Self { tls: false, inside: Some(Speech::Http) };
    /// A stream in the clear.
    pub const TCP: Self = Self { tls: false, inside: Some(Speech::Tcp) };
    /// TLS of which the inside is not known.
    pub const TLS: Self = Self { tls: true, inside: None };
    /// Nothing is known yet.
    pub const UNKNOWN: Self = Self { tls: false, inside: None };

    /// The same inside TLS.
    #[must_use]
    pub const fn in_tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// Whether it is known to be that.
    pub fn is(self, speech: Speech) -> bool {
        match speech {
            Speech::Tls => self.tls,
            other => self.inside == Some(other),
        }
    }
}
