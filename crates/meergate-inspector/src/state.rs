//! What all workers share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use icap::IsTag;

use crate::metrics::Metrics;
use crate::origin::{Keys, StandIns};
use crate::owners::Owners;
use crate::settings::Settings;

/// The process as its workers see it.
#[derive(Debug)]
pub(crate) struct State {
    /// What the operator set.
    pub(crate) settings: Settings,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// Makes flow keys.
    pub(crate) keys: Keys,
    /// Who has which flow.
    pub(crate) owners: Owners,
    rules: AtomicU64,
    transactions: AtomicU64,
    /// Distinguishes transaction ids of this run from those of others.
    run: u64,
    said_stand_ins: AtomicBool,
}

impl State {
    /// At the start of the engine; `run` is different for each.
    pub(crate) fn new(settings: Settings, metrics: Metrics, run: u64) -> Self {
        Self {
            settings,
            metrics,
            keys: Keys::default(),
            owners: Owners::new(),
            rules: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            run,
            said_stand_ins: AtomicBool::new(false),
        }
    }

    /// Addresses for what clients leave out.
    pub(crate) fn stand_ins(&self) -> &StandIns {
        &self.settings.stand_ins
    }

    /// The rules in force are those with this fingerprint.
    pub(crate) fn rules_changed(&self, fingerprint: u64) {
        self.rules.store(fingerprint, Relaxed);
    }

    /// Changes with the rules, so that no client trusts a decision made under older ones.
    pub(crate) fn istag(&self) -> IsTag {
        IsTag::from_state("meergate", self.rules.load(Relaxed))
    }

    /// An id for a transaction whose client gave none.
    pub(crate) fn transaction_id(&self) -> String {
        let n = self.transactions.fetch_add(1, Relaxed);
        format!("i{:08x}-{n:x}", self.run as u32)
    }

    /// Tells the operator once that addresses are stand-ins.
    pub(crate) fn say_stand_ins(&self) {
        if !self.said_stand_ins.swap(true, Relaxed) {
            tracing::warn!(
                "an ICAP client does not send the addresses of a connection: stand-ins take their \
                 place, and rules that name networks may not match; send X-Client-IP, \
                 X-Client-Port, X-Server-IP and X-Server-Port (this is said once)"
            );
        }
    }
}
