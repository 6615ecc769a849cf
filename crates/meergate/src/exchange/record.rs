//! What is remembered of a transaction until its record is written.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use http_wire::{RequestHead, ResponseHead};
use icap_client::{Block, Copies, Did, Trail, TransactionInfo};
use shares::Limit;

use super::account::{Account, Message};
use super::pace::Pace;
use super::pump::{Counted, Progress};
use super::trouble::Trouble;
use crate::config::Ranges;
use crate::metrics::{LimitLabels, TransactionLabels};
use crate::policy::Decision;
use crate::records::{Adaptation, BlockRecord, ServiceRecord, TransactionRecord, rfc3339};
use crate::session::{Session, decide_request, decide_response};
use crate::tls::UpstreamTls;
use crate::upstream::Route;
use crate::words::{Deed, Limited, Outcome, Protocol, Target, Unseen};

/// Longest path that a record holds, in bytes.
const MAX_PATH: usize = 4096;

/// One transaction, from its request's head on.
pub(crate) struct Transaction<'a> {
    pub(crate) session: &'a Session,
    pub(crate) progress: Arc<Progress>,
    number: u64,
    /// Made when somebody asks for it.
    id: OnceLock<Arc<str>>,
    protocol: Protocol,
    stream_id: Option<u64>,
    target: Option<Target>,
    /// Where the target is, unless it is the session's.
    addresses: Option<Arc<[IpAddr]>>,
    began: Instant,
    counted: Counts,
    /// It was counted and logged.
    finished: bool,
    /// Kept only if there is a log to write it to.
    logged: Option<Box<Logged>>,
    /// Of the request's content, if it has any.
    pub(super) pace: Option<Arc<Pace>>,
    pub(super) server: Option<SocketAddr>,
    /// What the origin's handshake told; of the client connection's first one, until the request's own
    /// is known.
    pub(super) tls: Option<Arc<UpstreamTls>>,
    pub(super) status: Option<u16>,
    pub(super) outcome: Outcome,
    /// What went wrong is known.
    failed: bool,
    /// The rule that decided last.
    pub(super) rule: Option<&'a str>,
    /// What that rule says of parts of resources.
    pub(super) ranges: Ranges,
    /// Protocols that it may upgrade to.
    pub(super) upgrades: &'a [String],
    /// What of it nobody has looked into.
    pub(super) account: Account,
}

/// What only the log has a use for.
#[derive(Default)]
struct Logged {
    request: Option<RequestHead>,
    reqmod: Option<Adaptation>,
    respmod: Option<Adaptation>,
    block: Option<BlockRecord>,
    detail: Option<String>,
}

impl<'a> Transaction<'a> {
    /// Begins a transaction of `session` whose request is `head`.
    pub(crate) fn begin(
        session: &'a Session,
        protocol: Protocol,
        stream_id: Option<u64>,
        progress: &Arc<Progress>,
        head: Option<&RequestHead>,
        target: Option<&Target>,
    ) -> Self {
        let logged = session.shared.logs.transactions.is_some();
        let logged =
            logged.then(|| Box::new(Logged { request: head.cloned(), ..Logged::default() }));
        Self {
            session,
            progress: progress.clone(),
            number: session.totals.next_transaction(),
            id: OnceLock::new(),
            protocol,
            stream_id,
            target: target.cloned(),
            addresses: None,
            began: Instant::now(),
            counted: Counts::of(progress),
            finished: false,
            logged,
            pace: None,
            server: None,
            tls: session.tls.as_ref().and_then(|tls| tls.upstream.clone()),
            status: None,
            outcome: Outcome::Forwarded,
            failed: false,
            rule: None,
            ranges: Ranges::default(),
            upgrades: &[],
            account: Account::default(),
        }
    }

    /// It goes along `route` instead of the session's.
    #[must_use]
    pub(crate) fn along(mut self, route: Option<&Route>) -> Self {
        if let Some(route) = route {
            self.target = Some(route.target.clone());
            self.addresses = Some(self.known(route));
        }
        self
    }

    /// Where its request goes, if that is known.
    pub(super) fn target(&self) -> Option<&Target> {
        self.target.as_ref().or(self.session.target())
    }

    /// What the rules say about its request.
    pub(super) fn decide(&self, head: &RequestHead) -> &'a Decision {
        let session = self.session;
        match self.target() {
            Some(target) => {
                decide_request(session, target, &self.addresses(), self.tls.as_deref(), head)
            }
            None => session.settings.policy.default_decision(),
        }
    }

    /// What the rules say about the response to its request.
    pub(super) fn decide_response(
        &self,
        head: &RequestHead,
        response: &ResponseHead,
    ) -> &'a Decision {
        let session = self.session;
        match self.target() {
            Some(target) => {
                let (addresses, tls) = (self.addresses(), self.tls.as_deref());
                decide_response(session, target, &addresses, tls, head, response)
            }
            None => session.settings.policy.default_decision(),
        }
    }

    /// The addresses that it may go to, as far as they are known and rules ask for them.
    fn addresses(&self) -> Arc<[IpAddr]> {
        match (&self.addresses, self.session.route()) {
            (Some(addresses), _) => addresses.clone(),
            (None, Some(route)) => self.known(route),
            (None, None) => Arc::default(),
        }
    }

    fn known(&self, route: &Route) -> Arc<[IpAddr]> {
        match self.session.settings.policy.looks_at_addresses() {
            true => route.addresses(),
            false => Arc::default(),
        }
    }

    /// The transaction's name, in all logs and on pages.
    pub(crate) fn id(&self) -> &Arc<str> {
        self.id.get_or_init(|| format!("{}-{}", self.session.id, self.number).into())
    }

    /// What services are told of it.
    pub(super) fn info(&self) -> TransactionInfo {
        let mut info = self.session.info(self.protocol.as_str(), self.id().clone(), self.server);
        info.stream_id = self.stream_id;
        info.copies = Some(Copies {
            ledger: self.session.shared.copies.clone(),
            limit: Limit::of(self.session.settings.config.limits.copies.0),
        });
        info
    }

    pub(super) fn blocked(&mut self, block: Option<&Block>, by: &Arc<str>) {
        self.outcome = match block {
            Some(_) => Outcome::Blocked,
            None => Outcome::Answered,
        };
        if let Some(logged) = &mut self.logged {
            logged.block = block.map(|block| BlockRecord {
                service: by.to_string(),
                signature_id: block.signature_id.clone(),
                violations: block.violations.clone(),
            });
        }
    }

    /// Remembers a message's way through the services, which `took` so long.
    pub(super) fn adapted(&mut self, message: Message, trail: &Trail, took: Duration) {
        self.account.shown(message, trail);
        if let Some(logged) = &mut self.logged {
            let adaptation = Some(adaptation(trail, took));
            match message {
                Message::Request => logged.reqmod = adaptation,
                Message::Response => logged.respmod = adaptation,
            }
        }
    }

    /// What is behind `trouble`: content that comes too slowly fails in whoever waited for it.
    pub(super) fn cause(&self, trouble: Trouble) -> Trouble {
        if !self.pace.as_ref().is_some_and(|pace| pace.is_missed()) {
            return trouble;
        }
        let labels = LimitLabels { limit: Limited::MinRate };
        self.session.shared.metrics.limited.get_or_create(&labels).inc();
        Trouble::SlowClient
    }

    pub(super) fn failed(&mut self, trouble: &Trouble) {
        self.fails(trouble.outcome(), || trouble.to_string());
    }

    /// The other protocol that it changed to has ended otherwise than its sides wanted.
    pub(super) fn inside_ended(
        &mut self,
        outcome: Outcome,
        block: Option<BlockRecord>,
        detail: Option<String>,
    ) {
        self.outcome = outcome;
        if let Some(logged) = &mut self.logged {
            logged.block = block;
            logged.detail = detail;
        }
    }

    fn fails(&mut self, outcome: Outcome, detail: impl FnOnce() -> String) {
        self.outcome = outcome;
        self.failed = true;
        if let Some(logged) = &mut self.logged {
            logged.detail = Some(detail());
        }
    }

    /// Counts and logs; the transaction is over.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        let moved = Counts::of(&self.progress).since(&self.counted);
        let [from_client, from_server, _, _] = moved.contents;
        let session = self.session;
        session.totals.add_from_client(from_client);
        session.totals.add_from_server(from_server);
        let metrics = &session.shared.metrics;
        let labels = TransactionLabels { protocol: self.protocol, outcome: self.outcome };
        metrics.transactions.get_or_create(&labels).inc();
        let took = self.began.elapsed();
        metrics.transaction_seconds.observe(took.as_secs_f64());
        let [_, _, to_client, to_server] = moved.contents;
        let [trailers_to_client, trailers_to_server] = moved.trailers;
        let uninspected = self.account.settle(
            to_server + trailers_to_server,
            to_client + trailers_to_client,
            |why, towards, bytes| metrics.uninspected(why, towards, bytes),
        );
        self.log(took, moved.contents, &uninspected);
    }

    fn log(&self, took: Duration, bytes: [u64; 4], uninspected: &[Unseen]) {
        let (Some(log), Some(logged)) = (&self.session.shared.logs.transactions, &self.logged)
        else {
            return;
        };
        let (method, path) = match &logged.request {
            Some(head) => (head.method(), head.target()),
            None => (&b""[..], &b""[..]),
        };
        let method = String::from_utf8_lossy(method);
        let path = String::from_utf8_lossy(&path[..path.len().min(MAX_PATH)]);
        let host = self.target.as_ref().map_or("", |t| &t.host);
        let [bytes_from_client, bytes_from_server, bytes_to_client, bytes_to_server] = bytes;
        log.write(&TransactionRecord {
            time: rfc3339(SystemTime::now() - took),
            transaction_id: self.id(),
            connection_id: &self.session.id,
            stream_id: self.stream_id,
            client: self.session.client,
            server: self.server,
            user: self.session.user.as_deref(),
            protocol: self.protocol,
            scheme: self.session.scheme.as_str(),
            method: &method,
            host,
            path: &path,
            status: self.status,
            bytes_from_client,
            bytes_to_server,
            bytes_from_server,
            bytes_to_client,
            rule: self.rule,
            reqmod: logged.reqmod.as_ref(),
            respmod: logged.respmod.as_ref(),
            block: logged.block.as_ref(),
            uninspected,
            outcome: self.outcome,
            detail: logged.detail.as_deref(),
            ms: milliseconds(took),
        });
    }
}

/// However its task ends, it is counted and logged. What was not finished by then was cut off with the
/// client's connection, or with all of them.
impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // A failure that the client was being told of stays the reason.
        if !self.failed {
            let (outcome, detail) = match self.session.shared.is_stopping() {
                true => (Outcome::Stopped, "the program was stopping"),
                false => (Outcome::ClientGone, "the client's connection ended"),
            };
            self.fails(outcome, || detail.to_owned());
        }
        self.finish();
    }
}

/// The record of one message's way through the services.
fn adaptation(trail: &Trail, took: Duration) -> Adaptation {
    let services = trail.steps.iter().map(|step| ServiceRecord {
        service: step.service.to_string(),
        did: match step.did {
            Did::Adapted => Deed::Adapted,
            Did::Bypassed(_) => Deed::Bypassed,
            Did::Ignored => Deed::Ignored,
            Did::Passed => Deed::Passed,
            _ => Deed::Other,
        },
        ms: milliseconds(step.took),
    });
    Adaptation { ms: milliseconds(took), services: services.collect() }
}

fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1e6).round() / 1e3
}

/// What a [`Progress`] says at one time.
struct Counts {
    /// From the client, from the origin, to the client, to the origin.
    contents: [u64; 4],
    /// To the client, to the origin.
    trailers: [u64; 2],
}

impl Counts {
    fn of(progress: &Progress) -> Self {
        use Counted::{FromClient, FromOrigin, ToClient, ToOrigin};
        Self {
            contents: [FromClient, FromOrigin, ToClient, ToOrigin].map(|at| progress.count(at)),
            trailers: [ToClient, ToOrigin].map(|at| progress.trailers(at)),
        }
    }

    /// What was added to `former`, which is of the same progress.
    fn since(&self, former: &Self) -> Self {
        let added = |now: u64, before: u64| now.wrapping_sub(before);
        Self {
            contents: std::array::from_fn(|i| added(self.contents[i], former.contents[i])),
            trailers: std::array::from_fn(|i| added(self.trailers[i], former.trailers[i])),
        }
    }
}
