//! An endpoint's health: what speaks against it, and how it is looked after.

use std::sync::Arc;

use tokio::time::Instant;

use crate::breaker::Change;
use crate::endpoint::Endpoint;
use crate::{Failure, FailureKind};

impl Endpoint {
    /// Looks after it between transactions: OPTIONS when due, a try if it is down, old
    /// connections closed.
    pub(crate) async fn look_after(self: &Arc<Self>) {
        self.connector.refresh().await;
        self.pool.sweep(&self.connector);
        let now = Instant::now();
        let due = self.refresh_due();
        let down = self.breaker.is_down();
        if (due || down) && self.breaker.admit(now) {
            let _fetching = self.fetching.lock().await;
            match self.fetch().await {
                Ok(_) => self.report_success(),
                Err(failure) => self.report_failure(&failure),
            }
        }
    }

    pub(crate) fn report_success(&self) {
        if self.breaker.succeeded() == Change::Revived {
            tracing::info!(service = %self.service, endpoint = %self.label, "ICAP endpoint is up again");
        }
    }

    /// Takes in how a transaction or stream failed.
    ///
    /// A failed connection counts against the endpoint. A failure on a connection alone does not, since a
    /// client can provoke it: some content makes the service close, and an answer that the client does
    /// not read breaks off. Then OPTIONS is asked, and only its failure counts. One client must not
    /// take the service away from the others, least of all where `fail = "open"` lets their messages
    /// pass unseen.
    pub(crate) fn note_failure(self: &Arc<Self>, failure: &Failure) {
        match failure.kind() {
            FailureKind::Closed | FailureKind::Protocol | FailureKind::Timeout => self.doubt(),
            FailureKind::Connect => self.report_failure(failure),
            FailureKind::Overload
            | FailureKind::Refused
            | FailureKind::Source
            | FailureKind::Unsuitable => {}
        }
    }

    /// Counts a failed connection or OPTIONS.
    pub(crate) fn report_failure(&self, failure: &Failure) {
        let blames_endpoint = match failure.kind() {
            FailureKind::Closed
            | FailureKind::Connect
            | FailureKind::Protocol
            | FailureKind::Timeout => true,
            FailureKind::Overload
            | FailureKind::Refused
            | FailureKind::Source
            | FailureKind::Unsuitable => false,
        };
        if blames_endpoint && self.breaker.failed() == Change::Tripped {
            self.pool.clear();
            tracing::error!(
                service = %self.service,
                endpoint = %self.label,
                reason = failure.detail(),
                "ICAP endpoint is down: it gets no transactions until it answers again"
            );
        }
    }

    /// Asks OPTIONS in the background, unless somebody asks already, and counts the outcome.
    fn doubt(self: &Arc<Self>) {
        let Ok(fetching) = self.fetching.clone().try_lock_owned() else { return };
        let endpoint = self.clone();
        tokio::spawn(async move {
            let _fetching = fetching;
            match endpoint.fetch().await {
                Ok(_) => endpoint.report_success(),
                Err(failure) => endpoint.report_failure(&failure),
            }
        });
    }
}
