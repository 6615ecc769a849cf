//! Settings of services and chains, made to be embedded in a program's own TOML.

mod filter;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub use filter::{Filter, Network, Subject};
pub use units::{Size, Span};

/// `[[icap.service]]`: one service, behind one endpoint or a set of equal ones.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// How logs, metrics and chains call it.
    pub name: String,
    /// Where it is: `icap://host[:port]/service`, `icaps://…` or `unix:/path/to.sock:/service`;
    /// several make a set that transactions are balanced over.
    #[serde(deserialize_with = "one_or_many")]
    pub url: Vec<String>,
    /// What to use it for. With this, an OPTIONS that lacks one of them is a failure. Without it,
    /// whatever its OPTIONS offers, of which nothing may be missing later.
    #[serde(default)]
    pub methods: Option<Vec<MethodName>>,
    /// What happens to a message that this service can't adapt. Closed unless set.
    #[serde(default)]
    pub fail: FailPolicy,
    /// What to do when Max-Connections is reached.
    #[serde(default)]
    pub on_overload: OnOverload,
    /// The most connections to one endpoint, whatever its OPTIONS allows. No limit of our own
    /// unless set.
    #[serde(default)]
    pub max_connections: Option<u32>,
    /// How transactions are spread over a set.
    #[serde(default)]
    pub balance: Balance,
    /// Time limits.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Idle connections kept for each endpoint. Unless set, 64 or half of the connections that its
    /// OPTIONS allows, whichever is more.
    #[serde(default)]
    pub idle_connections: Option<u32>,
    /// The most preview to send, whatever OPTIONS asks for; `0` still sends empty previews. Never
    /// more than `keep_copy`.
    #[serde(default)]
    pub max_preview: Option<Size>,
    /// The most bytes of a body kept in memory so that the original can go on after a 204, a 206
    /// or a failure. A body known to be longer is sent without `Allow: 204`.
    #[serde(default = "default_keep")]
    pub keep_copy: Size,
    /// Whether to offer 206 (Partial Content) to a service that offers it.
    #[serde(default = "yes")]
    pub allow_206: bool,
    /// ICAP reply headers handed on to the services after this one, and from REQMOD to RESPMOD.
    /// `X-ICAP-E2G` unless set: E2Guardian can't do without it.
    #[serde(default = "default_share")]
    pub share: Vec<String>,
    /// Whether `X-Next-Services` in its replies decides which services follow.
    #[serde(default)]
    pub routing: bool,
    /// A monitor gets a copy of each message; it can neither change it nor hold it up.
    #[serde(default)]
    pub monitor: bool,
    /// The most bytes of copies held for a monitor; what comes beyond that is lost to it.
    #[serde(default = "default_monitor_memory")]
    pub monitor_memory: Size,
    /// Which facts about the client it is told.
    #[serde(default)]
    pub identity: Identity,
    /// What goes to it: messages that match one of these. Everything, if there are none.
    #[serde(default)]
    pub only: Vec<Filter>,
    /// What does not go to it, even if `only` names it.
    #[serde(default)]
    pub except: Vec<Filter>,
    /// Health checks and circuit breaking.
    #[serde(default)]
    pub health: Health,
    /// TLS settings for `icaps://`.
    #[serde(default)]
    pub tls: TlsConfig,
}

impl ServiceConfig {
    /// A service with default settings behind one URL.
    pub fn new(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: vec![url.into()],
            methods: None,
            fail: FailPolicy::default(),
            on_overload: OnOverload::default(),
            max_connections: None,
            balance: Balance::default(),
            timeouts: Timeouts::default(),
            idle_connections: None,
            max_preview: None,
            keep_copy: default_keep(),
            allow_206: true,
            share: default_share(),
            routing: false,
            monitor: false,
            monitor_memory: default_monitor_memory(),
            identity: Identity::default(),
            only: Vec::new(),
            except: Vec::new(),
            health: Health::default(),
            tls: TlsConfig::default(),
        }
    }
}

/// `[[icap.chain]]`: services in series, each seeing the last one's result.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// How policy calls it.
    pub name: String,
    /// Names of services, in order; at most 16.
    pub services: Vec<String>,
    /// What becomes of a request that a service changes after others have seen it.
    #[serde(default)]
    pub late_changes: LateChanges,
    /// Whether what a service answers itself is shown to the others.
    #[serde(default)]
    pub answers: Answers,
}

impl ChainConfig {
    /// These services in order, all else as it is unless set.
    pub fn new(name: impl Into<String>, services: Vec<String>) -> Self {
        Self { name: name.into(), services, ..Self::default() }
    }
}

/// What becomes of a request whose head a service changes after others have seen it, or would see
/// it now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LateChanges {
    /// It goes on, and [`Trail::late`](crate::Trail::late) says so.
    Pass,
    /// It is stopped.
    #[default]
    Refuse,
}

/// Whether others see what a service answers in the place of a request or a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answers {
    /// They don't, and [`Shown::Nobody`](crate::Shown::Nobody) says so.
    Pass,
    /// The answer to a request is shown to all others, a page instead of a response to those that
    /// follow.
    #[default]
    Show,
}

/// The two methods that adapt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MethodName {
    /// Requests.
    Reqmod,
    /// Responses.
    Respmod,
}

/// Which way a failure falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fail {
    /// The message is stopped and its sender gets an error.
    #[default]
    Closed,
    /// The message goes on unadapted; counted and logged.
    Open,
}

/// `fail = "closed"`, `fail = "open"`, or a table that tells the causes apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FailPolicy {
    /// No connection could be had.
    pub connect: Fail,
    /// The service has no room.
    pub overload: Fail,
    /// Everything else: time limits, broken replies, error statuses.
    pub error: Fail,
}

impl FailPolicy {
    /// The same for every cause.
    pub fn all(fail: Fail) -> Self {
        Self { connect: fail, overload: fail, error: fail }
    }
}

impl<'de> Deserialize<'de> for FailPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields, default)]
        struct Table {
            connect: Fail,
            overload: Fail,
            error: Fail,
        }
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "`\"closed\"`, `\"open\"`, or a table of `connect`, `overload` and `error`"
        )]
        enum Either {
            All(Fail),
            Table(Table),
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::All(fail) => Self::all(fail),
            Either::Table(t) => Self { connect: t.connect, overload: t.overload, error: t.error },
        })
    }
}

/// What to do when an endpoint has as many connections as it allows and none is idle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOverload {
    /// Fail at once; the message is stopped.
    Block,
    /// The message goes on unadapted at once.
    Bypass,
    /// Open one more connection than allowed.
    Force,
    /// Wait for a connection, at most `timeouts.wait`; then `fail.overload` decides.
    #[default]
    Wait,
}

/// How transactions are spread over a set of endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// All transactions of one client connection go to one endpoint as long as it is up.
    #[default]
    ClientConnection,
    /// Each goes to the endpoint with the fewest in work.
    LeastOutstanding,
}

/// Which facts about the client a service is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// Those that its OPTIONS lists in X-Include.
    Asked,
    /// Addresses, ids and user name, and whatever X-Include lists.
    #[default]
    Full,
    /// None.
    None,
}

/// Time limits of one service.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// For a connection, TLS handshake included.
    pub connect: Span,
    /// For the whole OPTIONS exchange.
    pub options: Span,
    /// For the whole head of an answer, from the moment the service has all it waits for.
    pub answer: Span,
    /// Between two pieces of an answer's body, or while the service takes nothing in.
    pub idle: Span,
    /// For a connection when Max-Connections is reached.
    pub wait: Span,
    /// For a body's first bytes to fill a preview before a shorter one is sent.
    pub preview: Span,
    /// For an unused kept connection.
    pub keep: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Span(Duration::from_secs(5)),
            options: Span(Duration::from_secs(5)),
            answer: Span(Duration::from_secs(60)),
            idle: Span(Duration::from_secs(60)),
            wait: Span(Duration::from_secs(10)),
            preview: Span(Duration::from_millis(200)),
            keep: Span(Duration::from_secs(60)),
        }
    }
}

/// Health checks and circuit breaking, for each endpoint.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Failures in a row after which an endpoint gets no more transactions.
    pub failures: u32,
    /// How often an endpoint is looked after: OPTIONS refreshed when due, a down one tried again.
    pub interval: Span,
    /// How long a down endpoint is first left alone; doubled after each vain try up to
    /// `max_delay`.
    pub delay: Span,
    /// The longest it is left alone.
    pub max_delay: Span,
    /// Over how long a revived endpoint's share grows back to the full one.
    pub revival: Span,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            failures: 5,
            interval: Span(Duration::from_secs(10)),
            delay: Span(Duration::from_secs(1)),
            max_delay: Span(Duration::from_secs(60)),
            revival: Span(Duration::from_secs(10)),
        }
    }
}

/// TLS settings for `icaps://`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// PEM file with the authorities to trust. Needed: there is no default set.
    pub ca: Option<PathBuf>,
    /// PEM file with our certificate chain, if the service asks for one.
    pub cert: Option<PathBuf>,
    /// PEM file with its key.
    pub key: Option<PathBuf>,
    /// The name to verify, if it is not the host of the URL.
    pub server_name: Option<String>,
}

fn default_share() -> Vec<String> {
    vec!["X-ICAP-E2G".into()]
}

fn default_keep() -> Size {
    Size(1024 * 1024)
}

fn default_monitor_memory() -> Size {
    Size(64 * 1024 * 1024)
}

fn yes() -> bool {
    true
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a URL or a list of URLs")]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(url) => vec![url],
        Either::Many(urls) => urls,
    })
}
