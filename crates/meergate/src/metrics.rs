//! Everything that is counted, in one place, and its Prometheus text.

mod icap;

use std::fmt::Write;
use std::sync::Arc;

use icap_client::Service;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use shares::Ledger;

use crate::words::{
    Checked, ConnectionEnd, Handshake, Limited, LogName, Mirrored, Outcome, Password, Protocol,
    Reloaded, Side, Towards, Unseen, UpstreamErrorKind, WebSocketEnd,
};

/// The counters of the whole process. Cloning is cheap and shares the values.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Client connections open now.
    pub connections: Gauge,
    /// Client connections accepted, by the way they came in.
    pub accepted: Family<ListenerLabels, Counter>,
    /// Client connections refused or ended by a limit, by limit.
    pub limited: Family<LimitLabels, Counter>,
    /// TLS handshakes that failed, by side (`client`, `upstream`) and reason.
    pub handshake_failures: Family<FailureLabels, Counter>,
    /// TLS handshakes completed, by side (`client`, `upstream`) and kind (`full`, `resumed`).
    pub handshakes: Family<HandshakeLabels, Counter>,
    /// TLS handshakes of clients shown to services that take streams, by outcome.
    pub mirrors: Family<MirrorLabels, Counter>,
    /// Leaf certificates forged (not taken from the cache).
    pub forged: Counter,
    /// Certificate chains of origins that we verified, cache hits left out, by outcome.
    pub certificate_checks: Family<CheckLabels, Counter>,
    /// Passwords that were hashed, by outcome (`right`, `wrong`).
    pub passwords: Family<PasswordLabels, Counter>,
    /// When the CA's certificate ends, in seconds of Unix time.
    pub ca_expires: Gauge,
    /// Connections to origins opened, by outcome (`ok`, or what failed).
    pub upstream_connects: Family<ConnectLabels, Counter>,
    /// HTTP transactions finished, by protocol and outcome.
    pub transactions: Family<TransactionLabels, Counter>,
    /// TCP streams ended, by how.
    pub streams: Family<StreamLabels, Counter>,
    /// WebSockets that services saw ended, by how.
    pub websockets: Family<WebSocketLabels, Counter>,
    /// Seconds from a request's head to the end of its response.
    pub transaction_seconds: Histogram,
    /// Bytes that passed without inspection, by reason and direction.
    pub uninspected_bytes: Family<UninspectedLabels, Counter>,
    /// Heads of HTTP/1 responses that were not well formed and were written anew.
    pub responses_mended: Counter,
    /// Reloads of the settings, by outcome (`ok`, `failed`).
    pub reloads: Family<ReloadLabels, Counter>,
    /// Bytes reserved for contents of HTTP/2 streams that nobody may be reading.
    pub stream_windows: Gauge,
    /// What is taken for copies of contents that services may pass, in bytes.
    pub copies: Arc<Ledger>,
    copies_bytes: Gauge,
    /// What is taken for messages of WebSockets, in bytes.
    pub websocket_memory: Arc<Ledger>,
    websocket_bytes: Gauge,
    /// Captured packets lost since the disk was full or could not keep up.
    pub capture_packets_lost: Counter,
    /// Log lines lost since the disk was full or could not keep up, by log.
    pub log_lines_lost: Family<LogLabels, Counter>,
    services: icap::Services,
}

/// Labels of [`Metrics::accepted`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ListenerLabels {
    /// The kind of listener: `proxy`, `socks5`, `redirect`, ...
    pub listener: &'static str,
}

/// Labels of [`Metrics::limited`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LimitLabels {
    /// The limit that was met.
    pub limit: Limited,
}

/// Labels of [`Metrics::handshake_failures`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct FailureLabels {
    /// Whose handshake it was.
    pub side: Side,
    /// How it ended.
    pub reason: ConnectionEnd,
}

/// Labels of [`Metrics::handshakes`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct HandshakeLabels {
    /// Whose handshake it was.
    pub side: Side,
    /// How it was done.
    pub kind: Handshake,
}

/// Labels of [`Metrics::mirrors`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct MirrorLabels {
    /// What became of it.
    pub outcome: Mirrored,
}

/// Labels of [`Metrics::upstream_connects`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ConnectLabels {
    /// What became of it.
    pub outcome: Connected,
}

/// What became of a connection to an origin.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Connected {
    /// It is open.
    Open,
    /// It is not, for this.
    Failed(UpstreamErrorKind),
}

impl EncodeLabelValue for Connected {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.write_str(match self {
            Self::Open => "ok",
            Self::Failed(kind) => kind.as_str(),
        })
    }
}

/// Labels of [`Metrics::certificate_checks`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CheckLabels {
    /// What became of it.
    pub outcome: Checked,
}

/// Labels of [`Metrics::passwords`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct PasswordLabels {
    /// What became of it.
    pub outcome: Password,
}

/// Labels of [`Metrics::reloads`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ReloadLabels {
    /// What became of it.
    pub outcome: Reloaded,
}

/// Labels of [`Metrics::transactions`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct TransactionLabels {
    /// What the client spoke.
    pub protocol: Protocol,
    /// How it ended.
    pub outcome: Outcome,
}

/// Labels of [`Metrics::streams`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct StreamLabels {
    /// How it ended.
    pub outcome: ConnectionEnd,
}

/// Labels of [`Metrics::websockets`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct WebSocketLabels {
    /// How it ended.
    pub outcome: WebSocketEnd,
}

/// Labels of [`Metrics::uninspected_bytes`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct UninspectedLabels {
    /// Why nobody looked.
    pub reason: Unseen,
    /// To the server or to the client.
    pub direction: Towards,
}

/// Labels of [`Metrics::log_lines_lost`].
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LogLabels {
    /// Which log.
    pub log: LogName,
}

impl Metrics {
    /// All counters at zero.
    pub fn new() -> Self {
        // 100 µs to about 100 s.
        let transaction_seconds = Histogram::new(exponential_buckets(0.0001, 2.0, 21));
        let mut metrics = Self {
            registry: Registry::with_prefix("meergate"),
            connections: Gauge::default(),
            accepted: Family::default(),
            limited: Family::default(),
            handshake_failures: Family::default(),
            handshakes: Family::default(),
            mirrors: Family::default(),
            forged: Counter::default(),
            certificate_checks: Family::default(),
            passwords: Family::default(),
            ca_expires: Gauge::default(),
            upstream_connects: Family::default(),
            transactions: Family::default(),
            streams: Family::default(),
            websockets: Family::default(),
            transaction_seconds,
            uninspected_bytes: Family::default(),
            responses_mended: Counter::default(),
            reloads: Family::default(),
            stream_windows: Gauge::default(),
            copies: Ledger::new(),
            copies_bytes: Gauge::default(),
            websocket_memory: Ledger::new(),
            websocket_bytes: Gauge::default(),
            capture_packets_lost: Counter::default(),
            log_lines_lost: Family::default(),
            services: icap::Services::default(),
        };
        metrics.register();
        metrics
    }

    /// The Prometheus text (OpenMetrics) of all values.
    pub fn text(&self) -> String {
        self.update_services();
        self.copies_bytes.set(i64::try_from(self.copies.taken()).unwrap_or(i64::MAX));
        let held = self.websocket_memory.taken();
        self.websocket_bytes.set(i64::try_from(held).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Shows what these services count, and `unseen`, the messages of each chain that none of its
    /// services has seen. Services of the same name, as after a reload, are shown as one.
    pub fn watch<'a>(
        &self,
        services: impl Iterator<Item = &'a Arc<Service>>,
        unseen: impl Iterator<Item = &'a Arc<icap_client::Counter>>,
    ) {
        // Those of former settings are let go of here, also where nobody reads the page.
        self.update_services();
        self.services.watch(services, unseen);
    }

    fn update_services(&self) {
        self.services.update(|towards, bytes| self.uninspected(Unseen::Trailers, towards, bytes));
    }

    /// Counts a TLS handshake that was shown, or was to be.
    pub fn mirrored(&self, outcome: Mirrored) {
        self.mirrors.get_or_create(&MirrorLabels { outcome }).inc();
    }

    /// Counts `bytes` that passed without inspection, for `reason`.
    pub fn uninspected(&self, reason: Unseen, direction: Towards, bytes: u64) {
        self.uninspected_bytes
            .get_or_create(&UninspectedLabels { reason, direction })
            .inc_by(bytes);
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("connections", "Client connections open now", self.connections.clone());
        r.register("accepted", "Client connections accepted", self.accepted.clone());
        r.register("limited", "Client connections ended by a limit", self.limited.clone());
        r.register(
            "tls_handshake_failures",
            "TLS handshakes that failed",
            self.handshake_failures.clone(),
        );
        r.register("tls_handshakes", "TLS handshakes completed", self.handshakes.clone());
        r.register(
            "tls_mirrors",
            "TLS handshakes shown to services that take streams, by outcome",
            self.mirrors.clone(),
        );
        r.register("forged_certificates", "Leaf certificates forged", self.forged.clone());
        r.register(
            "certificate_checks",
            "Chains of origins' certificates verified, by outcome",
            self.certificate_checks.clone(),
        );
        r.register("passwords", "Passwords hashed, by outcome", self.passwords.clone());
        r.register_with_unit(
            "ca_expires",
            "When the CA's certificate ends, as Unix time",
            Unit::Seconds,
            self.ca_expires.clone(),
        );
        r.register(
            "upstream_connects",
            "Connections to origins, by outcome",
            self.upstream_connects.clone(),
        );
        r.register("transactions", "HTTP transactions finished", self.transactions.clone());
        r.register("streams", "TCP streams that are not HTTP ended", self.streams.clone());
        r.register("websockets", "Inspected WebSockets ended", self.websockets.clone());
        r.register_with_unit(
            "transaction",
            "Time from a request's head to the end of its response",
            Unit::Seconds,
            self.transaction_seconds.clone(),
        );
        r.register_with_unit(
            "uninspected",
            "Bytes that passed without inspection, by reason",
            Unit::Bytes,
            self.uninspected_bytes.clone(),
        );
        r.register_with_unit(
            "stream_windows",
            "Memory reserved for contents of HTTP/2 streams that nobody may be reading",
            Unit::Bytes,
            self.stream_windows.clone(),
        );
        r.register_with_unit(
            "copies",
            "Memory reserved for copies of contents that services may pass",
            Unit::Bytes,
            self.copies_bytes.clone(),
        );
        r.register_with_unit(
            "websocket_messages",
            "Memory reserved for WebSocket messages that are held until they are inspected",
            Unit::Bytes,
            self.websocket_bytes.clone(),
        );
        r.register(
            "capture_packets_lost",
            "Captured packets lost because the disk was full or could not keep up",
            self.capture_packets_lost.clone(),
        );
        r.register(
            "responses_mended",
            "Heads of HTTP/1 responses that were not well formed and were written anew",
            self.responses_mended.clone(),
        );
        r.register("reloads", "Reloads of the settings", self.reloads.clone());
        r.register(
            "log_lines_lost",
            "Log lines lost because the disk was full or could not keep up",
            self.log_lines_lost.clone(),
        );
        self.services.register(r);
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
