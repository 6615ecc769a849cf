//! Names to addresses, through the system's resolver, with a bounded cache.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::{UpstreamError, UpstreamErrorKind};
use crate::session::Target;

/// Names kept.
const NAMES: usize = 10_000;
/// Questions asked at once: each occupies a thread of the blocking pool, and clients choose the names.
const QUESTIONS: usize = 64;
/// How long a name without an address is kept: long enough to hold off a loop, short enough not
/// to outlive a mistake.
const NEGATIVE: Duration = Duration::from_secs(2);

/// Resolves names and keeps the answers for a while. The system's resolver does not tell how long
/// an answer is valid, so the setting `upstream.dns_cache` bounds it.
#[derive(Debug)]
pub struct Resolver {
    answers: Cache<Arc<str>, Answer>,
    questions: Semaphore,
}

#[derive(Clone, Debug)]
struct Answer {
    addresses: Arc<[IpAddr]>,
    until: Instant,
}

impl Resolver {
    /// An empty cache.
    pub fn new() -> Self {
        Self { answers: Cache::new(NAMES), questions: Semaphore::new(QUESTIONS) }
    }

    /// The addresses of `target`'s host, at least one, in the system's order of preference.
    ///
    /// # Errors
    /// The name has no address, or nobody answers before `deadline`.
    pub async fn resolve(
        &self,
        target: &Target,
        keep: Duration,
        deadline: Instant,
    ) -> Result<Arc<[IpAddr]>, UpstreamError> {
        if let Some(ip) = target.ip() {
            return Ok(Arc::new([ip]));
        }
        if is_local(&target.host) {
            return Ok(Arc::new([Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
        }
        let late =
            || UpstreamError::new(UpstreamErrorKind::Timeout, target, "name servers are silent");
        // Those who ask for the same name at once wait for one answer.
        let cached = timeout_at(deadline, self.answers.get_value_or_guard_async(&target.host))
            .await
            .map_err(|_| late())?;
        let answer = match cached {
            Ok(answer) if answer.until > Instant::now() => answer,
            Ok(_) => {
                let answer =
                    timeout_at(deadline, self.ask(&target.host, keep)).await.map_err(|_| late())?;
                self.answers.insert(target.host.clone(), answer.clone());
                answer
            }
            Err(guard) => {
                let answer =
                    timeout_at(deadline, self.ask(&target.host, keep)).await.map_err(|_| late())?;
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

    async fn ask(&self, host: &str, keep: Duration) -> Answer {
        let permit = self.questions.acquire().await;
        let mut addresses: Vec<IpAddr> = Vec::new();
        if let Ok(found) = tokio::net::lookup_host((host, 0)).await {
            for address in found {
                let ip = address.ip().to_canonical();
                if !addresses.contains(&ip) {
                    addresses.push(ip);
                }
            }
        }
        drop(permit);
        let keep = if addresses.is_empty() { keep.min(NEGATIVE) } else { keep };
        Answer { addresses: addresses.into(), until: Instant::now() + keep }
    }
}

/// `localhost` and all names under it are the loopback's, whatever a name server says (RFC 6761,
/// section 6.3); a bare system may have no file that says so.
fn is_local(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_need_no_name_server_and_unknown_names_are_errors() {
        let resolver = Resolver::new();
        let deadline = Instant::now() + Duration::from_secs(60);
        let keep = Duration::from_secs(60);
        let v6 = Target::new("[2001:db8::1]", 443).unwrap();
        let found = resolver.resolve(&v6, keep, deadline).await.unwrap();
        assert_eq!(*found, ["2001:db8::1".parse::<IpAddr>().unwrap()]);

        for name in ["localhost", "LocalHost", "a.localhost"] {
            let local = Target::new(name, 443).unwrap();
            let found = resolver.resolve(&local, keep, deadline).await.unwrap();
            assert!(found.iter().all(IpAddr::is_loopback));
            assert!(resolver.answers.get(&local.host).is_none());
        }

        // RFC 6761: `invalid` never has an address.
        let none = Target::new("name.invalid", 443).unwrap();
        let e = resolver.resolve(&none, keep, deadline).await.unwrap_err();
        assert!(matches!(e.kind(), UpstreamErrorKind::Name | UpstreamErrorKind::Timeout));
    }
}
