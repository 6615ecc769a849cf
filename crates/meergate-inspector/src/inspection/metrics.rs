//! What is counted, and its form for Prometheus.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use icap_server::Tls;
use suricata::EngineStats;

use crate::inspection::refusal::Refusal;
use crate::link::Totals;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub(crate) fn one(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Makes it `n` and returns what it was.
    fn replace(&self, n: u64) -> u64 {
        self.0.swap(n, Relaxed)
    }

    /// The sum so far.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    /// Moves it by `n`.
    pub(crate) fn add(&self, n: i64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Makes it `n`.
    pub(crate) fn set(&self, n: i64) {
        self.0.store(n, Relaxed);
    }

    /// Where it stands.
    pub(crate) fn value(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of a histogram's buckets, in microseconds.
const BOUNDS: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 2_000_000,
    10_000_000,
];

/// How long something took.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BOUNDS.len() + 1],
    micros: Counter,
}

impl Histogram {
    /// Takes note of one duration.
    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|&bound| bound < micros)].one();
        self.micros.add(micros);
    }
}

macro_rules! enumerated {
    ($(#[$doc:meta])* $name:ident, $label:literal { $($(#[$vdoc:meta])* $variant:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            const LABEL: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word used in metrics and logs.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

enumerated! {
    /// How a transaction ended.
    Outcome, "outcome" {
        /// The client went away.
        Aborted => "aborted",
        /// The engine asked for a drop and the client got the block page.
        Blocked => "blocked",
        /// The engine asked for a drop after bytes had been released: the transfer was cut.
        Cut => "cut",
        /// It could not be inspected, so it was refused.
        Failed => "failed",
        /// The engine passed all of it.
        Passed => "passed",
        /// Its content cannot be read as its receiver would, and the settings say no.
        Refused => "refused",
    }
}

enumerated! {
    /// Why bytes of a transaction were not inspected, or not as their receiver reads them.
    Uninspected, "reason" {
        /// They came after a drop.
        AfterDrop => "after-drop",
        /// Bytes of the coded form that are not content, such as a gzip comment. A receiver that
        /// does not decode still gets them.
        BesideContent => "beside-content",
        /// Text in a charset that rules do not read, such as UTF-16.
        Charset => "charset",
        /// In a coding that is not decoded here, and passed because the settings say so, or below HTTP.
        Coding => "coding",
        /// The message contradicted itself.
        Contradiction => "contradiction",
        /// A DNS message that could not be read as one, and passed because the settings say so.
        Dns => "dns",
        /// The engine could not inspect the flow.
        Engine => "engine",
        /// The engine took for content something else than there was, or did not keep all of it.
        EngineContent => "engine-content",
        /// The engine was refused memory.
        EngineMemory => "engine-memory",
        /// A rule gave up on it.
        EngineRule => "engine-rule",
        /// The engine did not keep all of the stream.
        EngineStream => "engine-stream",
        /// Of forms: names and files that the engine has not among its files.
        Form => "form",
        /// Of a client of mail that the engine does not see as its server does, and passed because the settings say so.
        Mail => "mail",
        /// Not what their coding asks for, and passed because the settings say so.
        Malformed => "malformed",
        /// Coded for a client that asked for no coding, and may keep the bytes as they came.
        NotAccepted => "not-accepted",
        /// A part of a resource: inspected, but not together with the other parts.
        Range => "range",
        /// Of content that was refused.
        Refused => "refused",
        /// A request body that the client sent to no REQMOD, known from its Content-Length.
        RequestBodyUnseen => "request-body-unseen",
    }
}

/// The counters of one worker, each written by its thread alone.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Transactions by [`Outcome`].
    outcomes: [Counter; Outcome::ALL.len()],
    /// Bytes by [`Uninspected`].
    uninspected: [Counter; Uninspected::ALL.len()],
    /// Transactions by the [`Refusal`] of their content.
    pub(crate) refusals: [Counter; Refusal::LABELS.len()],
    /// DNS messages that the engine was shown as such.
    pub(crate) dns_messages: Counter,
    /// Those of them that a rule dropped.
    pub(crate) dns_blocked: Counter,
    /// Bytes that the engine got of coded bodies.
    pub(crate) decoded: Counter,
    /// Body bytes that the engine has passed or dropped.
    pub(crate) inspected: Counter,
    /// Transactions answered with 204.
    pub(crate) unmodified: Counter,
    /// Bodies that were not held because of their content type.
    pub(crate) unheld: Counter,
    /// Bodies of which some was released because nothing more came.
    pub(crate) paused: Counter,
    /// Connections that came from another worker.
    pub(crate) migrated: Counter,
    /// Transactions whose addresses had to be completed with stand-ins.
    pub(crate) invented: Counter,
    /// Transactions with an address, port or id that made no sense.
    pub(crate) absurd: Counter,
    /// Transactions between address families.
    pub(crate) mixed: Counter,
    /// Responses that came without their request.
    pub(crate) unasked: Counter,
    /// Transactions refused because their client had its share under way.
    pub(crate) over_share: Counter,
    /// Flows that were not kept because their client had its share of them.
    pub(crate) flows_unkept: Counter,
    /// Streams begun.
    pub(crate) streams: Counter,
    /// Streams beyond those that may be open at once.
    pub(crate) streams_refused: Counter,
    /// Bytes of streams into which no rule and no parser looks.
    pub(crate) unneeded: Counter,
    /// Flows opened.
    pub(crate) flows_opened: Counter,
    /// Flows closed because the table was full.
    pub(crate) flows_displaced: Counter,
    /// Flows closed because nobody used them.
    pub(crate) flows_expired: Counter,
    /// Flows that a later transaction may continue.
    pub(crate) flows: Gauge,
    /// ICAP connections.
    pub(crate) connections: Gauge,
    /// Rings in use.
    pub(crate) rings: Gauge,
    /// Body bytes that wait in rings.
    pub(crate) held: Gauge,
    /// From the request head to the end of the reply.
    pub(crate) duration: Histogram,
    /// Grows while the worker's thread is alive.
    pub(crate) beats: Counter,
    /// Where `beats` stood when it was last asked.
    seen: Counter,
}

impl Counters {
    /// One transaction ended so.
    pub(crate) fn outcome(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].one();
    }

    /// So many bytes were not inspected.
    pub(crate) fn uninspected(&self, reason: Uninspected, bytes: u64) {
        self.uninspected[reason as usize].add(bytes);
    }
}

/// What the process as a whole counts.
#[derive(Debug, Default)]
pub(crate) struct Process {
    /// Rules that are loaded.
    pub(crate) rules: Gauge,
    /// Those of them that drop.
    pub(crate) rules_dropping: Gauge,
    /// Rules that do not parse, and are done without.
    pub(crate) rules_lost: Gauge,
    /// Version of the rule set; grows with every reload of this process.
    pub(crate) rules_version: Gauge,
    totals: Mutex<Totals>,
}

impl Process {
    /// What the supervisor has counted.
    pub(crate) fn set_totals(&self, totals: Totals) {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }

    fn totals(&self) -> Totals {
        *self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All counters of the process.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// One a worker.
    pub(crate) workers: Arc<[Counters]>,
    /// The rest.
    pub(crate) process: Arc<Process>,
    /// What counts failed handshakes, if anybody listens for TLS.
    tls: Option<Tls>,
}

impl Metrics {
    /// For so many workers, and this identity if there are listeners for TLS.
    pub(crate) fn new(workers: usize, tls: Option<Tls>) -> Self {
        Self {
            workers: (0..workers).map(|_| Counters::default()).collect(),
            process: Arc::default(),
            tls,
        }
    }

    /// Body bytes that the engine has passed or dropped.
    pub(crate) fn inspected(&self) -> u64 {
        self.sum(|worker| &worker.inspected)
    }

    /// Grows with all that leaves memory free behind: bytes inspected, and flows that ended.
    pub(crate) fn activity(&self) -> u64 {
        let open = u64::try_from(self.total(|worker| &worker.flows)).unwrap_or_default();
        self.inspected() + self.sum(|worker| &worker.flows_opened).saturating_sub(open)
    }

    fn sum(&self, counter: impl Fn(&Counters) -> &Counter) -> u64 {
        self.workers.iter().map(|w| counter(w).value()).sum()
    }

    fn total(&self, gauge: impl Fn(&Counters) -> &Gauge) -> i64 {
        self.workers.iter().map(|w| gauge(w).value()).sum()
    }

    /// Whether every worker has given a sign of life since this was last asked.
    pub(crate) fn all_alive(&self) -> bool {
        let seen = |w: &Counters| w.seen.replace(w.beats.value()) != w.beats.value();
        // All of them are asked, so that each is compared with its own last time.
        self.workers.iter().map(seen).fold(true, |all, alive| all & alive)
    }

    /// The text exposition format of Prometheus, version 0.0.4, with the engine's counters.
    pub(crate) fn render(&self, engine: &EngineStats) -> String {
        let mut out = Page(String::with_capacity(8192));
        out.family("transactions_total", "counter", "Transactions by how they ended.");
        for &o in Outcome::ALL {
            let n = self.sum(|w| &w.outcomes[o as usize]);
            out.labelled("transactions_total", Outcome::LABEL, o.as_str(), n);
        }
        out.family("uninspected_bytes_total", "counter", "Bytes not inspected, by reason.");
        for &r in Uninspected::ALL {
            let n = self.sum(|w| &w.uninspected[r as usize]);
            out.labelled("uninspected_bytes_total", Uninspected::LABEL, r.as_str(), n);
        }
        out.family("refused_total", "counter", "Transactions with refused content, by reason.");
        for (i, label) in Refusal::LABELS.iter().enumerate() {
            out.labelled("refused_total", "reason", label, self.sum(|w| &w.refusals[i]));
        }
        let counters: [Family<Counter>; 21] = [
            ("dns_messages_total", "DNS messages inspected as such.", |w| &w.dns_messages),
            ("dns_blocked_total", "DNS messages that a rule dropped.", |w| &w.dns_blocked),
            ("decoded_bytes_total", "Bytes that came of coded bodies.", |w| &w.decoded),
            ("inspected_bytes_total", "Body bytes inspected.", |w| &w.inspected),
            ("unmodified_total", "Transactions answered with 204.", |w| &w.unmodified),
            ("unheld_total", "Bodies not held because of their type.", |w| &w.unheld),
            ("paused_total", "Bodies released because they paused.", |w| &w.paused),
            ("migrated_total", "Connections handed to another worker.", |w| &w.migrated),
            ("stand_in_addresses_total", "Transactions with stand-in addresses.", |w| &w.invented),
            ("absurd_headers_total", "Transactions with senseless address headers.", |w| &w.absurd),
            ("mixed_families_total", "Transactions between address families.", |w| &w.mixed),
            ("unasked_responses_total", "Responses without their request.", |w| &w.unasked),
            ("over_share_total", "Transactions beyond their client's share.", |w| &w.over_share),
            ("flows_unkept_total", "Flows beyond their client's share.", |w| &w.flows_unkept),
            ("streams_total", "TCP streams begun.", |w| &w.streams),
            ("streams_refused_total", "Streams beyond max_streams.", |w| &w.streams_refused),
            ("unneeded_bytes_total", "Stream bytes that no rule looks into.", |w| &w.unneeded),
            ("flows_opened_total", "Flows opened.", |w| &w.flows_opened),
            ("flows_displaced_total", "Flows closed to make room.", |w| &w.flows_displaced),
            ("flows_expired_total", "Flows closed after idling.", |w| &w.flows_expired),
            ("beats_total", "Signs of life of the workers.", |w| &w.beats),
        ];
        for (name, help, counter) in counters {
            out.single(name, "counter", help, self.sum(counter));
        }
        let gauges: [Family<Gauge>; 4] = [
            ("flows", "Flows that may continue.", |w| &w.flows),
            ("connections", "ICAP connections.", |w| &w.connections),
            ("rings", "Ring buffers in use.", |w| &w.rings),
            ("held_bytes", "Body bytes waiting in ring buffers.", |w| &w.held),
        ];
        for (name, help, gauge) in gauges {
            out.single(name, "gauge", help, self.total(gauge));
        }
        let p = &self.process;
        out.single("rules", "gauge", "Rules loaded.", p.rules.value());
        out.single("rules_dropping", "gauge", "Rules that can drop.", p.rules_dropping.value());
        out.single("rules_lost", "gauge", "Rules that do not parse.", p.rules_lost.value());
        out.single("rules_version", "gauge", "Version of the rule set.", p.rules_version.value());
        let totals = p.totals();
        out.single("reloads_total", "counter", "Reloads that took.", totals.reloads);
        out.single("reloads_refused_total", "counter", "Reloads refused.", totals.refused);
        out.single("engine_restarts_total", "counter", "Engine restarts.", totals.restarts);
        let refused = self.tls.as_ref().map_or(0, Tls::failures);
        out.single("tls_handshakes_failed_total", "counter", "TLS handshakes failed.", refused);
        let lost = engine.lines_lost;
        out.single("event_lines_lost_total", "counter", "Lines of events not written.", lost);
        self.render_histogram(&mut out);
        out.family("suricata", "untyped", "Suricata's own counters, by name.");
        for (name, value) in &engine.counters {
            out.labelled("suricata", "counter", name, *value);
        }
        out.0
    }

    fn render_histogram(&self, out: &mut Page) {
        let name = "transaction_seconds";
        out.family(name, "histogram", "From request head to the end of the reply.");
        let mut count = 0;
        for i in 0..=BOUNDS.len() {
            count += self.sum(|w| &w.duration.buckets[i]);
            match BOUNDS.get(i) {
                Some(&b) => out.bucket(name, &Seconds(b).to_string(), count),
                None => out.bucket(name, "+Inf", count),
            }
        }
        out.plain(&format!("{name}_sum"), Seconds(self.sum(|w| &w.duration.micros)));
        out.plain(&format!("{name}_count"), count);
    }
}

/// Name, help, and where the value is.
type Family<T> = (&'static str, &'static str, fn(&Counters) -> &T);

/// Microseconds as seconds.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0 as f64 / 1e6).fmt(f)
    }
}

const PREFIX: &str = "meergate_inspector";

/// The page under construction. Writing to a `String` cannot fail.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}\n");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl fmt::Display) {
        self.family(name, kind, help);
        self.plain(name, value);
    }

    fn plain(&mut self, name: &str, value: impl fmt::Display) {
        let _ = writeln!(self.0, "{PREFIX}_{name} {value}");
    }

    fn labelled(&mut self, name: &str, label: &str, text: &str, value: u64) {
        let _ = writeln!(self.0, "{PREFIX}_{name}{{{label}=\"{text}\"}} {value}");
    }

    fn bucket(&mut self, name: &str, bound: &str, value: u64) {
        let _ = writeln!(self.0, "{PREFIX}_{name}_bucket{{le=\"{bound}\"}} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_ends_is_activity_and_one_that_begins_is_none() {
        let metrics = Metrics::new(1, None);
        let worker = &metrics.workers[0];
        worker.flows_opened.one();
        worker.flows.set(1);
        assert_eq!(metrics.activity(), 0);
        worker.flows.set(0);
        assert_eq!(metrics.activity(), 1);
    }
}
