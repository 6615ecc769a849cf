//! Brings up whoever takes part, each once for the whole run, and lets them work.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::engine::Engine;
use crate::load::link::{Route, Tls};
use crate::load::{Amount, Effort, Sample, Watched, h2, http1, icap};
use crate::peers::{
    CIcap, Clamd, E2Guardian, Icapsuricata, Inspector, Meergate, Mitmproxy, Nginx, Null, Relay,
    Splitter, Squid, VeyProxy,
};
use crate::pki::Pki;
use crate::plan::{Connections, HttpJob, IcapJob, Job, Who, Work};

/// Bodies from here on are counted by number, since a window would cut many of them.
const LARGE: u64 = 10 << 20;

/// Where files that are not the bench's own come from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The five rules.
    pub five: PathBuf,
    /// The ET Open rules, if they are there.
    pub et_open: Option<PathBuf>,
    /// Length of each window.
    pub window: Duration,
    /// Programs that Debian does not have.
    pub named: Named,
}

/// Programs that Debian does not have: who has built one names it, and it takes part.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Named {
    /// icapsuricata's module for c-icap, `srv_suricata.so`.
    #[arg(long, value_name = "MODULE")]
    pub icapsuricata: Option<PathBuf>,
    /// SSLproxy's program.
    #[arg(long, value_name = "PROGRAM")]
    pub sslproxy: Option<PathBuf>,
    /// The engine's program, of the same build as the library.
    #[arg(long, value_name = "PROGRAM")]
    pub suricata: Option<PathBuf>,
    /// The program of vey-proxy, or of g3proxy; that of its certificate agent lies beside it.
    #[arg(long, value_name = "PROGRAM")]
    pub vey_proxy: Option<PathBuf>,
}

/// Everyone who takes part so far.
pub struct Stage {
    inputs: Inputs,
    runs: Cell<u32>,
    pki: Pki,
    nginx: Nginx,
    clamd: OnceCell<Clamd>,
    c_icap: OnceCell<CIcap>,
    virus_scan: OnceCell<CIcap>,
    e2guardian: OnceCell<E2Guardian>,
    icapsuricata: OnceCell<Icapsuricata>,
    five: OnceCell<Inspector>,
    et_open: OnceCell<Inspector>,
    meergate: OnceCell<Meergate>,
    meergate_bypass: OnceCell<Meergate>,
    meergate_c_icap: OnceCell<Meergate>,
    meergate_echo: OnceCell<Meergate>,
    meergate_five: OnceCell<Meergate>,
    meergate_unix: OnceCell<Meergate>,
    meergate_et: OnceCell<Meergate>,
    relay: OnceCell<Relay>,
    squid: OnceCell<Squid>,
    squid_echo: OnceCell<Squid>,
    sslproxy: OnceCell<Splitter>,
    sslsplit: OnceCell<Splitter>,
    vey_proxy: OnceCell<VeyProxy>,
    vey_proxy_echo: OnceCell<VeyProxy>,
    mitmproxy: OnceCell<Mitmproxy>,
}

/// An ICAP server as a load sees it.
struct IcapServer {
    addr: SocketAddr,
    paths: (&'static str, &'static str),
    pids: Vec<u32>,
    tuple: bool,
}

/// An HTTP server or proxy as a load sees it.
struct HttpServer {
    connect: SocketAddr,
    proxy: bool,
    /// Whether TLS ends at the origin.
    direct: bool,
    watched: Watched,
}

impl Stage {
    /// An empty stage with an origin that serves `bodies`.
    pub fn new(inputs: Inputs, bodies: &[u64]) -> Self {
        let pki = Pki::new();
        let nginx = Nginx::start(&pki, bodies);
        Self {
            inputs,
            runs: Cell::new(0),
            pki,
            nginx,
            clamd: OnceCell::new(),
            c_icap: OnceCell::new(),
            virus_scan: OnceCell::new(),
            e2guardian: OnceCell::new(),
            icapsuricata: OnceCell::new(),
            five: OnceCell::new(),
            et_open: OnceCell::new(),
            meergate: OnceCell::new(),
            meergate_bypass: OnceCell::new(),
            meergate_c_icap: OnceCell::new(),
            meergate_echo: OnceCell::new(),
            meergate_five: OnceCell::new(),
            meergate_unix: OnceCell::new(),
            meergate_et: OnceCell::new(),
            relay: OnceCell::new(),
            squid: OnceCell::new(),
            squid_echo: OnceCell::new(),
            sslproxy: OnceCell::new(),
            sslsplit: OnceCell::new(),
            vey_proxy: OnceCell::new(),
            vey_proxy_echo: OnceCell::new(),
            mitmproxy: OnceCell::new(),
        }
    }

    /// Lets `who` do `work` once and counts; none when what `who` needs is not there.
    pub fn run(&self, work: &Work, who: Who) -> Option<Sample> {
        match work.job {
            Job::Http(job) => self.http(work, &job, who),
            Job::Icap(job) => self.icap(work, &job, who),
        }
    }

    fn effort(connections: usize, body: u64, window: Duration) -> Effort {
        let amount = if body >= LARGE {
            // About two windows' worth at half a gigabyte a second.
            let transactions = (window.as_secs() + 1) * 1_000_000_000 / body;
            let each = i64::try_from(connections).unwrap_or(i64::MAX);
            Amount::Transactions(each.max(i64::try_from(transactions).unwrap_or(i64::MAX)))
        } else {
            Amount::Window(window)
        };
        Effort { connections, warmup: Duration::from_millis(500), amount }
    }

    fn engine(&self, job: &IcapJob, rules: &Path) -> Option<Sample> {
        let program = self.inputs.named.suricata.clone()?;
        Some(Engine { program }.run(rules, job.body))
    }

    fn icap(&self, work: &Work, job: &IcapJob, who: Who) -> Option<Sample> {
        match who {
            Who::Engine => return self.engine(job, &self.inputs.five),
            Who::EngineEt => return self.engine(job, self.inputs.et_open.as_ref()?),
            _ => {}
        }
        let mut load = icap::Load {
            // Replaced below; five digits, as the null server's port has.
            server: SocketAddr::from(([127, 0, 0, 1], 12_345)),
            paths: ("/null".into(), "/null".into()),
            kind: job.kind,
            body: job.body,
            preview: job.preview,
            allow_204: job.allow_204,
            tuple: None,
            extra: String::new(),
        };
        let effort = Self::effort(work.connections, job.body, self.inputs.window);
        if who == Who::Null {
            let null = Null::start(&load);
            load.server = null.addr();
            let watched = Watched { subject: vec![null.pid()], services: vec![] };
            return Some(load.run(&effort, &watched));
        }
        let server = self.icap_server(who)?;
        load.server = server.addr;
        load.paths = (server.paths.0.into(), server.paths.1.into());
        load.tuple = server.tuple.then(|| self.runs.replace(self.runs.get() + 1));
        load.extra = match who {
            Who::E2guardian => answered(&load, "X-ICAP-E2G:"),
            Who::Icapsuricata => answered(&load, "X-Response-Vars:"),
            _ => String::new(),
        };
        Some(load.run(&effort, &Watched { subject: server.pids, services: vec![] }))
    }

    fn icap_server(&self, who: Who) -> Option<IcapServer> {
        let both = |path| (path, path);
        let server = |addr, paths, pids| IcapServer { addr, paths, pids, tuple: false };
        Some(match who {
            Who::CIcapEcho | Who::CIcapEx206 => {
                let c_icap = self.c_icap();
                let path = if who == Who::CIcapEcho { "/echo" } else { "/ex206" };
                server(c_icap.addr(), both(path), vec![c_icap.pid()])
            }
            Who::VirusScan => {
                let clamd = self.clamd.get_or_init(Clamd::start);
                let c_icap = self.virus_scan.get_or_init(|| CIcap::start(Some(clamd)));
                server(c_icap.addr(), both("/virus_scan"), vec![c_icap.pid(), clamd.pid()])
            }
            Who::E2guardian => {
                let peer = self.e2guardian.get_or_init(E2Guardian::start);
                server(peer.addr(), ("/request", "/response"), vec![peer.process.pid()])
            }
            Who::Icapsuricata => {
                let module = self.inputs.named.icapsuricata.as_ref()?;
                let peer = self.icapsuricata.get_or_init(|| Icapsuricata::start(module));
                server(peer.addr(), both("/suricata"), vec![peer.pid()])
            }
            Who::Echo => {
                let inspector = self.five();
                server(inspector.addr(), both("/echo"), vec![inspector.pid()])
            }
            Who::Suricata | Who::SuricataEt => {
                let inspector = if who == Who::Suricata { self.five() } else { self.et_open()? };
                let pids = vec![inspector.pid()];
                IcapServer { tuple: true, ..server(inspector.addr(), both("/suricata"), pids) }
            }
            _ => unreachable!("{who:?} is no ICAP server"),
        })
    }

    fn http(&self, work: &Work, job: &HttpJob, who: Who) -> Option<Sample> {
        let server = self.http_server(who, job.rsa)?;
        let ca = if server.direct { self.pki.origin_ca() } else { self.pki.proxy_ca().0 };
        let origin = if job.rsa { self.nginx.rsa() } else { self.nginx.ec() };
        let alpn: &[&str] = if job.streams.is_some() { &["h2"] } else { &["http/1.1"] };
        let route = Route {
            connect: server.connect,
            proxy: server.proxy,
            host: "localhost".into(),
            port: origin.number(),
            tls: Some(Tls::new(&ca, alpn, job.use_of == Connections::Resumed)),
        };
        let path = format!("/{}", job.body);
        let effort = Self::effort(work.connections, job.body, self.inputs.window);
        Some(match job.streams {
            Some(streams) => {
                let load = h2::Load { route, path, body: job.body, streams };
                load.run(&effort, &server.watched)
            }
            None => {
                let new_connections = job.use_of != Connections::Kept;
                let load = http1::Load { route, path, body: job.body, new_connections };
                load.run(&effort, &server.watched)
            }
        })
    }

    fn http_server(&self, who: Who, rsa: bool) -> Option<HttpServer> {
        let proxy = |connect, pid, services: &[u32]| HttpServer {
            connect,
            proxy: true,
            direct: false,
            watched: Watched { subject: vec![pid], services: services.to_vec() },
        };
        let ours = |cell: &OnceCell<Meergate>, icap: Option<(String, u32)>| {
            let (urls, services): (Vec<String>, Vec<u32>) = icap.into_iter().unzip();
            let meergate = cell.get_or_init(|| Meergate::start(&self.pki, &urls));
            proxy(meergate.addr(), meergate.pid(), &services)
        };
        let splitter = |peer: &Splitter| {
            let addr = if rsa { peer.rsa() } else { peer.ec() };
            HttpServer { proxy: false, ..proxy(addr, peer.pid(), &[]) }
        };
        let tcp = |addr, path, pid| Some((format!("icap://{addr}{path}"), pid));
        let inspector = |inspector: &Inspector, path| tcp(inspector.addr(), path, inspector.pid());
        Some(match who {
            Who::Nginx => {
                let port = if rsa { self.nginx.rsa() } else { self.nginx.ec() };
                let server = proxy(port.addr(), self.nginx.pid(), &[]);
                HttpServer { proxy: false, direct: true, ..server }
            }
            Who::Meergate => ours(&self.meergate, None),
            Who::MeergateBypass => {
                let gate = self.meergate_bypass.get_or_init(|| Meergate::bypassing(&self.pki));
                HttpServer { direct: true, ..proxy(gate.addr(), gate.pid(), &[]) }
            }
            Who::MeergateCIcap => {
                let c_icap = self.c_icap();
                ours(&self.meergate_c_icap, tcp(c_icap.addr(), "/echo", c_icap.pid()))
            }
            Who::MeergateEcho => ours(&self.meergate_echo, inspector(self.five(), "/echo")),
            Who::MeergateSuricata => ours(&self.meergate_five, inspector(self.five(), "/suricata")),
            Who::MeergateSuricataUnix => {
                let five = self.five();
                let url = format!("unix:{}:/suricata", five.socket().display());
                ours(&self.meergate_unix, Some((url, five.pid())))
            }
            Who::MeergateSuricataEt => {
                ours(&self.meergate_et, inspector(self.et_open()?, "/suricata"))
            }
            Who::Relay if rsa => return None,
            Who::Relay => {
                let port = self.nginx.ec().number();
                let relay = self.relay.get_or_init(|| Relay::start(&self.pki, port));
                let server = proxy(relay.addr(), relay.pid(), &[]);
                HttpServer { proxy: false, direct: true, ..server }
            }
            Who::Squid => {
                let squid = self.squid.get_or_init(|| Squid::start(&self.pki, None));
                proxy(squid.addr(), squid.pid(), &[])
            }
            Who::SquidEcho => {
                let c_icap = self.c_icap();
                let icap = format!("{}/echo", c_icap.addr());
                let squid = self.squid_echo.get_or_init(|| Squid::start(&self.pki, Some(&icap)));
                proxy(squid.addr(), squid.pid(), &[c_icap.pid()])
            }
            Who::Sslsplit => {
                let start = || Splitter::sslsplit(&self.pki, &self.nginx);
                splitter(self.sslsplit.get_or_init(start))
            }
            Who::Sslproxy => {
                let program = self.inputs.named.sslproxy.as_ref()?;
                let start = || Splitter::sslproxy(program, &self.pki, &self.nginx);
                splitter(self.sslproxy.get_or_init(start))
            }
            Who::VeyProxy | Who::VeyProxyEcho => {
                let program = self.inputs.named.vey_proxy.as_ref()?;
                let (cell, service) = match who {
                    Who::VeyProxy => (&self.vey_proxy, None),
                    _ => (&self.vey_proxy_echo, Some(self.c_icap())),
                };
                let icap = service.map(|service| format!("{}/echo", service.addr()));
                let start = || VeyProxy::start(program, &self.pki, icap.as_deref());
                let peer = cell.get_or_init(start);
                let mut server = proxy(peer.addr(), 0, &[]);
                server.watched.subject = peer.pids().to_vec();
                server.watched.services = service.map(CIcap::pid).into_iter().collect();
                server
            }
            Who::Mitmproxy => {
                let peer = self.mitmproxy.get_or_init(|| Mitmproxy::start(&self.pki));
                proxy(peer.addr(), peer.pid(), &[])
            }
            _ => unreachable!("{who:?} is no HTTP server"),
        })
    }

    fn c_icap(&self) -> &CIcap {
        self.c_icap.get_or_init(|| CIcap::start(None))
    }

    fn five(&self) -> &Inspector {
        self.five.get_or_init(|| Inspector::start(&self.inputs.five))
    }

    fn et_open(&self) -> Option<&Inspector> {
        let rules = self.inputs.et_open.as_ref()?;
        Some(self.et_open.get_or_init(|| Inspector::start(rules)))
    }
}

/// The header line that begins with `name` in the answer to a REQMOD, which the server wants back with the
/// RESPMOD; nothing if there is none.
fn answered(load: &icap::Load, name: &str) -> String {
    use std::io::{Read, Write};
    let one = icap::Load { kind: icap::Kind::Reqmod, ..load.clone() };
    let mut stream = std::net::TcpStream::connect(load.server).expect("the ICAP server");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
    for piece in one.exchanges(0).iter().flat_map(|exchange| exchange.first.clone()) {
        stream.write_all(&piece).expect("a REQMOD sent");
    }
    let mut buffer = vec![0; 16 << 10];
    let n = stream.read(&mut buffer).expect("a reply to a REQMOD");
    let reply = String::from_utf8_lossy(&buffer[..n]);
    let line = reply.split("\r\n").find(|line| line.starts_with(name));
    line.map_or_else(String::new, |line| format!("{line}\r\n"))
}
