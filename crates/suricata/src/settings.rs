//! Suricata's settings: the built-in YAML, and what is forced whatever a YAML says.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use suricata_sys::{CLASSIFICATION, Configured, REFERENCES};

use crate::config::{EngineConfig, EveOutput, Mode, Override, PatternCache};
use crate::error::Error;
use crate::room;

const TRACKING: &str = "flows with one tuple are told apart by it";
const INLINE: &str = "streams are inspected inline";
const COMPLETE: &str = "all of a stream is inspected";
const MAIL: &str = "files are looked for in mail";
const CLOSED: &str = "what cannot be inspected must not pass";
const OWNED: &str = "flows are opened and closed by their owner, not by a clock";
const ONE_ENGINE: &str = "the rules are loaded before traffic, by one engine";

const PROCESS: &str = "the process is the program's, not Suricata's";
const OLD_RULES: &str = "rules that do not load leave the old ones in force";

/// Settings that act on the process as a whole, and have no value that says no.
const REMOVED: &[&str] = &["coredump", "plugins", "run-as", "umask"];

/// `(name, value, why)`; the same in both modes.
const FORCED: &[(&str, &str, &str)] = &[
    ("vlan.use-for-tracking", "true", TRACKING),
    ("stream.midstream", "false", INLINE),
    ("stream.async-oneside", "false", INLINE),
    ("stream.checksum-validation", "false", INLINE),
    ("capture.checksum-validation", "none", INLINE),
    ("stream.bypass", "false", COMPLETE),
    ("stream.reassembly.depth", "0", COMPLETE),
    ("stream.reassembly.raw", "true", COMPLETE),
    ("flow-timeouts.tcp.new", "86400", OWNED),
    ("flow-timeouts.tcp.established", "86400", OWNED),
    ("flow-timeouts.tcp.closed", "0", OWNED),
    ("flow-timeouts.tcp.emergency-new", "86400", OWNED),
    ("flow-timeouts.tcp.emergency-established", "86400", OWNED),
    ("flow-timeouts.tcp.emergency-closed", "0", OWNED),
    ("detect.delayed-detect", "false", ONE_ENGINE),
    ("multi-detect.enabled", "false", ONE_ENGINE),
    ("app-layer.protocols.ssh.encryption-handling", "full", COMPLETE),
    ("app-layer.protocols.tls.encryption-handling", "full", COMPLETE),
    ("app-layer.protocols.smtp.enabled", "yes", MAIL),
    ("app-layer.protocols.smtp.raw-extraction", "no", MAIL),
    ("app-layer.protocols.smtp.mime.decode-mime", "yes", MAIL),
    ("app-layer.protocols.smtp.mime.decode-base64", "yes", MAIL),
    ("app-layer.protocols.smtp.mime.decode-quoted-printable", "yes", MAIL),
    ("app-layer.protocols.dns.tcp.enabled", "yes", "DNS messages within HTTP are shown to it"),
    ("app-layer.protocols.websocket.enabled", "yes", COMPLETE),
    ("app-layer.protocols.websocket.max-payload-size", "16777217", COMPLETE),
    ("engine.init-failure-fatal", "false", OLD_RULES),
    ("security.landlock.enabled", "no", PROCESS),
    ("security.limit-noproc", "no", PROCESS),
    ("threading.set-cpu-affinity", "no", PROCESS),
    ("unix-command.enabled", "no", "rules and settings change only where their change is proved"),
    ("logging.default-log-level", "info", "the engine's log is part of the program's"),
];

/// The same for each of libhtp's configurations: the default one, and those for certain servers.
const HTTP: &[(&str, &str, &str)] = &[
    ("request-body-limit", "0", COMPLETE),
    ("response-body-limit", "0", COMPLETE),
    ("http-body-inline", "auto", INLINE),
];

/// Settings that say what happens to a flow that cannot be inspected. Suricata ignores them when not inline.
const POLICIES: &[(&str, &str)] = &[
    ("exception-policy", "drop-flow"),
    // These two know no flow yet.
    ("flow.memcap-policy", "drop-packet"),
    ("defrag.memcap-policy", "drop-packet"),
    ("stream.memcap-policy", "drop-flow"),
    ("stream.midstream-policy", "drop-flow"),
    ("stream.reassembly.memcap-policy", "drop-flow"),
    ("app-layer.error-policy", "drop-flow"),
];

/// Alerts that one packet can hold: Suricata's default is 15, for packets a fortieth as long as ours. 255 is the most
/// that it takes.
const ALERTS: (&str, &str) = ("packet-alert-max", "255");

/// How often a rule may look again for its contents in one buffer: Suricata's default is 3,000, and
/// beyond it the rule does not match. The number of two-byte strings that fit into one packet plus
/// Suricata's window. So an attacker can't exhaust the limit with copies of a rule's first content.
const LOOKS: (&str, u32) = ("detect.inspection-recursion-limit", 50_000);

/// What was set over the YAML.
#[derive(Default)]
pub(crate) struct Applied {
    /// Where the user had wished otherwise.
    pub(crate) overrides: Vec<Override>,
    /// All of it, as names and values.
    pub(crate) forced: Vec<(String, String)>,
}

/// Applies the caller's settings, then the forced ones. To be called after the YAML was loaded.
pub(crate) fn apply(main: &mut Configured, config: &EngineConfig) -> Result<Applied, Error> {
    let mut applied = Applied::default();
    if config.yaml.is_some() {
        apply_eve(main, &config.eve)?;
    }
    if main.setting("outputs.0").is_none() {
        // Without any output, Suricata leaves out the loggers altogether, and the shim learns of verdicts as a logger.
        force(main, "outputs.0", "fast")?;
        force(main, "outputs.0.fast.enabled", "no")?;
    }
    apply_patterns(main, &config.patterns)?;
    for (name, value) in &config.overrides {
        if !is_forced(name) {
            force(main, name, value)?;
            applied.forced.push((name.clone(), value.clone()));
        }
    }
    if main.setting(ALERTS.0).is_none() {
        force(main, ALERTS.0, ALERTS.1)?;
        applied.forced.push((ALERTS.0.to_owned(), ALERTS.1.to_owned()));
    }
    let looks = main.setting(LOOKS.0).and_then(|value| value.parse().ok());
    // 0 stands for no limit.
    if looks.is_none_or(|looks: u32| looks != 0 && looks < LOOKS.1) {
        force(main, LOOKS.0, &LOOKS.1.to_string())?;
        applied.forced.push((LOOKS.0.to_owned(), LOOKS.1.to_string()));
    }
    for name in REMOVED {
        if main.remove(name) {
            applied.overrides.push(Override {
                name: (*name).to_owned(),
                was: "set".to_owned(),
                now: "absent".to_owned(),
                why: PROCESS,
            });
        }
    }
    room::make(main, config, &mut applied)?;
    let http = http_configurations(main);
    let mut insist = |name: &str, value: &str, why| -> Result<(), Error> {
        let wished = config.overrides.iter().rev().find(|(wish, _)| wish == name);
        let was = wished.map(|(_, value)| value.clone()).or_else(|| main.setting(name));
        if let Some(was) = was
            && !same(&was, value)
            && (config.yaml.is_some() || wished.is_some())
        {
            let (name, now) = (name.to_owned(), value.to_owned());
            applied.overrides.push(Override { name, was, now, why });
        }
        applied.forced.push((name.to_owned(), value.to_owned()));
        force(main, name, value)
    };
    for (name, value, why) in FORCED {
        insist(name, value, why)?;
    }
    for configuration in http {
        for (name, value, why) in HTTP {
            insist(&format!("{configuration}.{name}"), value, why)?;
        }
    }
    match config.mode {
        Mode::Ids { .. } => insist("stream.inline", "false", "the engine was asked to be passive")?,
        Mode::Ips => {
            insist("stream.inline", "true", INLINE)?;
            for (name, value) in POLICIES {
                insist(name, value, CLOSED)?;
            }
        }
    }
    Ok(applied)
}

/// Where libhtp is configured.
fn http_configurations(main: &Configured) -> Vec<String> {
    const LIBHTP: &str = "app-layer.protocols.http.libhtp";
    let for_servers = (0..64).map_while(|index| {
        let entry = format!("{LIBHTP}.server-config.{index}");
        main.setting(&entry).map(|name| format!("{entry}.{name}"))
    });
    std::iter::once(format!("{LIBHTP}.default-config")).chain(for_servers).collect()
}

fn is_forced(name: &str) -> bool {
    name == "stream.inline"
        || POLICIES.iter().any(|(policy, _)| *policy == name)
        || FORCED.iter().any(|(forced, _, _)| *forced == name)
        || (name.contains(".libhtp.")
            && HTTP.iter().any(|(forced, _, _)| name.rsplit('.').next() == Some(forced)))
}

pub(crate) fn force(main: &mut Configured, name: &str, value: &str) -> Result<(), Error> {
    main.force(name, value).map_err(|failure| {
        Error::config(format!("the setting {name} = {value} was refused")).with_source(failure)
    })
}

/// Whether two values mean the same to Suricata (`SCConfValIsTrue`).
fn same(left: &str, right: &str) -> bool {
    fn normal(value: &str) -> &str {
        const TRUE: &[&str] = &["1", "yes", "true", "on"];
        const FALSE: &[&str] = &["0", "no", "false", "off"];
        let is_in = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        if is_in(TRUE) {
            "true"
        } else if is_in(FALSE) {
            "false"
        } else {
            value
        }
    }
    normal(left).eq_ignore_ascii_case(normal(right))
}

/// Points the EVE outputs of the user's YAML elsewhere.
fn apply_eve(main: &mut Configured, eve: &EveOutput) -> Result<(), Error> {
    let outputs = (0..64)
        .map(|index| format!("outputs.{index}.eve-log"))
        .filter(|output| main.setting(&format!("{output}.enabled")).is_some())
        .collect::<Vec<_>>();
    match eve {
        EveOutput::AsConfigured => Ok(()),
        EveOutput::File(path) => {
            let (first, others) = outputs.split_first().ok_or_else(|| {
                Error::config(
                    "the YAML has no eve-log output that could be sent to a file: add one",
                )
            })?;
            force(main, &format!("{first}.enabled"), "yes")?;
            force(main, &format!("{first}.filetype"), "regular")?;
            force(main, &format!("{first}.filename"), &path.to_string_lossy())?;
            others.iter().try_for_each(|other| force(main, &format!("{other}.enabled"), "no"))
        }
        EveOutput::None => {
            outputs.iter().try_for_each(|output| force(main, &format!("{output}.enabled"), "no"))
        }
    }
}

/// Turns the cache of compiled patterns on, unless the user's YAML turns it off.
fn apply_patterns(main: &mut Configured, cache: &PatternCache) -> Result<(), Error> {
    const CACHING: &str = "detect.sgh-mpm-caching";
    // 0 stands for never: only what can be written can be removed.
    let (folder, age) = match cache {
        PatternCache::AsConfigured => return Ok(()),
        PatternCache::ReadOnly(folder) => (folder, "0"),
        PatternCache::ReadWrite(folder) => (folder, "1s"),
    };
    if main.setting(CACHING).is_some_and(|value| same(&value, "false")) {
        return Ok(());
    }
    if matches!(cache, PatternCache::ReadOnly(_)) {
        main.keep_no_patterns();
    }
    force(main, CACHING, "true")?;
    force(main, "detect.sgh-mpm-caching-path", &folder.to_string_lossy())?;
    force(main, "detect.sgh-mpm-caching-max-age", age)
}

/// Writes the YAML for those who bring none into `folder`, with the files that it names. Rules are named on the command
/// line, not here. Returns where the YAML is.
pub(crate) fn write_built_in(
    config: &EngineConfig,
    folder: &Path,
    log_dir: &Path,
) -> io::Result<PathBuf> {
    let mut yaml = built_in(config, log_dir);
    for (setting, name, content) in [
        ("classification-file", "classification.config", CLASSIFICATION),
        ("reference-config-file", "reference.config", REFERENCES),
    ] {
        if !content.is_empty() {
            let path = folder.join(name);
            fs::write(&path, content)?;
            // Writing to a String cannot fail.
            let _ = writeln!(yaml, "{setting}: {}", quoted(&path));
        }
    }
    let path = folder.join("suricata.yaml");
    fs::write(&path, yaml)?;
    Ok(path)
}

fn built_in(config: &EngineConfig, log_dir: &Path) -> String {
    let mut yaml = BUILT_IN.to_owned();
    // Writing to a String cannot fail.
    let _ = writeln!(yaml, "default-log-dir: {}", quoted(log_dir));
    if let EveOutput::File(path) = &config.eve {
        let _ = write!(yaml, "{EVE}      filename: {}\n{EVE_TYPES}", quoted(path));
    }
    yaml
}

/// A YAML single-quoted string.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', "''"))
}

const EVE: &str = "outputs:
  - eve-log:
      enabled: yes
      filetype: regular
";

const EVE_TYPES: &str = "      types:
        - alert:
            metadata: yes
            tagged-packets: no
        - drop:
            alerts: yes
            flows: start
";

/// Memory limits are generous: at a limit, flows are dropped. The flow table is small on purpose:
/// ended flows are forgotten by those who look into the same row, and else only every ten seconds.
/// We don't know which networks are home. A rule whose network does not match inspects nothing, so
/// `HOME_NET` is everything. Two addresses that nobody has are left out, so that `!$HOME_NET` is
/// valid. So with ports.
const BUILT_IN: &str = "%YAML 1.1
---
vars:
  address-groups:
    HOME_NET: '[0.0.0.0/0, ::/0, !0.0.0.0/32, !::/128]'
    EXTERNAL_NET: any
    HTTP_SERVERS: $HOME_NET
    SMTP_SERVERS: $HOME_NET
    SQL_SERVERS: $HOME_NET
    DNS_SERVERS: $HOME_NET
    TELNET_SERVERS: $HOME_NET
    AIM_SERVERS: $HOME_NET
    DC_SERVERS: $HOME_NET
    DNP3_SERVER: $HOME_NET
    DNP3_CLIENT: $HOME_NET
    MODBUS_CLIENT: $HOME_NET
    MODBUS_SERVER: $HOME_NET
    ENIP_CLIENT: $HOME_NET
    ENIP_SERVER: $HOME_NET
  port-groups:
    HTTP_PORTS: '1:65534'
    SHELLCODE_PORTS: '1:65534'
    ORACLE_PORTS: 1521
    SSH_PORTS: 22
    DNP3_PORTS: 20000
    MODBUS_PORTS: 502
    FILE_DATA_PORTS: '1:65534'
    FTP_PORTS: 21
    GENEVE_PORTS: 6081
    VXLAN_PORTS: 4789
    TEREDO_PORTS: 3544
    SIP_PORTS: '[5060, 5061]'
stats:
  enabled: yes
  interval: 8
  decoder-events: no
  stream-events: no
unix-command:
  enabled: no
livedev:
  use-for-tracking: no
max-pending-packets: 256
pcre:
  match-limit: 3500
  match-limit-recursion: 1500
flow:
  memcap: 512mb
  hash-size: 8192
  prealloc: 4096
stream:
  memcap: 512mb
  prealloc-sessions: 2048
  reassembly:
    memcap: 1gb
    toserver-chunk-size: 2560
    toclient-chunk-size: 2560
    randomize-chunk-size: no
host:
  hash-size: 4096
  prealloc: 100
  memcap: 32mb
detect:
  profile: medium
  sgh-mpm-context: auto
mpm-algo: auto
spm-algo: auto
app-layer:
  protocols:
    http:
      enabled: yes
      memcap: 1gb
      libhtp:
        default-config:
          personality: IDS
          randomize-inspection-sizes: no
          request-body-limit: 0
          response-body-limit: 0
          request-body-minimal-inspect-size: 32kb
          request-body-inspect-window: 16kb
          response-body-minimal-inspect-size: 40kb
          response-body-inspect-window: 16kb
          http-body-inline: auto
          swf-decompression:
            enabled: no
          double-decode-path: no
          double-decode-query: no
          meta-field-limit: 128kb
    http2:
      enabled: yes
    tls:
      enabled: yes
      detection-ports:
        dp: 443
      ja3-fingerprints: auto
      ja4-fingerprints: auto
    smtp:
      enabled: yes
      raw-extraction: no
      mime:
        decode-mime: yes
        decode-base64: yes
        decode-quoted-printable: yes
        header-value-depth: 2000
        extract-urls: yes
      inspected-tracker:
        content-limit: 100000
        content-inspect-min-size: 32768
        content-inspect-window: 4096
    ftp:
      enabled: yes
    imap:
      enabled: yes
    pop3:
      enabled: yes
    websocket:
      enabled: yes
    ssh:
      enabled: yes
    smb:
      enabled: yes
      detection-ports:
        dp: 139, 445
    dns:
      tcp:
        enabled: yes
        detection-ports:
          dp: 53
      udp:
        enabled: yes
        detection-ports:
          dp: 53
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_built_in_yaml_names_lies_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = write_built_in(&EngineConfig::new(), folder.path(), folder.path()).unwrap();
        let yaml = fs::read_to_string(path).unwrap();
        let named = |setting: &str| {
            let line = yaml.lines().find_map(|line| line.strip_prefix(setting)).unwrap();
            PathBuf::from(line.trim().trim_matches('\''))
        };
        for (setting, word) in
            [("classification-file:", "trojan-activity"), ("reference-config-file:", "cve")]
        {
            let file = named(setting);
            assert!(file.starts_with(folder.path()), "{}", file.display());
            assert!(fs::read_to_string(file).unwrap().contains(word), "{setting}");
        }
    }
}
