//! What ICAP services count, added up for the metrics page.
//!
//! A reload builds all services anew, while connections of the former settings go on with the former
//! services. The page shows a service as one, by its name: at each look the growth of every
//! counter since the last look is added to the page's own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use icap_client::{FailureKind, Service, ServiceMetrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::words::Towards;

type Count = fn(&ServiceMetrics) -> &icap_client::Counter;
type Level = fn(&ServiceMetrics) -> &icap_client::Gauge;

/// Name, meaning and place of each counter.
const COUNTS: [(&str, &str, Count); 15] = [
    ("icap_adapted", "Messages that a service answered with its own", |m| &m.adapted),
    ("icap_blocked", "Messages that a service blocked", |m| &m.blocked),
    ("icap_bypassed", "Messages that went on without a service since it failed", |m| &m.bypassed),
    ("icap_connections_opened", "Connections opened to a service", |m| &m.connections_opened),
    ("icap_connections_reused", "Transactions on a kept connection", |m| &m.reused),
    ("icap_copies_refused", "Contents sent to a service without a copy", |m| &m.copies_refused),
    ("icap_ignored", "Messages that a service asked not to see", |m| &m.ignored),
    ("icap_monitor_lost", "Copies that a monitor did not get wholly", |m| &m.monitor_lost),
    ("icap_options", "OPTIONS requests to a service", |m| &m.options),
    ("icap_passed", "Messages that a service passed as they were", |m| &m.passed),
    ("icap_received_bytes", "Bytes read from a service", |m| &m.received_bytes),
    ("icap_retries", "Transactions sent to a service once more", |m| &m.retries),
    ("icap_sent_bytes", "Bytes written to a service", |m| &m.sent_bytes),
    ("icap_transactions", "Transactions that a service answered or failed", |m| &m.transactions),
    ("icap_unadapted_bytes", "Bytes of content that a service did not see", |m| &m.unadapted_bytes),
];

/// Name, meaning and place of each level.
const LEVELS: [(&str, &str, Level); 3] = [
    ("icap_active", "Transactions that wait for a service's answer", |m| &m.active),
    ("icap_connections", "Connections open to a service", |m| &m.connections),
    ("icap_monitor_bytes", "Bytes held of copies for a monitor", |m| &m.monitor_bytes),
];

/// Trailers that went on without having been sent to a service, by the way they went.
const TRAILERS: [(Towards, Count); 2] = [
    (Towards::Server, |m| &m.request_trailer_bytes),
    (Towards::Client, |m| &m.response_trailer_bytes),
];

/// The services' counters.
#[derive(Debug, Default)]
pub(super) struct Services {
    sources: Mutex<Sources>,
    counts: [Family<ServiceLabels, Counter>; COUNTS.len()],
    levels: [Family<ServiceLabels, Gauge>; LEVELS.len()],
    failures: Family<FailureLabels, Counter>,
    unseen: Counter,
}

#[derive(Debug, Default)]
struct Sources {
    services: Vec<Source>,
    unseen: Vec<Tally<icap_client::Counter>>,
}

/// One service of the settings in force, or of former ones that connections still go by.
#[derive(Debug)]
struct Source {
    labels: ServiceLabels,
    counted: Tally<ServiceMetrics>,
}

/// Counters, and what was taken over of them so far.
#[derive(Debug)]
struct Tally<T> {
    counters: Arc<T>,
    taken: Vec<u64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ServiceLabels {
    service: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FailureLabels {
    service: String,
    kind: &'static str,
}

impl Services {
    pub(super) fn register(&self, registry: &mut Registry) {
        for ((name, help, _), family) in COUNTS.into_iter().zip(&self.counts) {
            registry.register(name, help, family.clone());
        }
        for ((name, help, _), family) in LEVELS.into_iter().zip(&self.levels) {
            registry.register(name, help, family.clone());
        }
        registry.register("icap_failures", "Failures of a service, by kind", self.failures.clone());
        registry.register(
            "icap_unseen_messages",
            "Messages that went through a chain without any service having seen them",
            self.unseen.clone(),
        );
    }

    /// Shows these services, and these chains' counts of what none has seen, from now on. Whatever
    /// is shown already stays as it is.
    pub(super) fn watch<'a>(
        &self,
        services: impl Iterator<Item = &'a Arc<Service>>,
        unseen: impl Iterator<Item = &'a Arc<icap_client::Counter>>,
    ) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        for service in services {
            if !sources.services.iter().any(|known| known.counted.is(service.metrics())) {
                let labels = ServiceLabels { service: service.name().to_string() };
                sources.services.push(Source { labels, counted: Tally::new(service.metrics()) });
            }
        }
        for count in unseen {
            if !sources.unseen.iter().any(|known| known.is(count)) {
                sources.unseen.push(Tally::new(count));
            }
        }
    }

    /// Takes over what has been counted since the last time. Those that nobody counts with any
    /// more are forgotten. `uninspected` is told of bytes that no service has seen.
    pub(super) fn update(&self, uninspected: impl Fn(Towards, u64)) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let mut levels: BTreeMap<ServiceLabels, [i64; LEVELS.len()]> = BTreeMap::new();
        sources.services.retain_mut(|source| {
            let Source { labels, counted } = source;
            let ended = counted.has_ended();
            let metrics = counted.counters.clone();
            let mut growth = counted.growth(
                COUNTS
                    .iter()
                    .map(|(_, _, count)| count(&metrics))
                    .chain(FailureKind::ALL.iter().map(|kind| metrics.failures(*kind)))
                    .chain(TRAILERS.iter().map(|(_, count)| count(&metrics))),
            );
            for (family, grown) in self.counts.iter().zip(&mut growth) {
                family.get_or_create(labels).inc_by(grown);
            }
            for (kind, grown) in FailureKind::ALL.iter().zip(&mut growth) {
                let service = labels.service.clone();
                let labels = FailureLabels { service, kind: kind.name() };
                self.failures.get_or_create(&labels).inc_by(grown);
            }
            for ((towards, _), grown) in TRAILERS.iter().zip(&mut growth) {
                if grown > 0 {
                    uninspected(*towards, grown);
                }
            }
            let sums = levels.entry(labels.clone()).or_default();
            for (sum, (_, _, level)) in sums.iter_mut().zip(&LEVELS) {
                *sum += level(&metrics).value();
            }
            !ended
        });
        for (labels, sums) in levels {
            for (family, sum) in self.levels.iter().zip(sums) {
                family.get_or_create(&labels).set(sum);
            }
        }
        sources.unseen.retain_mut(|unseen| {
            let ended = unseen.has_ended();
            let count = unseen.counters.clone();
            self.unseen.inc_by(unseen.growth([&*count].into_iter()).sum());
            !ended
        });
    }
}

impl<T> Tally<T> {
    fn new(counters: &Arc<T>) -> Self {
        Self { counters: counters.clone(), taken: Vec::new() }
    }

    fn is(&self, counters: &Arc<T>) -> bool {
        Arc::ptr_eq(&self.counters, counters)
    }

    /// Whether nobody else has the counters: what they show then is final.
    fn has_ended(&mut self) -> bool {
        Arc::get_mut(&mut self.counters).is_some()
    }

    /// By how much each of these counters, always the same, has grown.
    fn growth<'a>(
        &mut self,
        counters: impl Iterator<Item = &'a icap_client::Counter>,
    ) -> std::vec::IntoIter<u64> {
        let now: Vec<u64> = counters.map(icap_client::Counter::value).collect();
        let before = std::mem::replace(&mut self.taken, now.clone());
        let before = before.into_iter().chain(std::iter::repeat(0));
        let growth: Vec<u64> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        growth.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use icap_client::{Chain, Fail, FailPolicy, Full, ServiceConfig, TransactionInfo};

    use crate::metrics::Metrics;

    fn chain() -> Chain {
        let mut config = ServiceConfig::new("a", "icap://127.0.0.1:1/none");
        config.fail = FailPolicy::all(Fail::Open);
        Chain::from_services(&[config]).unwrap()
    }

    async fn send(chain: &Chain) {
        let head = b"POST / HTTP/1.1\r\nHost: o.test\r\nContent-Length: 3\r\n\r\n";
        let head = http_wire::RequestHead::from_bytes(head[..].into(), &Default::default());
        let info = TransactionInfo::new("http", "c", "t");
        let body = Full::from_bytes(b"abc".to_vec()).boxed();
        match chain.reqmod(&info, head.unwrap(), Some(body)).await.unwrap() {
            icap_client::Adapted::Forward { body: Some(mut body), .. } => {
                while icap_client::next_frame(&mut body).await.is_some() {}
            }
            _ => panic!("the request must go on"),
        }
    }

    fn shows(metrics: &Metrics, line: &str) {
        let text = metrics.text();
        assert!(text.lines().any(|l| l == line), "no {line:?} in:\n{text}");
    }

    #[tokio::test]
    async fn counts_of_services_add_up_over_reloads() {
        let metrics = Metrics::new();
        let former = chain();
        metrics.watch(former.services(), [former.unseen()].into_iter());
        shows(&metrics, "meergate_icap_bypassed_total{service=\"a\"} 0");
        send(&former).await;
        // Once for all the chains that it is in.
        metrics.watch(former.services(), [former.unseen()].into_iter());
        shows(&metrics, "meergate_icap_bypassed_total{service=\"a\"} 1");
        shows(&metrics, "meergate_icap_bypassed_total{service=\"a\"} 1");
        let latter = chain();
        metrics.watch(latter.services(), [latter.unseen()].into_iter());
        send(&former).await;
        send(&latter).await;
        // What was counted after the last look is not lost with who counted it.
        drop(former);
        shows(&metrics, "meergate_icap_bypassed_total{service=\"a\"} 3");
        shows(&metrics, "meergate_icap_unadapted_bytes_total{service=\"a\"} 9");
        shows(&metrics, "meergate_icap_failures_total{service=\"a\",kind=\"connect\"} 3");
        shows(&metrics, "meergate_icap_unseen_messages_total 3");
        shows(&metrics, "meergate_icap_connections{service=\"a\"} 0");
        send(&latter).await;
        shows(&metrics, "meergate_icap_bypassed_total{service=\"a\"} 4");
        let sources = metrics.services.sources.lock().unwrap();
        assert_eq!((sources.services.len(), sources.unseen.len()), (1, 1), "the former are gone");
    }
}
