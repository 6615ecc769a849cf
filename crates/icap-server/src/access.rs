//! The access log: a record for each transaction.

use tokio::time::Instant;

use icap::RequestHead;

use crate::{Peer, Transaction};

/// The target of access log records, at level DEBUG.
const TARGET: &str = "icap_server::access";

/// One line of the access log, in the making. Costs next to nothing unless somebody listens.
pub(crate) struct Entry {
    begun: Option<Instant>,
}

impl Entry {
    pub(crate) fn begin() -> Self {
        let enabled = tracing::enabled!(target: TARGET, tracing::Level::DEBUG);
        Self { begun: enabled.then(Instant::now) }
    }

    pub(crate) fn end(self, peer: &Peer, head: &RequestHead, transaction: &Transaction<'_>) {
        let Some(begun) = self.begun else { return };
        tracing::debug!(
            target: TARGET,
            %peer,
            method = %head.method(),
            uri = head.uri(),
            status = transaction.reply.status(),
            body_in = transaction.body.bytes_read(),
            body_out = transaction.reply.bytes_written(),
            microseconds = begun.elapsed().as_micros() as u64,
            "transaction"
        );
    }
}
