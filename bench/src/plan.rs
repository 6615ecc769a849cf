//! What is measured: works, and who does each.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::load::icap::Kind;

/// Who does a work. The names are those of the results.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Who {
    /// c-icap's `echo`: 200 with the same message.
    #[serde(rename = "c-icap echo")]
    CIcapEcho,
    /// c-icap's `ex206`: 204 without a preview too.
    #[serde(rename = "c-icap ex206")]
    CIcapEx206,
    /// E2Guardian as an ICAP server.
    #[serde(rename = "e2guardian")]
    E2guardian,
    /// Our `/echo`.
    #[serde(rename = "inspector /echo")]
    Echo,
    /// The engine alone, five rules: `suricata -r` on one thread. The limit of `/suricata`.
    #[serde(rename = "engine")]
    Engine,
    /// The same, ET Open.
    #[serde(rename = "engine ET")]
    EngineEt,
    /// icapsuricata, with the rules of its own settings.
    #[serde(rename = "icapsuricata")]
    Icapsuricata,
    /// `meergate` alone.
    #[serde(rename = "meergate")]
    Meergate,
    /// `meergate` that bypasses: bytes relayed unread, without any TLS of its own. The limit of
    /// whatever stands between two sockets.
    #[serde(rename = "meergate, bypass")]
    MeergateBypass,
    /// `meergate` with c-icap's `echo`.
    #[serde(rename = "meergate + c-icap echo")]
    MeergateCIcap,
    /// `meergate` with our `/echo`.
    #[serde(rename = "meergate + /echo")]
    MeergateEcho,
    /// `meergate` with our `/suricata`, five rules.
    #[serde(rename = "meergate + /suricata")]
    MeergateSuricata,
    /// `meergate` with our `/suricata`, ET Open.
    #[serde(rename = "meergate + /suricata ET")]
    MeergateSuricataEt,
    /// `meergate` with our `/suricata`, five rules, over a Unix socket.
    #[serde(rename = "meergate + /suricata, unix")]
    MeergateSuricataUnix,
    /// mitmdump.
    #[serde(rename = "mitmproxy")]
    Mitmproxy,
    /// nginx, without a proxy between: the limit.
    #[serde(rename = "nginx direct")]
    Nginx,
    /// The null ICAP server: the limit.
    #[serde(rename = "null server")]
    Null,
    /// A relay that ends TLS on both sides and does nothing else. The limit of whatever is to look
    /// inside small messages.
    #[serde(rename = "TLS relay")]
    Relay,
    /// Squid alone.
    #[serde(rename = "squid")]
    Squid,
    /// Squid with c-icap's `echo`.
    #[serde(rename = "squid + c-icap echo")]
    SquidEcho,
    /// SSLproxy in split mode.
    #[serde(rename = "SSLproxy")]
    Sslproxy,
    /// sslsplit.
    #[serde(rename = "sslsplit")]
    Sslsplit,
    /// Our `/suricata`, five rules.
    #[serde(rename = "inspector /suricata")]
    Suricata,
    /// Our `/suricata`, ET Open.
    #[serde(rename = "inspector /suricata ET")]
    SuricataEt,
    /// vey-proxy alone, with its certificate agent.
    #[serde(rename = "vey-proxy")]
    VeyProxy,
    /// vey-proxy with c-icap's `echo`.
    #[serde(rename = "vey-proxy + c-icap echo")]
    VeyProxyEcho,
    /// c-icap's `virus_scan` with clamd.
    #[serde(rename = "virus_scan")]
    VirusScan,
}

impl Who {
    /// The name in results.
    pub fn name(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(name)) => name,
            _ => unreachable!("a unit variant is a string"),
        }
    }

    /// Whether it is there to show what the others could reach.
    pub fn is_limit(self) -> bool {
        use Who::{Engine, EngineEt, MeergateBypass, Nginx, Null, Relay};
        matches!(self, Engine | EngineEt | MeergateBypass | Nginx | Null | Relay)
    }

    /// Whether it is a program of ours that is measured.
    pub fn is_ours(self) -> bool {
        let name = self.name();
        name.starts_with("meergate") || name.starts_with("inspector")
    }
}

/// One work: what is done again and again, and by whom.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its name in results: what, how much, how many connections.
    pub name: String,
    /// What is done.
    pub job: Job,
    /// Connections at a time.
    pub connections: usize,
    /// Who does it, in the order of the first round.
    pub who: Vec<Who>,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// HTTP through a proxy, or directly.
    Http(HttpJob),
    /// ICAP transactions.
    Icap(IcapJob),
}

/// HTTP through a proxy, or directly.
#[derive(Clone, Copy, Debug)]
pub struct HttpJob {
    /// Body bytes.
    pub body: u64,
    /// How connections are used.
    pub use_of: Connections,
    /// Whether the origin's key is RSA-2048, else P-256.
    pub rsa: bool,
    /// Streams at a time for HTTP/2; HTTP/1.1 if none.
    pub streams: Option<usize>,
}

/// How connections are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Connections {
    /// Kept for all requests.
    Kept,
    /// One a request, with a full handshake.
    New,
    /// One a request, with a resumed handshake.
    Resumed,
}

/// ICAP transactions.
#[derive(Clone, Copy, Debug)]
pub struct IcapJob {
    /// What each transaction consists of.
    pub kind: Kind,
    /// Body bytes.
    pub body: u64,
    /// `Preview`, bytes.
    pub preview: Option<usize>,
    /// Whether `Allow: 204` is sent.
    pub allow_204: bool,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// How much of all is measured.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Extent {
    /// What the bars ask for.
    #[default]
    Bars,
    /// The whole matrix; takes hours.
    Full,
    /// What of the whole matrix no bar asks for.
    Rest,
}

/// The works of `extent`.
pub fn works(extent: Extent) -> Vec<Work> {
    let all = |full| [icap(full), http(full)].concat();
    match extent {
        Extent::Bars => all(false),
        Extent::Full => all(true),
        Extent::Rest => {
            let bars: BTreeSet<String> = all(false).into_iter().map(|work| work.name).collect();
            all(true).into_iter().filter(|work| !bars.contains(&work.name)).collect()
        }
    }
}

/// Body lengths that the origin must have.
pub fn bodies(works: &[Work]) -> BTreeSet<u64> {
    works
        .iter()
        .filter_map(|work| match work.job {
            Job::Http(job) => Some(job.body),
            Job::Icap(_) => None,
        })
        .collect()
}

fn icap(full: bool) -> Vec<Work> {
    use Who::{
        CIcapEcho, CIcapEx206, E2guardian, Echo, Engine, EngineEt, Icapsuricata, Null, Suricata,
        SuricataEt, VirusScan,
    };
    let respmod = |body| IcapJob { kind: Kind::Respmod, body, preview: None, allow_204: false };
    let may_204 = |job| IcapJob { allow_204: true, ..job };
    let preview = |job| IcapJob { preview: Some(1024), allow_204: true, ..job };
    let pair = |body| IcapJob { kind: Kind::Pair, body, preview: None, allow_204: true };
    let options = IcapJob { kind: Kind::Options, body: 0, preview: None, allow_204: false };
    let reqmod = IcapJob { kind: Kind::Reqmod, body: 0, preview: None, allow_204: false };
    let mut all = Vec::new();
    let mut add = |name: &str, job: IcapJob, connections: &[usize], who: &[Who]| {
        for connections in connections {
            all.push(Work {
                name: format!("icap {name}, {connections}"),
                job: Job::Icap(job),
                connections: *connections,
                who: who.to_vec(),
            });
        }
    };
    let few: &[usize] = if full { &[1, 8, 64, 512] } else { &[8, 64] };
    let eight: &[usize] = if full { few } else { &[8] };
    add("OPTIONS", options, eight, &[Null, CIcapEcho, Echo, Suricata]);
    add("REQMOD", reqmod, eight, &[Null, CIcapEcho, Echo, Suricata]);
    add("RESPMOD 1 KB 200", respmod(KIB), few, &[Null, CIcapEcho, Echo, Suricata]);
    add("RESPMOD 1 MB 200", respmod(MIB), few, &[Null, CIcapEcho, Echo, Suricata]);
    let inspected = [Null, CIcapEx206, Echo, Suricata, SuricataEt, Engine, EngineEt];
    add("RESPMOD 1 KB 204", may_204(respmod(KIB)), &[8], &inspected);
    let others: &[usize] = if full { &[1, 64, 512] } else { &[64, 512] };
    add("RESPMOD 1 KB 204", may_204(respmod(KIB)), others, &inspected[..5]);
    add("RESPMOD 1 MB preview", preview(respmod(MIB)), eight, &[Null, CIcapEx206, Echo, Suricata]);
    let pairs = [Null, CIcapEcho, Echo, Suricata, SuricataEt, Icapsuricata];
    add("pair 1 KB", pair(KIB), eight, &pairs);
    add("pair 1 MB", pair(MIB), &[8], &[&pairs[..], &[Engine, EngineEt]].concat());
    if full {
        add("pair 1 MB", pair(MIB), &[1, 64, 512], &pairs);
    }
    add(
        "RESPMOD 100 MB 200",
        respmod(100 * MIB),
        &[1],
        &[Null, CIcapEcho, Echo, Suricata, SuricataEt, Engine, EngineEt],
    );
    add("RESPMOD 1 KB scan", may_204(respmod(KIB)), &[8], &[VirusScan, E2guardian, SuricataEt]);
    if full {
        add("RESPMOD 100 KB 200", respmod(100 * KIB), few, &[Null, CIcapEcho, Echo, Suricata]);
        add("RESPMOD 100 MB 200", respmod(100 * MIB), &[8], &[CIcapEcho, Echo, Suricata]);
        add(
            "RESPMOD 1 KB preview",
            preview(respmod(KIB)),
            few,
            &[Null, CIcapEx206, Echo, Suricata],
        );
    }
    all
}

fn http(full: bool) -> Vec<Work> {
    use Connections::{Kept, New, Resumed};
    use Who::{
        Meergate, MeergateBypass, MeergateCIcap, MeergateEcho, MeergateSuricata,
        MeergateSuricataEt, MeergateSuricataUnix, Mitmproxy, Nginx, Relay, Squid, SquidEcho,
        Sslproxy, Sslsplit, VeyProxy, VeyProxyEcho,
    };
    let job = |body, use_of| HttpJob { body, use_of, rsa: false, streams: None };
    let mut all = Vec::new();
    let mut add = |name: &str, job: HttpJob, connections: &[usize], who: &[Who]| {
        for connections in connections {
            all.push(Work {
                name: format!("https {name}, {connections}"),
                job: Job::Http(job),
                connections: *connections,
                who: who.to_vec(),
            });
        }
    };
    let adapted = [
        Nginx,
        MeergateBypass,
        Relay,
        Meergate,
        MeergateEcho,
        MeergateSuricata,
        MeergateSuricataUnix,
        MeergateSuricataEt,
        MeergateCIcap,
        Squid,
        SquidEcho,
        Sslsplit,
        Mitmproxy,
        Sslproxy,
        VeyProxy,
        VeyProxyEcho,
    ];
    let plain = [Nginx, MeergateBypass, Relay, Meergate, Squid, Sslsplit, Sslproxy, VeyProxy];
    let h2_too = [Nginx, Meergate, MeergateSuricata, VeyProxy];
    let inspected = [Nginx, MeergateBypass, Relay, Meergate, MeergateSuricata, Squid, Sslsplit];
    let many: &[usize] = if full { &[1, 64, 512] } else { &[64, 512] };
    add("1 KB kept", job(KIB, Kept), &[8], &adapted);
    add("1 KB kept", job(KIB, Kept), &[32], &plain);
    add("1 KB kept", job(KIB, Kept), many, &inspected);
    add("1 KB new", job(KIB, New), &[8], &adapted);
    add("1 MB kept", job(MIB, Kept), &[8], &adapted);
    let h2 = HttpJob { streams: Some(100), ..job(KIB, Kept) };
    add("h2 1 KB, 100 streams", h2, &[1, 8], &h2_too);
    add("1 KB resumed", job(KIB, Resumed), &[8], &plain);
    add("1 KB new, RSA origin", HttpJob { rsa: true, ..job(KIB, New) }, &[8], &plain);
    if full {
        let levels: &[usize] = &[1, 8, 64, 512];
        add("100 KB kept", job(100 * KIB, Kept), levels, &adapted);
        add("1 MB kept", job(MIB, Kept), &[1, 64, 512], &plain);
        add("100 MB kept", job(100 * MIB, Kept), &[1, 8], &adapted);
        add("1 KB new", job(KIB, New), &[1, 64, 512], &plain);
        let h2 = |body, n| HttpJob { streams: Some(n), ..job(body, Kept) };
        add("h2 1 KB, 1 stream", h2(KIB, 1), levels, &h2_too);
        add("h2 1 KB, 10 streams", h2(KIB, 10), &[8], &h2_too);
        add("h2 1 MB, 1 stream", h2(MIB, 1), &[8], &h2_too);
        add("h2 1 MB, 100 streams", h2(MIB, 100), &[1], &h2_too);
    }
    all
}
