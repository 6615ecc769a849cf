//! What happens in a handshake with an origin that the TLS library does not tell afterwards.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;

use rustls_pki_types::CertificateDer;

thread_local! {
    // Set while a handshake is polled. Verifier and resolver are shared by all connections, since
    // sessions are resumed only with the very same ones, so they cannot remember whose it was.
    static OBSERVED: Cell<Observed> = const {
        Cell::new(Observed {
            certificate_asked: false,
            proved: false,
            revoked: false,
            shown: Vec::new(),
        })
    };
}

/// What was observed in one handshake.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// The origin asked for a client's certificate.
    pub(super) certificate_asked: bool,
    /// The origin holds the key of the certificate that it showed.
    pub(super) proved: bool,
    /// The origin stapled a response that calls its certificate revoked.
    pub(super) revoked: bool,
    /// The chain that it showed after it had asked for a client's certificate: a handshake that
    /// fails tells of none.
    pub(super) shown: Vec<CertificateDer<'static>>,
}

/// To be called by what takes part in the handshake that is being polled.
pub(super) fn note(change: impl FnOnce(&mut Observed)) {
    let mut observed = OBSERVED.take();
    change(&mut observed);
    OBSERVED.set(observed);
}

/// Runs a handshake, and says what was observed meanwhile.
pub(super) async fn observe<F: Future>(handshake: F) -> (F::Output, Observed) {
    let mut handshake = pin!(handshake);
    let mut so_far = Observed::default();
    let output = poll_fn(|cx| {
        OBSERVED.set(std::mem::take(&mut so_far));
        let polled = handshake.as_mut().poll(cx);
        so_far = OBSERVED.take();
        polled
    })
    .await;
    (output, so_far)
}
