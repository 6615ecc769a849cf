//! Memory for copies of bodies.

use std::sync::Arc;

use shares::{Client, Ledger, Limit, Share};

use crate::TransactionInfo;

/// Memory for the copies of bodies that are kept so that the original can go on, in bytes. A copy is
/// counted, to the transaction's client, from before there is anything of it until all of it has gone
/// on. A body for which there is no memory is sent without `Allow: 204`: nobody waits, but the service
/// has to send the message back, and after a failure it can't go on.
#[derive(Clone, Debug)]
pub struct Copies {
    /// What is taken, of all services.
    pub ledger: Arc<Ledger>,
    /// How much there is.
    pub limit: Limit,
}

/// Memory for the copy of one body.
#[derive(Debug, Default)]
pub(crate) struct Reserved(Option<Share>);

impl Reserved {
    /// Makes sure of `bytes`. False if there are not so many for the client: what was reserved stays.
    pub(crate) fn grow_to(&mut self, bytes: u64, info: &TransactionInfo) -> bool {
        // Of nothing there is always enough.
        let Some(copies) = info.copies.as_ref().filter(|_| bytes > 0) else { return true };
        match &mut self.0 {
            Some(share) => share.grow_to(bytes, copies.limit).is_ok(),
            None => {
                let client = info.client.map(Client::from);
                self.0 = copies.ledger.take(client, bytes, copies.limit).ok();
                self.0.is_some()
            }
        }
    }

    /// Gives back what is more than `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        if let Some(share) = &mut self.0 {
            share.shrink_to(bytes);
        }
    }
}
