//! What the operator may set: a TOML file, and flags that win over it.

mod content;
mod dns;
mod identity;
mod stand_ins;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use icap_stream::Window;
use serde::{Deserialize, Serialize};

pub(crate) use content::{ContentSettings, Policy, RATIO_FROM, Size, SizeText};
pub(crate) use dns::{Denial, DnsSettings};
pub(crate) use identity::TlsSettings;
pub(crate) use stand_ins::StandIns;

/// How much of a body waits for the verdict over all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "SizeText", into = "String")]
pub(crate) enum Hold {
    /// Everything: no byte leaves before the engine has passed the last one.
    All,
    /// So many bytes. Bodies that are longer are released as the engine passes them.
    Bytes(usize),
}

impl Default for Hold {
    fn default() -> Self {
        Self::Bytes(1 << 20)
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Bytes(n) => n.fmt(f),
        }
    }
}

impl From<Hold> for String {
    fn from(hold: Hold) -> Self {
        hold.to_string()
    }
}

impl FromStr for Hold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self::All);
        }
        let bytes = text.parse::<Size>().ok().and_then(|size| usize::try_from(size.0).ok());
        match bytes {
            Some(n) if n <= MAX_HOLD => Ok(Self::Bytes(n)),
            Some(_) => {
                Err(format!("{text} is more than {MAX_HOLD} bytes; say \"all\" to hold everything"))
            }
            None => {
                Err(format!("{text:?} is neither \"all\" nor a number of bytes, KiB, MiB or GiB"))
            }
        }
    }
}

impl TryFrom<SizeText> for Hold {
    type Error = String;

    fn try_from(text: SizeText) -> Result<Self, String> {
        match text {
            SizeText::Number(n) => n.to_string().parse(),
            SizeText::Text(text) => text.parse(),
        }
    }
}

/// Streams that go on for as long as somebody listens.
const UNHELD: [&str; 3] = ["text/event-stream", "application/grpc*", "multipart/x-mixed-replace"];

/// Largest number of bytes that may be held in memory for one body.
const MAX_HOLD: usize = 1 << 30;

/// Where to listen for ICAP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Listen {
    /// An address and port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The same inside TLS, `icaps://address:port`.
    Tls(SocketAddr),
    /// A Unix socket, `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Tls(addr) => write!(f, "icaps://{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => {
                return Err("unix: needs a path, as in unix:/run/meergate/icap.sock".to_owned());
            }
            Some(path) => return Ok(Self::Unix(path.into())),
            None => {}
        }
        let (address, kind): (_, fn(SocketAddr) -> Self) = match text.strip_prefix("icaps://") {
            Some(address) => (address, Self::Tls),
            None => (text, Self::Tcp),
        };
        address.parse().map(kind).map_err(|_| {
            format!(
                "{text:?} is neither ADDRESS:PORT (127.0.0.1:1344, [::1]:1344) nor \
                 icaps://ADDRESS:PORT nor unix:/path"
            )
        })
    }
}

impl TryFrom<String> for Listen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> Self {
        listen.to_string()
    }
}

/// Everything that can be set. The file's keys are the field names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where to listen for ICAP.
    pub(crate) listen: Vec<Listen>,
    /// Who it is on the `icaps://` addresses of `listen`.
    pub(crate) tls: Option<TlsSettings>,
    /// Where to answer `GET /metrics`; nowhere if absent.
    pub(crate) metrics: Option<SocketAddr>,
    /// The socket for `reload`; if absent, `meergate-inspector.sock` in `$XDG_RUNTIME_DIR`, or in
    /// `/run` for root, or one in the temporary folder.
    pub(crate) control: Option<PathBuf>,
    /// Rule files, in addition to those that a `suricata_yaml` names.
    pub(crate) rules: Vec<PathBuf>,
    /// Suricata's own configuration; built-in defaults if absent.
    pub(crate) suricata_yaml: Option<PathBuf>,
    /// Suricata's events, one JSON object a line.
    pub(crate) eve: Option<PathBuf>,
    /// Suricata's settings by their dotted names, over whatever the YAML says. Those that safety
    /// depends on are not changed by this.
    pub(crate) suricata: BTreeMap<String, String>,
    /// Inline, or as if passively, for comparison only.
    pub(crate) mode: Mode,
    /// Bytes after which `mode = "ids"` acknowledges.
    pub(crate) ack_window: u32,
    /// Go on without rules that do not parse.
    pub(crate) tolerate_bad_rules: bool,
    /// Reload when rule files or the `suricata_yaml` change.
    pub(crate) watch: bool,
    /// As whom the engine's process runs, if the program is started by root.
    pub(crate) user: Option<String>,
    /// What the engine's process may still do.
    pub(crate) sandbox: Sandbox,
    /// Engine threads; one per processor if 0.
    pub(crate) workers: usize,
    /// How much of a body waits for its verdict.
    pub(crate) hold: Hold,
    /// Content types whose bodies wait for nothing, since their parts matter before the end; a `*`
    /// at the end stands for anything. Not under `hold = "all"`.
    pub(crate) unheld: Vec<String>,
    /// Milliseconds without a byte after which what has passed of a body waits no longer; never
    /// if 0. Not under `hold = "all"`.
    pub(crate) pause_milliseconds: u64,
    /// What becomes of content that is more than bytes as they are.
    pub(crate) content: ContentSettings,
    /// DNS messages within HTTP.
    pub(crate) dns: DnsSettings,
    /// Limits; all that grows has one.
    pub(crate) limits: Limits,
    /// What takes the place of addresses that an ICAP client does not send.
    pub(crate) stand_ins: StandIns,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![Listen::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 1344)))],
            tls: None,
            metrics: None,
            control: None,
            rules: Vec::new(),
            suricata_yaml: None,
            eve: None,
            suricata: BTreeMap::new(),
            mode: Mode::Ips,
            ack_window: 2560,
            tolerate_bad_rules: false,
            watch: false,
            user: None,
            sandbox: Sandbox::default(),
            workers: 0,
            hold: Hold::default(),
            unheld: UNHELD.map(str::to_owned).to_vec(),
            pause_milliseconds: 2000,
            content: ContentSettings::default(),
            dns: DnsSettings::default(),
            limits: Limits::default(),
            stand_ins: StandIns::default(),
        }
    }
}

/// Whether verdicts stop traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// They do not: the engine looks on, late.
    Ids,
    /// They do.
    Ips,
}

/// Rights of the engine's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sandbox {
    /// Files and network by landlock: only what the settings name.
    pub(crate) landlock: bool,
    /// System calls by seccomp: none that only an intruder makes.
    pub(crate) seccomp: bool,
    /// Further files and folders that may be read, such as those that a suricata.yaml names.
    pub(crate) read: Vec<PathBuf>,
    /// Further folders that may be written to.
    pub(crate) write: Vec<PathBuf>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self { landlock: true, seccomp: true, read: Vec::new(), write: Vec::new() }
    }
}

/// Limits. Memory for bodies is at most `max_connections × (hold + 256 KiB)`; the engine itself and
/// the connection need up to 1.25 MiB more for each large one under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// ICAP connections at once; more wait unanswered in the listening sockets' queue.
    pub(crate) max_connections: usize,
    /// How much of `max_connections` and `max_flows` one client may have, in percent: 1 to 100.
    pub(crate) per_client_percent: usize,
    /// TCP streams at once, each of which takes a connection; none are offered if 0.
    pub(crate) max_streams: usize,
    /// Bytes of one direction of a stream that may come ahead of their verdict.
    pub(crate) stream_window: usize,
    /// Flows at once, idle ones included; when full, the longest idle one is closed.
    pub(crate) max_flows: usize,
    /// Seconds after which a flow that nobody used is closed.
    pub(crate) flow_idle_seconds: u64,
    /// Seconds after which a request without a response is given up (only clients that do not
    /// say which connection a transaction belongs to).
    pub(crate) response_wait_seconds: u64,
    /// Seconds that a peer may take for its next byte.
    pub(crate) io_seconds: u64,
    /// The same between two chunks of a body: how long an origin may be silent. The engine's flows take
    /// a day.
    pub(crate) silence_seconds: u64,
    /// Bytes of an ICAP head, and of each HTTP head in it.
    pub(crate) max_head: usize,
    /// Bytes held in memory for one body under `hold = "all"` if the client does not allow a 204.
    pub(crate) max_held: usize,
    /// Bytes of memory of the engine's process at which it is ended and started anew; no limit if 0.
    pub(crate) engine_memory: usize,
    /// Seconds without a sign of life after which the engine's process is ended.
    pub(crate) hang_seconds: u64,
    /// Seconds that the engine may take to start.
    pub(crate) start_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_streams: 5_000,
            stream_window: 256 << 10,
            max_flows: 65_536,
            per_client_percent: 25,
            flow_idle_seconds: 120,
            response_wait_seconds: 60,
            io_seconds: 60,
            silence_seconds: 3600,
            max_head: 128 << 10,
            max_held: 64 << 20,
            engine_memory: 0,
            hang_seconds: 15,
            start_seconds: 300,
        }
    }
}

/// How long the engine keeps flows in which nothing moves, in seconds.
const DAY: u64 = 86_400;

impl Limits {
    /// How much of a stream may come ahead; checked to be in range.
    pub(crate) fn window(&self) -> Window {
        Window::new(self.stream_window as u64).unwrap_or(Window::DEFAULT)
    }

    /// How long a flow may idle.
    pub(crate) fn flow_idle(&self) -> Duration {
        Duration::from_secs(self.flow_idle_seconds)
    }

    /// How long a request waits for its response.
    pub(crate) fn response_wait(&self) -> Duration {
        Duration::from_secs(self.response_wait_seconds)
    }

    /// How long a peer may take.
    pub(crate) fn io(&self) -> Duration {
        Duration::from_secs(self.io_seconds)
    }

    /// How long a peer may have nothing to send on.
    pub(crate) fn silence(&self) -> Duration {
        Duration::from_secs(self.silence_seconds.min(DAY))
    }
}

/// Settings that cannot be used. One line for the operator: what, where, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SettingsError(String);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Reads settings from the text of the file `path`.
    ///
    /// # Errors
    /// It is not TOML, or has a key or value that does not exist: the message names the line.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, SettingsError> {
        let at = path.display();
        let text = std::str::from_utf8(text)
            .map_err(|e| SettingsError(format!("bad settings: {at}: {e}: write it in UTF-8")))?;
        let settings: Self = toml::from_str(text).map_err(|e| {
            let line =
                e.span().map_or(0, |s| text[..s.start.min(text.len())].matches('\n').count()) + 1;
            let what = e.message().replace('\n', " ");
            SettingsError(format!("bad settings: {at}:{line}: {what}: correct or remove the line"))
        })?;
        match &settings.tls {
            Some(tls) if tls.read.is_some() => Err(SettingsError(format!(
                "bad settings: {at}: unknown key tls.read: remove it, and name files instead"
            ))),
            _ => Ok(settings),
        }
    }

    /// How long a body may pause before what has passed of it is released.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let releases = self.pause_milliseconds > 0 && self.hold != Hold::All;
        releases.then(|| Duration::from_millis(self.pause_milliseconds))
    }

    /// Whether a body with this Content-Type waits for nothing.
    pub(crate) fn is_unheld(&self, content_type: &[u8]) -> bool {
        let end = content_type.iter().position(|&b| b == b';').unwrap_or(content_type.len());
        let name = content_type[..end].trim_ascii();
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => name
                .get(..start.len())
                .is_some_and(|name| name.eq_ignore_ascii_case(start.as_bytes())),
            None => name.eq_ignore_ascii_case(pattern.as_bytes()),
        };
        self.hold != Hold::All && self.unheld.iter().any(fits)
    }

    /// Where commands are taken.
    pub(crate) fn control_path(&self) -> PathBuf {
        const NAME: &str = "meergate-inspector.sock";
        match (&self.control, std::env::var_os("XDG_RUNTIME_DIR")) {
            (Some(path), _) => path.clone(),
            (None, Some(folder)) => Path::new(&folder).join(NAME),
            (None, None) if rustix::process::geteuid().is_root() => Path::new("/run").join(NAME),
            (None, None) => {
                let user = rustix::process::geteuid().as_raw();
                std::env::temp_dir().join(format!("meergate-inspector-{user}.sock"))
            }
        }
    }

    /// Checks what no single value can show, and completes what depends on the machine.
    ///
    /// # Errors
    /// A file that is named and not there, or a combination that makes no sense.
    pub(crate) fn complete(mut self) -> Result<Self, SettingsError> {
        if self.listen.is_empty() {
            return Err(SettingsError(
                "nothing to listen on: listen: name at least one address, as in 127.0.0.1:1344"
                    .to_owned(),
            ));
        }
        let secure = self.listen.iter().any(|listen| matches!(listen, Listen::Tls(_)));
        match &mut self.tls {
            Some(tls) if secure => tls.complete().map_err(SettingsError)?,
            Some(_) => {
                return Err(SettingsError(
                    "nothing listens with TLS: tls: name an address such as \
                     icaps://127.0.0.1:11344 in listen, or leave tls out"
                        .to_owned(),
                ));
            }
            None if secure => {
                return Err(SettingsError(
                    "no certificate for icaps:// listeners: listen: set tls.cert and tls.key \
                     (--tls-cert, --tls-key)"
                        .to_owned(),
                ));
            }
            None => {}
        }
        if !(1..=100).contains(&self.limits.per_client_percent) {
            return Err(SettingsError(format!(
                "a client's share cannot be {} percent: limits.per_client_percent: name a number from 1 to 100",
                self.limits.per_client_percent
            )));
        }
        if Window::new(self.limits.stream_window as u64).is_none() {
            return Err(SettingsError(format!(
                "a stream's window cannot be {} bytes: limits.stream_window: name a number from 1 to {}",
                self.limits.stream_window,
                Window::MAX.bytes()
            )));
        }
        if self.workers == 0 {
            self.workers = std::thread::available_parallelism().map_or(1, usize::from);
        }
        for (what, path) in self
            .rules
            .iter()
            .map(|p| ("rule file", p))
            .chain(self.suricata_yaml.iter().map(|p| ("suricata.yaml", p)))
        {
            std::fs::File::open(path).map_err(|e| {
                let at = path.display();
                SettingsError(format!("cannot read the {what}: {at}: {e}: name a file that exists"))
            })?;
        }
        if self.rules.is_empty() && self.suricata_yaml.is_none() {
            return Err(SettingsError(
                "no rules: nothing would be inspected: name a rule file with --rules, or a \
                 suricata.yaml that names some with --suricata-yaml"
                    .to_owned(),
            ));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_that_are_not_held() {
        let mut settings = Settings::default();
        for (content_type, unheld) in [
            ("text/event-stream", true),
            ("Text/Event-Stream ; charset=utf-8", true),
            ("text/event-streams", false),
            ("application/grpc", true),
            ("application/grpc-web+proto", true),
            ("application/GRPC+proto;x=y", true),
            ("application/grp", false),
            ("multipart/x-mixed-replace; boundary=x", true),
            ("multipart/mixed", false),
            ("", false),
        ] {
            assert_eq!(settings.is_unheld(content_type.as_bytes()), unheld, "{content_type}");
        }
        settings.hold = Hold::All;
        assert!(!settings.is_unheld(b"text/event-stream"));
        assert_eq!(settings.pause(), None);
    }
}
