//! What becomes of a connection or request: ordered rules, the first that matches decides.
//!
//! A rule is asked for a connection, before anything is answered, and for each request; and once
//! more when the origin's certificate or the response's head has come, if any rule looks at those.
//! Rules that look at what is not known yet are passed over.

mod attempts;
mod challenge;
mod hosts;
mod path;
mod users;
mod weigh;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use icap_client::{Chain, Chains, Service};
use ipnet::IpNet;
use start_error::StartError;

use crate::config::{
    Action, CertificateAsked, Config, DIRECT, InvalidCertificate, Mirror, Pinned, Ranges, Rule,
    Texts, TlsBounds, UnsupportedTls, UpstreamProxy,
};
use crate::tls::UpstreamTls;
use crate::words::{Speech, Spoken, Target};
use hosts::HostSet;

pub use attempts::Attempts;
pub use challenge::{challenge, is_of};
pub use path::{Forms as PathForms, forms as path_forms};
pub use users::{Login, Users, hash as hash_password};
pub use weigh::{address_forms, covering, decide_paths, stricter, strictest};

/// All rules, ready to be asked.
pub struct Policy {
    rules: Vec<Compiled>,
    default: Decision,
    chains: Chains,
    places: Vec<Target>,
    looks_at_addresses: bool,
    looks_at_certificates: bool,
    looks_at_paths: bool,
    looks_at_responses: bool,
}

/// What a rule says, or what goes without one.
#[derive(Clone)]
pub struct Decision {
    /// The rule's name; `None` where none matched.
    pub rule: Option<Arc<str>>,
    /// What to do.
    pub action: Action,
    /// The services that inspect; `None` for nobody.
    pub chain: Option<Arc<Chain>>,
    /// The proxy through which the origin is reached.
    pub upstream_proxy: Option<Arc<UpstreamProxy>>,
    /// Whether what is said on the connection is captured.
    pub capture: bool,
    /// What becomes of requests for a part of a resource.
    pub ranges: Ranges,
    /// Protocols that requests may upgrade to.
    pub upgrades: Arc<[String]>,
    /// What becomes of an invalid certificate of the origin's.
    pub invalid_certificate: InvalidCertificate,
    /// The `[[client_certificate]]` shown to an origin that asks for one.
    pub client_certificate: Option<Arc<str>>,
    /// What becomes of it when an origin asks for a certificate and none is set.
    pub certificate_asked: CertificateAsked,
    /// The versions of TLS, where they are others than those of its listener.
    pub tls: TlsBounds,
    /// What becomes of it when its TLS can't be intercepted.
    pub unsupported_tls: UnsupportedTls,
    /// What becomes of it when the client pins the origin's certificate.
    pub pinned: Pinned,
    /// How much of its TLS handshake is shown to services that take streams.
    pub mirror: Mirror,
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decision")
            .field("rule", &self.rule)
            .field("action", &self.action)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("rules", &self.rules.len()).finish_non_exhaustive()
    }
}

/// What is known when rules are asked.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The client.
    pub client: IpAddr,
    /// The user, if one is known.
    pub user: Option<&'a str>,
    /// The host, in the spelling of [`Target::host`](crate::words::Target::host).
    pub host: &'a str,
    /// The destination's address, if it is known.
    pub address: Option<IpAddr>,
    /// The destination's port.
    pub port: u16,
    /// What is spoken, as far as that is known.
    pub spoken: Spoken,
    /// The origin's certificate, if it is known.
    pub certificate: Option<&'a UpstreamTls>,
    /// The request, if it is known.
    pub request: Option<Request<'a>>,
    /// The content type of the response as its head has it, if that is known.
    pub content_type: Option<&'a [u8]>,
}

impl<'a> Subject<'a> {
    /// A connection of `client` to `port` of `host`, of which nothing more is known.
    pub fn new(client: IpAddr, host: &'a str, port: u16, spoken: Spoken) -> Self {
        Self {
            client,
            user: None,
            host,
            address: None,
            port,
            spoken,
            certificate: None,
            request: None,
            content_type: None,
        }
    }
}

/// The part of a request that rules look at.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The path, without the query.
    pub path: &'a [u8],
}

struct Compiled {
    client: Vec<IpNet>,
    user: Vec<String>,
    hosts: HostSet,
    address: Vec<IpNet>,
    port: Vec<u16>,
    protocol: Vec<Speech>,
    method: Vec<String>,
    path: Vec<String>,
    content_type: Vec<String>,
    certificate_issuer: Vec<String>,
    certificate_fingerprint: Vec<[u8; 32]>,
    decision: Decision,
}

impl Policy {
    /// Reads rules, host files and chains of `config`.
    ///
    /// # Errors
    /// A file cannot be read, a host or service cannot be understood, a chain does not exist, or
    /// a rule makes no sense.
    pub fn new(config: &Config) -> Result<Self, StartError> {
        let chain_error = |e: icap_client::ConfigError| {
            StartError::new(e.to_string(), "the ICAP services", "correct [icap] or --icap")
        };
        let (chains, chain) = config.icap.chains().map_err(chain_error)?;
        let names = Names::new(config, chains)?;
        let chain = chain.map(Arc::new);
        let default = Decision {
            rule: None,
            action: Action::Intercept,
            chain,
            upstream_proxy: names.proxy(config.upstream.proxy.as_deref(), None).map_err(|e| {
                StartError::new(e.to_string(), "upstream.proxy", "name an [[upstream_proxy]]")
            })?,
            capture: false,
            ranges: config.http.ranges,
            upgrades: config.http.upgrades.clone().into(),
            invalid_certificate: InvalidCertificate::Refuse,
            client_certificate: None,
            certificate_asked: CertificateAsked::Ignore,
            tls: TlsBounds::default(),
            unsupported_tls: UnsupportedTls::Refuse,
            pinned: Pinned::Intercept,
            mirror: config.tls.mirror,
        };
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for (at, rule) in config.rule.iter().enumerate() {
            match Compiled::new(rule, at, &names, &default, &config.texts) {
                Ok(rule) => rules.push(rule),
                Err(error) => errors.push(error),
            }
        }
        StartError::none_of(errors)?;
        let looks_at_addresses = rules.iter().any(|rule: &Compiled| !rule.address.is_empty());
        let looks_at_certificates = rules.iter().any(|rule: &Compiled| {
            !rule.certificate_issuer.is_empty() || !rule.certificate_fingerprint.is_empty()
        });
        let looks_at_paths = rules.iter().any(|rule| !rule.path.is_empty());
        let looks_at_responses = rules.iter().any(|rule| !rule.content_type.is_empty());
        let mut policy = Self {
            rules,
            default,
            chains: names.chains,
            places: Vec::new(),
            looks_at_addresses,
            looks_at_certificates,
            looks_at_paths,
            looks_at_responses,
        };
        let places = policy.services().flat_map(|service| service.places());
        policy.places = places.filter_map(|(host, port)| Target::new(host, port).ok()).collect();
        Ok(policy)
    }

    /// What is decided about `subject`.
    pub fn decide(&self, subject: &Subject<'_>) -> &Decision {
        self.rules
            .iter()
            .find(|rule| rule.mismatch(subject).is_none())
            .map_or(&self.default, |rule| &rule.decision)
    }

    /// Whether any rule has a condition on destinations' addresses.
    pub fn looks_at_addresses(&self) -> bool {
        self.looks_at_addresses
    }

    /// Whether any rule has a condition on origins' certificates.
    pub fn looks_at_certificates(&self) -> bool {
        self.looks_at_certificates
    }

    /// Whether any rule has a condition on requests' paths.
    pub fn looks_at_paths(&self) -> bool {
        self.looks_at_paths
    }

    /// Whether any rule has a condition on responses.
    pub fn looks_at_responses(&self) -> bool {
        self.looks_at_responses
    }

    /// All services that inspect, some of them perhaps more than once.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.chains.services().iter().chain(self.default.chain.iter().flat_map(|c| c.services()))
    }

    /// Where these services are, as far as that is a host and port.
    pub fn places(&self) -> &[Target] {
        &self.places
    }

    /// All chains of services, some of them perhaps more than once.
    pub fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.chains.chains().chain(self.default.chain.as_deref())
    }

    /// What is decided where no rule matches.
    pub fn default_decision(&self) -> &Decision {
        &self.default
    }

    /// What is decided about everything, if there is no rule.
    pub fn only_decision(&self) -> Option<&Decision> {
        self.rules.is_empty().then_some(&self.default)
    }

    /// The rules in order until one matches, each with the condition that did not hold.
    pub fn explain(&self, subject: &Subject<'_>) -> Vec<(Arc<str>, Option<&'static str>)> {
        let mut told = Vec::new();
        for rule in &self.rules {
            let mismatch = rule.mismatch(subject);
            told.push((rule.decision.rule.clone().unwrap_or_default(), mismatch));
            if mismatch.is_none() {
                break;
            }
        }
        told
    }
}

/// What rules may name.
struct Names<'a> {
    chains: Chains,
    certificates: Vec<&'a str>,
    proxies: Vec<Arc<UpstreamProxy>>,
    /// Whether there is a place for captures.
    captures: bool,
}

impl<'a> Names<'a> {
    fn new(config: &'a Config, chains: Chains) -> Result<Self, StartError> {
        let proxies: Vec<_> = config.upstream_proxy.iter().cloned().map(Arc::new).collect();
        for (at, proxy) in proxies.iter().enumerate() {
            if proxies[..at].iter().any(|other| other.name == proxy.name) {
                return Err(StartError::new(
                    "the name is used twice",
                    format!("[[upstream_proxy]] {:?}", proxy.name),
                    "give each its own",
                ));
            }
        }
        let certificates = config.client_certificate.iter().map(|c| c.name.as_str()).collect();
        Ok(Self { chains, certificates, proxies, captures: config.capture.folder.is_some() })
    }

    /// The proxy of that name; `default` where none is named.
    fn proxy(
        &self,
        name: Option<&str>,
        default: Option<&Arc<UpstreamProxy>>,
    ) -> Result<Option<Arc<UpstreamProxy>>, NoProxy> {
        match name {
            None => Ok(default.cloned()),
            Some(DIRECT) => Ok(None),
            Some(name) => match self.proxies.iter().find(|proxy| proxy.name == name) {
                Some(proxy) => Ok(Some(proxy.clone())),
                None => Err(NoProxy(name.to_owned())),
            },
        }
    }
}

/// No proxy has this name.
struct NoProxy(String);

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no [[upstream_proxy]] named {:?}", self.0)
    }
}

impl Compiled {
    fn new(
        rule: &Rule,
        at: usize,
        names: &Names<'_>,
        default: &Decision,
        texts: &Texts,
    ) -> Result<Self, StartError> {
        let name = rule.name.clone().unwrap_or_else(|| format!("rule {}", at + 1));
        let refuse =
            |what: String| StartError::new(what, format!("[[rule]] {name:?}"), "correct this rule");
        let mut hosts = HostSet::default();
        for host in &rule.host {
            hosts.add(host).map_err(|e| refuse(e.to_string()))?;
        }
        for path in &rule.host_file {
            hosts.add_file(path, texts)?;
        }
        if hosts.is_empty() && !rule.host_file.is_empty() {
            // Not "any host": a list that became empty must not widen its rule.
            return Err(refuse("its host files hold no name".into()));
        }
        if rule.all && !rule.is_for_all() {
            return Err(refuse("it has conditions, and says that it is for all".into()));
        }
        if rule.capture && !names.captures {
            return Err(refuse("it captures, but capture.folder is not set".into()));
        }
        let chain = match &rule.chain {
            None => default.chain.clone(),
            Some(name) => match names.chains.chain(name) {
                Some(chain) => Some(Arc::new(chain.clone())),
                None => return Err(refuse(format!("there is no [[icap.chain]] named {name:?}"))),
            },
        };
        if let Some(certificate) = &rule.client_certificate
            && !names.certificates.contains(&certificate.as_str())
        {
            return Err(refuse(format!("there is no [[client_certificate]] {certificate:?}")));
        }
        let upstream_proxy = names
            .proxy(rule.upstream_proxy.as_deref(), default.upstream_proxy.as_ref())
            .map_err(|e| refuse(e.to_string()))?;
        let tls = TlsBounds::new(rule.tls_min, rule.tls_max).map_err(|e| refuse(e.to_string()))?;
        Ok(Self {
            client: rule.client.clone(),
            user: rule.user.clone(),
            hosts,
            address: rule.address.clone(),
            port: rule.port.clone(),
            protocol: rule.protocol.clone(),
            method: rule.method.clone(),
            path: rule.path.clone(),
            content_type: lower_case(&rule.content_type),
            certificate_issuer: lower_case(&rule.certificate_issuer),
            certificate_fingerprint: rule.certificate_fingerprint.clone(),
            decision: Decision {
                rule: Some(name.into()),
                action: rule.action,
                chain,
                upstream_proxy,
                capture: rule.capture,
                ranges: rule.ranges.unwrap_or(default.ranges),
                upgrades: match &rule.upgrades {
                    Some(upgrades) => upgrades.clone().into(),
                    None => default.upgrades.clone(),
                },
                invalid_certificate: rule.invalid_certificate,
                client_certificate: rule.client_certificate.as_deref().map(Arc::from),
                certificate_asked: rule.certificate_asked,
                tls,
                unsupported_tls: rule.unsupported_tls,
                pinned: rule.pinned,
                mirror: rule.mirror.unwrap_or(default.mirror),
            },
        })
    }

    /// The first condition that does not hold.
    fn mismatch(&self, subject: &Subject<'_>) -> Option<&'static str> {
        let request = subject.request;
        let within = |nets: &[IpNet], ip: IpAddr| nets.iter().any(|net| net.contains(&ip));
        let holds = [
            ("client", self.client.is_empty() || within(&self.client, subject.client)),
            (
                "user",
                self.user.is_empty()
                    || subject.user.is_some_and(|user| self.user.iter().any(|u| u == user)),
            ),
            ("port", self.port.is_empty() || self.port.contains(&subject.port)),
            (
                "protocol",
                self.protocol.is_empty()
                    || self.protocol.iter().any(|speech| subject.spoken.is(*speech)),
            ),
            (
                "address",
                self.address.is_empty()
                    || subject.address.is_some_and(|ip| within(&self.address, ip)),
            ),
            (
                "method",
                self.method.is_empty()
                    || request.is_some_and(|r| {
                        self.method.iter().any(|method| method.as_bytes() == r.method)
                    }),
            ),
            (
                "path",
                self.path.is_empty()
                    || request.is_some_and(|r| {
                        self.path.iter().any(|path| hosts::matches(path.as_bytes(), r.path))
                    }),
            ),
            (
                "content_type",
                self.content_type.is_empty()
                    || subject.content_type.is_some_and(|given| {
                        let given = given.split(|b| *b == b';').next().unwrap_or_default();
                        any_matches(&self.content_type, given.trim_ascii())
                    }),
            ),
            (
                "certificate_issuer",
                self.certificate_issuer.is_empty()
                    || subject.certificate.is_some_and(|certificate| {
                        // Anybody can write this name into a certificate of their own.
                        let refuses = matches!(self.decision.action, Action::Block | Action::Reset);
                        (refuses || certificate.fault.is_none())
                            && any_matches(&self.certificate_issuer, certificate.issuer.as_bytes())
                    }),
            ),
            (
                "certificate_fingerprint",
                self.certificate_fingerprint.is_empty()
                    || subject.certificate.is_some_and(|certificate| {
                        self.certificate_fingerprint.contains(&certificate.fingerprint)
                    }),
            ),
        ];
        let first = holds.into_iter().find(|(_, holds)| !holds).map(|(name, _)| name);
        // Last, since it costs most.
        first.or_else(|| {
            (!self.hosts.is_empty() && !self.hosts.contains(subject.host)).then_some("host")
        })
    }
}

fn lower_case(patterns: &[String]) -> Vec<String> {
    patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect()
}

/// Whether any of the patterns, which are in lower case, matches `text` in any case.
fn any_matches(patterns: &[String], text: &[u8]) -> bool {
    let text = text.to_ascii_lowercase();
    patterns.iter().any(|pattern| hosts::matches(pattern.as_bytes(), &text))
}

#[cfg(test)]
mod tests;
