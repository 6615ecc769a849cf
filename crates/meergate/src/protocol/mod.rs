//! What is spoken inside a connection.

use crate::tls::Alpn;

/// The protocols that are served after a TLS handshake, most wanted first; nothing else is offered
/// to origins or agreed on with clients.
pub const SERVED: &[Alpn] = &[Alpn::Http1];
