//! Names to addresses, through the system's resolver, with a bounded cache.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use quick_cache::sync::Cache;
use shares::Client;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::words::{Target, UpstreamError, UpstreamErrorKind};

/// Names kept.
const NAMES: usize = 10_000;
/// Questions asked at once: each occupies a thread until the system has its answer or gives up, which
/// can take half a minute, and clients choose the names.
const QUESTIONS: usize = 256;
/// Those of one client: whoever asks for names that nobody answers for leaves the others theirs.
const QUESTIONS_PER_CLIENT: usize = 16;
/// How long a name without an address is kept: long enough to hold off a loop, short enough not
/// to outlive a mistake.
const NEGATIVE: Duration = Duration::from_secs(2);

/// What [`is_local`] names stand for.
pub(super) const LOCAL: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Asks the system, or whoever a test puts in its place. It may block.
type Ask = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Resolves names and keeps the answers for a while. The system's resolver does not tell how long
/// an answer is valid, so the setting `upstream.dns_cache` bounds it.
pub struct Resolver {
    answers: Arc<Cache<Arc<str>, Answer>>,
    questions: Arc<Semaphore>,
    /// Those under way, of clients that have any.
    by_client: Mutex<HashMap<Client, Arc<Semaphore>>>,
    waited: Counter,
    ask: Arc<Ask>,
}

#[derive(Clone, Debug)]
struct Answer {
    addresses: Arc<[IpAddr]>,
    until: Instant,
}

impl Resolver {
    /// One with an empty cache, that asks the system.
    /// `waited` counts those that wait for others of the same client.
    pub fn new(waited: Counter) -> Self {
        let ask = |host: &str| {
            let found = (host, 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        };
        Self { waited, ..Self::asking(ask) }
    }

    /// One that has `ask` find the addresses of names.
    pub(super) fn asking(
        ask: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            answers: Arc::new(Cache::new(NAMES)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            by_client: Mutex::default(),
            waited: Counter::default(),
            ask: Arc::new(ask),
        }
    }

    /// The addresses of `target`'s host, at least one, in the system's order of preference, for
    /// `client`, or for ourselves.
    ///
    /// # Errors
    /// The name has no address, or nobody answers before `deadline`.
    pub async fn resolve(
        &self,
        target: &Target,
        client: Option<IpAddr>,
        keep: Duration,
        deadline: Instant,
    ) -> Result<Arc<[IpAddr]>, UpstreamError> {
        if let Some(ip) = target.ip() {
            return Ok(Arc::new([ip]));
        }
        if is_local(&target.host) {
            return Ok(Arc::new(LOCAL));
        }
        let late =
            || UpstreamError::new(UpstreamErrorKind::Timeout, target, "name servers are silent");
        // Those who ask for the same name at once wait for one answer.
        let cached = timeout_at(deadline, self.answers.get_value_or_guard_async(&target.host))
            .await
            .map_err(|_| late())?;
        let answer = match cached {
            Ok(answer) if answer.until > Instant::now() => answer,
            Ok(_) => timeout_at(deadline, self.ask(&target.host, client, keep))
                .await
                .map_err(|_| late())?,
            Err(guard) => {
                let answer = timeout_at(deadline, self.ask(&target.host, client, keep))
                    .await
                    .map_err(|_| late())?;
                // The entry may have been removed meanwhile; the answer serves all the same.
                let _ = guard.insert(answer.clone());
                answer
            }
        };
        if answer.addresses.is_empty() {
            return Err(UpstreamError::new(
                UpstreamErrorKind::Name,
                target,
                "name servers know no address for it",
            ));
        }
        Ok(answer.addresses)
    }

    /// Has a thread ask, which keeps the answer even if nobody waits for it any more. It counts as long
    /// as it works, however short the patience of whoever asked.
    async fn ask(&self, host: &Arc<str>, client: Option<IpAddr>, keep: Duration) -> Answer {
        let turn = Turn::of(self, client).await;
        let (host, answers, ask) = (host.clone(), self.answers.clone(), self.ask.clone());
        let work = move || {
            let found = ask(&host).unwrap_or_default();
            let mut addresses: Vec<IpAddr> = Vec::with_capacity(found.len());
            for ip in found.iter().map(IpAddr::to_canonical) {
                if !addresses.contains(&ip) {
                    addresses.push(ip);
                }
            }
            let keep = if addresses.is_empty() { keep.min(NEGATIVE) } else { keep };
            let answer = Answer { addresses: addresses.into(), until: Instant::now() + keep };
            answers.insert(host, answer.clone());
            drop(turn);
            answer
        };
        let nothing = || Answer { addresses: Arc::default(), until: Instant::now() };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| nothing())
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Client, Arc<Semaphore>>> {
        self.by_client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to ask one question, as long as it is under way.
struct Turn {
    _own: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// Waits for it. Neither semaphore is ever closed, so that it cannot fail.
    async fn of(resolver: &Resolver, client: Option<IpAddr>) -> Self {
        let own = match client.map(Client::from) {
            None => None,
            Some(client) => {
                let own = {
                    let mut clients = resolver.clients();
                    // Only clients with questions under way, of which there are not many.
                    clients.retain(|_, own| Arc::strong_count(own) > 1);
                    let new = || Arc::new(Semaphore::new(QUESTIONS_PER_CLIENT));
                    clients.entry(client).or_insert_with(new).clone()
                };
                if own.available_permits() == 0 {
                    resolver.waited.inc();
                }
                own.acquire_owned().await.ok()
            }
        };
        Self { _own: own, _all: resolver.questions.clone().acquire_owned().await.ok() }
    }
}

/// `localhost` and all names under it are the loopback's, whatever a name server says (RFC 6761,
/// section 6.3); a bare system may have no file that says so.
pub(super) fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("names", &self.answers.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const KEEP: Duration = Duration::from_secs(60);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn named(name: &str) -> Target {
        Target::new(name, 443).unwrap()
    }

    #[tokio::test]
    async fn addresses_need_no_name_server_and_unknown_names_are_errors() {
        let resolver = Resolver::new(Counter::default());
        let found = resolver.resolve(&named("[2001:db8::1]"), None, KEEP, soon()).await.unwrap();
        assert_eq!(*found, ["2001:db8::1".parse::<IpAddr>().unwrap()]);

        for name in ["localhost", "LocalHost", "a.localhost"] {
            let found = resolver.resolve(&named(name), None, KEEP, soon()).await.unwrap();
            assert!(found.iter().all(IpAddr::is_loopback));
            assert!(resolver.answers.get(&named(name).host).is_none());
        }

        // RFC 6761: `invalid` never has an address.
        let e = resolver.resolve(&named("name.invalid"), None, KEEP, soon()).await.unwrap_err();
        assert!(matches!(e.kind(), UpstreamErrorKind::Name | UpstreamErrorKind::Timeout));
    }

    /// A resolver that answers `a.slow` and the like only when the test is over, and others at once.
    fn slow() -> (Arc<Resolver>, mpsc::SyncSender<()>) {
        let (end, over) = mpsc::sync_channel::<()>(0);
        let over = Mutex::new(over);
        let resolver = Resolver::asking(move |host| {
            if host.ends_with(".slow") {
                let _ = over.lock().map(|over| over.recv());
            }
            Ok(vec!["192.0.2.1".parse().unwrap()])
        });
        (Arc::new(resolver), end)
    }

    #[tokio::test]
    async fn names_that_nobody_answers_for_stop_only_those_who_ask() {
        let (resolver, end) = slow();
        let flooder = "10.0.0.1".parse().unwrap();
        let deadline = Instant::now() + Duration::from_millis(20);
        let asked = (0..QUESTIONS * 2).map(|n| {
            let resolver = resolver.clone();
            let target = named(&format!("n{n}.slow"));
            async move { resolver.resolve(&target, Some(flooder), KEEP, deadline).await }
        });
        let answers = futures_util::future::join_all(asked).await;
        assert!(answers.iter().all(Result::is_err));
        // Nobody waits for these any more; the threads are busy all the same, and count.
        assert_eq!(resolver.questions.available_permits(), QUESTIONS - QUESTIONS_PER_CLIENT);
        for (client, name) in [("10.0.0.2", "a.example"), ("2001:db8::1", "b.example")] {
            resolver.resolve(&named(name), client.parse().ok(), KEEP, soon()).await.unwrap();
        }
        assert!(resolver.waited.get() > 0);
        drop(end);
        while resolver.questions.available_permits() < QUESTIONS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        resolver.resolve(&named("b.slow"), Some(flooder), KEEP, soon()).await.unwrap();
        assert_eq!(resolver.clients().len(), 1, "clients without questions are forgotten");
    }

    #[tokio::test]
    async fn an_answer_that_comes_late_is_kept() {
        let (resolver, end) = slow();
        let deadline = Instant::now() + Duration::from_millis(20);
        resolver.resolve(&named("a.slow"), None, KEEP, deadline).await.unwrap_err();
        drop(end);
        while resolver.answers.get(&named("a.slow").host).is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
