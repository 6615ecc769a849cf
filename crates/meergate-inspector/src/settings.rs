//! What the operator may set: a TOML file, and flags that win over it.

mod content;
mod dns;
mod hold;
mod identity;
mod limits;
mod listen;
mod stand_ins;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use start_error::StartError;
use units::Span;

pub(crate) use content::{ContentSettings, Policy, RATIO_FROM};
pub(crate) use dns::{Denial, DnsSettings};
pub(crate) use hold::Hold;
pub(crate) use identity::TlsSettings;
pub(crate) use limits::Limits;
pub(crate) use listen::Listen;
pub(crate) use stand_ins::StandIns;

/// Streams that go on for as long as somebody listens.
const UNHELD: [&str; 3] = ["text/event-stream", "application/grpc*", "multipart/x-mixed-replace"];

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
    /// How long without a byte until what has passed of a body waits no longer; for ever if 0. Not
    /// under `hold = "all"`.
    pub(crate) pause: Span,
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
            pause: Span::seconds(2),
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

impl Settings {
    /// Reads settings from the text of the file `path`.
    ///
    /// # Errors
    /// It is not TOML, or has keys or values that do not exist: the message names the line of each.
    pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Self, StartError> {
        const BAD: &str = "bad settings";
        let at = path.display().to_string();
        let text = std::str::from_utf8(text)
            .map_err(|e| StartError::new(format!("{BAD} ({e})"), &at, "write them in UTF-8"))?;
        let settings: Self = toml_faults::read(text).or_else(|faults| {
            let fault = |fault: &toml_faults::Fault| {
                let place = (fault.line, fault.column);
                StartError::in_text(&at, place, &fault.what, "correct or remove the line")
            };
            StartError::none_of(faults.iter().map(fault)).map(|()| Self::default())
        })?;
        match &settings.tls {
            Some(tls) if tls.read.is_some() => Err(StartError::new(
                format!("{BAD} (unknown key tls.read)"),
                at,
                "remove it, and name files instead",
            )),
            _ => Ok(settings),
        }
    }

    /// How long a body may pause before what has passed of it is released.
    pub(crate) fn pause(&self) -> Option<Duration> {
        let releases = !self.pause.0.is_zero() && self.hold != Hold::All;
        releases.then_some(self.pause.0)
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
    pub(crate) fn complete(mut self) -> Result<Self, StartError> {
        if self.listen.is_empty() {
            return Err(StartError::new(
                "nothing to listen on",
                "listen",
                "name at least one address, as in 127.0.0.1:1344",
            ));
        }
        let secure = self.listen.iter().any(|listen| matches!(listen, Listen::Tls(_)));
        match &mut self.tls {
            Some(tls) if secure => tls.complete()?,
            Some(_) => {
                return Err(StartError::new(
                    "nothing listens with TLS",
                    "tls",
                    "name an address such as icaps://127.0.0.1:11344 in listen, or leave tls out",
                ));
            }
            None if secure => {
                return Err(StartError::new(
                    "no certificate for icaps:// listeners",
                    "listen",
                    "set tls.cert and tls.key (--tls-cert, --tls-key)",
                ));
            }
            None => {}
        }
        self.limits.check()?;
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
                let what = format!("cannot read the {what} ({e})");
                let advice = match e.kind() {
                    std::io::ErrorKind::PermissionDenied => {
                        "give it and its folders a mode or an owner with which it can be read"
                    }
                    _ => "name a file that exists",
                };
                StartError::new(what, path.display().to_string(), advice)
            })?;
        }
        if self.rules.is_empty() && self.suricata_yaml.is_none() {
            return Err(StartError::new(
                "no rules: nothing would be inspected",
                "rules",
                "name a rule file with --rules, or a suricata.yaml that names some with --suricata-yaml",
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
