//! Why an origin could not be reached or trusted.

use std::fmt;
use std::io;

use super::enumerated::enumerated;
use super::target::Target;

/// An origin that could not be reached or trusted.
#[derive(Clone, Debug)]
pub struct UpstreamError {
    kind: UpstreamErrorKind,
    target: Target,
    detail: String,
    certificate_asked: bool,
    unsupported_tls: bool,
}

enumerated! {
    /// What failed.
    UpstreamErrorKind {
        /// A rule does not allow the target.
        Blocked => "blocked",
        /// The certificate is not valid for the target.
        Certificate => "certificate",
        /// TCP was refused, reset or unreachable.
        Connect => "connect",
        /// Nobody is led there, whatever the rules say.
        Destination => "destination",
        /// An inspection service dropped the TLS handshake.
        Dropped => "dropped",
        /// The name has no address.
        Name => "name",
        /// The upstream proxy cannot be reached or refuses.
        Proxy => "proxy",
        /// Nobody answered in time.
        Timeout => "timeout",
        /// The TLS handshake failed.
        Tls => "tls",
        /// The TLS handshake could not be shown to the inspection services.
        Uninspected => "uninspected",
    }
}

impl UpstreamErrorKind {
    /// The HTTP status that a client is answered with: 403 for what is not allowed, 504 for time limits, else 502.
    pub fn status(self) -> u16 {
        match self {
            Self::Blocked | Self::Destination | Self::Dropped => 403,
            Self::Timeout => 504,
            _ => 502,
        }
    }
}

impl UpstreamError {
    /// `kind` happened on the way to `target`; `detail` is for people.
    pub fn new(kind: UpstreamErrorKind, target: &Target, detail: impl Into<String>) -> Self {
        Self {
            kind,
            target: target.clone(),
            detail: detail.into(),
            certificate_asked: false,
            unsupported_tls: false,
        }
    }

    /// TCP or TLS failed with `error`.
    pub fn from_io(target: &Target, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::TimedOut => UpstreamErrorKind::Timeout,
            _ => UpstreamErrorKind::Connect,
        };
        Self::new(kind, target, error.to_string())
    }

    /// The same, of an origin that had asked for a client's certificate.
    #[must_use]
    pub fn certificate_asked(mut self) -> Self {
        self.certificate_asked = true;
        self.detail.push_str(" (the server asks for a client certificate)");
        self
    }

    /// Whether the origin had asked for a client's certificate and got none.
    pub fn is_certificate_asked(&self) -> bool {
        self.certificate_asked
    }

    /// The same, of TLS with which nothing can be done here, whatever the origin's certificate.
    #[must_use]
    pub fn unsupported_tls(mut self) -> Self {
        self.unsupported_tls = true;
        self
    }

    /// Whether nothing can be done with the origin's TLS here.
    pub fn is_unsupported_tls(&self) -> bool {
        self.unsupported_tls
    }

    /// What failed.
    pub fn kind(&self) -> UpstreamErrorKind {
        self.kind
    }

    /// The target that was asked for.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// What exactly happened, for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            UpstreamErrorKind::Blocked => "not allowed",
            UpstreamErrorKind::Certificate => "the certificate is not valid",
            UpstreamErrorKind::Connect => "cannot connect",
            UpstreamErrorKind::Destination => "nobody is led there",
            UpstreamErrorKind::Dropped => "an inspection service dropped the TLS handshake",
            UpstreamErrorKind::Name => "the name has no address",
            UpstreamErrorKind::Proxy => "the upstream proxy does not lead there",
            UpstreamErrorKind::Timeout => "no answer in time",
            UpstreamErrorKind::Tls => "the TLS handshake failed",
            UpstreamErrorKind::Uninspected => "the TLS handshake could not be inspected",
        };
        write!(f, "{}: {what}: {}", self.target, self.detail)
    }
}

impl std::error::Error for UpstreamError {}
