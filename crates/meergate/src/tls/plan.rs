//! How TLS towards an origin is to be opened.

use std::sync::Arc;

use crate::config::{InvalidCertificate, TlsVersions};
use crate::words::Alpn;

/// How TLS towards the origin is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPlan {
    /// The name sent as SNI (unless it is an address) and that the certificate must be valid for.
    pub server_name: Arc<str>,
    /// The protocols offered, in the client's order; none for no ALPN extension.
    pub alpn: Vec<Alpn>,
    /// The versions offered.
    pub versions: TlsVersions,
    /// What becomes of the connection if the certificate is not valid.
    pub invalid: InvalidCertificate,
    /// The `[[client_certificate]]` shown if the origin asks for one.
    pub identity: Option<Arc<str>>,
}

impl TlsPlan {
    /// TLS towards `server_name`, whose certificate must be valid, without showing one of ours.
    pub fn new(server_name: Arc<str>, alpn: Vec<Alpn>) -> Self {
        Self {
            server_name,
            alpn,
            versions: TlsVersions::ALL,
            invalid: InvalidCertificate::Refuse,
            identity: None,
        }
    }
}
