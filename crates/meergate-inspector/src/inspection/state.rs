//! What all workers share.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use icap::IsTag;

use crate::inspection::claims::Keys;
use crate::inspection::clients::Clients;
use crate::inspection::metrics::Metrics;
use crate::inspection::owners::Owners;
use crate::settings::Settings;
use crate::settings::StandIns;

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
    /// Who has how much under way.
    pub(crate) clients: Clients,
    /// Streams that are open.
    pub(crate) streams: AtomicUsize,
    rules: AtomicU64,
    transactions: AtomicU64,
    /// Distinguishes transaction ids of this run from those of others.
    run: u64,
    grace_seconds: AtomicU64,
    said_stand_ins: AtomicBool,
}

impl State {
    /// At the start of the engine.
    pub(crate) fn new(settings: Settings, metrics: Metrics) -> Self {
        Self {
            clients: Clients::new(&settings.limits),
            settings,
            metrics,
            keys: Keys::default(),
            owners: Owners::new(),
            streams: AtomicUsize::new(0),
            rules: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            run: RandomState::new().hash_one(std::process::id()),
            grace_seconds: AtomicU64::new(0),
            said_stand_ins: AtomicBool::new(false),
        }
    }

    /// Addresses for what clients leave out.
    pub(crate) fn stand_ins(&self) -> &StandIns {
        &self.settings.stand_ins
    }

    /// The rules in force are those of this version.
    pub(crate) fn rules_changed(&self, version: u64) {
        self.rules.store(version, Relaxed);
    }

    /// How long transactions in flight may take once the workers are to stop.
    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds.load(Relaxed))
    }

    /// To be set before the workers are told to stop.
    pub(crate) fn set_grace(&self, grace: Duration) {
        self.grace_seconds.store(grace.as_secs(), Relaxed);
    }

    /// Changes with the rules and with the process, so that no client trusts a decision made under older ones.
    pub(crate) fn istag(&self) -> IsTag {
        IsTag::from_state("meergate", self.run.wrapping_add(self.rules.load(Relaxed)))
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
