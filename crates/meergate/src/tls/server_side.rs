//! What a handshake with an origin told of it, to be shown to others.

use rustls_pki_types::CertificateDer;

use super::flight::{certificates, records};

/// The server's part of a handshake that ended well.
#[derive(Debug)]
pub struct ServerSide {
    /// The ServerHello with its header, as it came; `None` if it could not be read.
    pub(super) hello: Option<Vec<u8>>,
    /// The certificates; those of its first handshake if the session was resumed.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl ServerSide {
    /// All of it in records of plain text, as TLS 1.2 would have it, whatever was spoken: the
    /// ServerHello as it came, the certificates, ServerHelloDone. `None` if it can't be told.
    pub(crate) fn records(&self) -> Option<Vec<u8>> {
        let mut out = records(self.hello.as_deref()?);
        out.extend(records(&certificates(self.chain.iter().map(|one| &**one))?));
        Some(out)
    }
}
