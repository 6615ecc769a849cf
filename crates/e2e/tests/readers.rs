//! What real clients make of contents that hide something, through both programs: whoever finds the signature in
//! what it got was known of. Meanwhile another client has as much decoded and held as it can get, which once took
//! the engine's memory, and with it everybody's inspection.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use e2e::origin::{After, Request, Wire};
use e2e::pki::Authority;
use e2e::{Gateway, Inspector, Origin, chromium, content, origin, peers};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use tempfile::TempDir;

/// Bodies up to this length are in Chromium's page.
const SMALL: usize = 1 << 20;
/// How long a counter may take to move after the transaction it is about.
const PATIENCE: Duration = Duration::from_secs(20);
/// Why bytes of a transaction count that nobody got.
const STOPPED: [&str; 8] = [
    "after-drop",
    "contradiction",
    "engine",
    "engine-content",
    "engine-memory",
    "engine-rule",
    "engine-stream",
    "refused",
];

/// One of `clients/contents.py`.
struct Content {
    number: usize,
    what: What,
    status: String,
    fields: Vec<(String, String)>,
    file: PathBuf,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Blocked,
    Clean,
    Counted,
}

impl Content {
    fn coding(&self) -> String {
        let codings = self.fields.iter().filter(|(name, _)| name == "Content-Encoding");
        let codings: Vec<_> = codings.map(|(_, value)| value.as_str()).collect();
        codings.join(", ")
    }
}

fn contents(folder: &Path) -> Vec<Content> {
    let bad = folder.join("bad");
    std::fs::write(&bad, content::eicar()).unwrap();
    let mut python = peers::python();
    python.arg(clients().join("contents.py")).arg(folder);
    let output = python.stdin(std::fs::File::open(bad).unwrap()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let parse = |line: &str| {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().unwrap().to_owned();
        let (number, what, status) = (word(), word(), word());
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        let fields = words.next().unwrap().split('|').filter(|f| !f.is_empty()).map(field);
        let file = folder.join(&number);
        Content {
            number: number.parse().unwrap(),
            what: match what.as_str() {
                "blocked" => What::Blocked,
                "clean" => What::Clean,
                _ => What::Counted,
            },
            status,
            fields: fields.collect(),
            body: std::fs::read(&file).unwrap(),
            file,
        }
    };
    String::from_utf8(output.stdout).unwrap().lines().map(parse).collect()
}

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// What a client did with a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Deed {
    Read,
    Sent,
}

/// What a client tells of it.
#[derive(Clone, Copy, Debug)]
struct Said {
    status: u16,
    /// The signature was in what it read, or its upload came to the origin.
    arrived: bool,
    /// A counter of what passes uninspected has moved meanwhile.
    counted: bool,
}

type Table = BTreeMap<(usize, Deed), Said>;

/// The origin's half of the test. Clients tell it what they read, by requests for `/read/…`, and it looks at the
/// counters while they wait.
struct Referee {
    contents: Vec<Content>,
    page: String,
    /// Where both programs tell their counters, once they run; for a client that goes past them nothing is counted.
    metrics: OnceLock<[SocketAddr; 2]>,
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    through: bool,
    counters: u64,
    uploads: Vec<usize>,
    table: Table,
    released: bool,
}

impl Referee {
    fn new(folder: &Path) -> Self {
        let contents = contents(folder);
        let mut lines = String::new();
        let mut page = String::from("[");
        for content in &contents {
            let coding = content.coding();
            writeln!(lines, "{} {coding}", content.number).unwrap();
            let body =
                if content.body.len() <= SMALL { base64(&content.body) } else { String::new() };
            write!(page, "[{}, \"{coding}\", \"{body}\"],", content.number).unwrap();
        }
        std::fs::write(folder.join("table"), lines).unwrap();
        page.push(']');
        let frame = std::fs::read_to_string(clients().join("readers/reader.html")).unwrap();
        Self {
            contents,
            page: frame.replace("TABLE", &page),
            metrics: OnceLock::new(),
            state: Mutex::default(),
            released: Condvar::new(),
        }
    }

    /// The table of one client, which goes through the programs or past them.
    fn judge(&self, through: bool, client: impl FnOnce()) -> Table {
        let counters = self.counters(through);
        *self.state.lock().unwrap() = State { through, counters, ..State::default() };
        client();
        std::mem::take(&mut *self.state.lock().unwrap()).table
    }

    fn serve(&self, request: &Request, wire: &mut Wire<'_>) -> io::Result<After> {
        let words: Vec<&str> = request.target[1..].split('/').collect();
        match words[..] {
            ["page"] => return wire.ok("text/html", self.page.as_bytes()),
            // The page is complete once its picture is.
            ["wait"] => {
                let state = self.state.lock().unwrap();
                drop(self.released.wait_while(state, |state| !state.released).unwrap());
            }
            ["release"] => {
                self.state.lock().unwrap().released = true;
                self.released.notify_all();
            }
            ["up", number] => {
                self.state.lock().unwrap().uploads.push(number.parse().map_err(io::Error::other)?);
            }
            [deed @ ("read" | "sent"), number, status, found] => {
                let deed = if deed == "read" { Deed::Read } else { Deed::Sent };
                let number = number.parse().map_err(io::Error::other)?;
                self.said(deed, number, status.parse().map_err(io::Error::other)?, found == "1");
            }
            [number] => {
                let number = number.parse::<usize>().map_err(io::Error::other)?;
                let Some(content) = self.contents.get(number) else { return wire.not_found() };
                let fields = content.fields.iter().map(|(name, value)| (&**name, &**value));
                return wire.with_length(
                    &format!("{} OK", content.status),
                    &fields.collect::<Vec<_>>(),
                    &content.body,
                );
            }
            _ => return wire.not_found(),
        }
        wire.ok("text/plain", b"yes")
    }

    fn said(&self, deed: Deed, number: usize, status: u16, found: bool) {
        let mut state = self.state.lock().unwrap();
        let arrived = found || deed == Deed::Sent && state.uploads.contains(&number);
        let must = arrived && self.contents[number].what != What::Clean;
        let end = Instant::now() + PATIENCE;
        let mut now = self.counters(state.through);
        while state.through && must && now == state.counters && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
            now = self.counters(state.through);
        }
        let counted = now != state.counters;
        state.counters = now;
        state.table.insert((number, deed), Said { status, arrived, counted });
    }

    /// The bytes that both programs let pass uninspected.
    fn counters(&self, through: bool) -> u64 {
        let programs = if through { self.metrics.get().unwrap().as_slice() } else { &[] };
        programs.iter().map(|&address| uninspected(address)).sum()
    }
}

/// The bytes that a program let pass uninspected, for whatever reason.
fn uninspected(address: SocketAddr) -> u64 {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    // A counter that never moved is not there.
    assert!(page.contains("# HELP meergate"), "{page}");
    let stopped = |line: &str| STOPPED.iter().any(|r| line.contains(&format!("reason=\"{r}\"")));
    page.lines()
        .filter(|line| !line.starts_with('#') && line.contains("uninspected_bytes_total"))
        .filter(|line| !stopped(line))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
        .sum()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let bits = group.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        let letter = |at: usize| match at <= group.len() {
            true => char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]),
            false => '=',
        };
        [letter(0), letter(1), letter(2), letter(3)]
    };
    bytes.chunks(3).flat_map(group).collect()
}

/// Programs that have to be compiled first, all clients by name, and how to start them.
struct Readers {
    folder: PathBuf,
}

const READERS: [&str; 8] =
    ["fetch", "http", "java", "chromium", "go", "requests", "curl", "curl-as-is"];

/// Where a client goes, and whom it trusts.
struct Route<'a> {
    /// The origin's URL for clients that are told a proxy, or have none to get past.
    base: String,
    /// The proxy's URL, or nothing.
    proxy: String,
    /// The URL for clients that know no proxies.
    node: String,
    gateway: Option<SocketAddr>,
    authority: &'a Path,
}

impl Readers {
    fn compile(folder: &Path) -> Self {
        let source = clients().join("readers");
        // Go's own libraries are compiled too, the first time.
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache");
        let mut go = peers::client("go");
        go.env("GOCACHE", cache).env("GO111MODULE", "off").env("CGO_ENABLED", "0");
        go.args(["build", "-o"]).arg(folder.join("go")).arg(source.join("reader.go"));
        let mut javac = peers::client("javac");
        javac.arg("-d").arg(folder).arg(source.join("Reader.java"));
        thread::scope(|scope| {
            scope.spawn(|| run(&mut go));
            run(&mut javac);
        });
        Self { folder: folder.to_owned() }
    }

    fn start(&self, reader: &str, route: &Route<'_>) {
        let source = clients().join("readers");
        let mut command = match reader {
            "chromium" => {
                let url = format!("{}/page", route.base);
                let page = match route.gateway {
                    Some(gateway) => chromium::open(&url, gateway, route.authority),
                    None => chromium::open_directly(&url, route.authority),
                };
                assert!(page.dom.contains("all read"), "{}", page.log);
                return;
            }
            "fetch" | "http" => {
                let mut node = peers::client("node");
                node.arg("--dns-result-order=ipv4first").arg(source.join("reader.mjs"));
                node.env("NODE_EXTRA_CA_CERTS", route.authority);
                node.args([reader, &route.node]);
                run(node.arg(&self.folder));
                return;
            }
            "go" => Command::new(self.folder.join("go")),
            "java" => {
                let mut java = peers::client("java");
                java.args(["-Xshare:auto", "-XX:+UseSerialGC", "-cp"]).arg(&self.folder);
                java.arg("Reader");
                java
            }
            _ => {
                let mut python = peers::python();
                python.arg(source.join("reader.py")).arg(reader);
                python
            }
        };
        command.args([&route.base, &route.proxy]).arg(route.authority);
        run(command.arg(&self.folder));
    }
}

/// What waits, coded and cut, for as long as the test goes on: requests and responses of one client that is not among
/// the readers.
struct Hoard {
    origin: Origin,
    over: Arc<(Mutex<bool>, Condvar)>,
    kept: Vec<TcpStream>,
}

impl Hoard {
    const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    /// Connections, each with a content that decodes to 10 MB and has no end.
    const MOST: usize = 120;

    fn fill(proxy: SocketAddr) -> Self {
        let bomb = content::gzip(&vec![0; 10 << 20]);
        let head =
            |length: usize| format!("Content-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n");
        let cut = Arc::new([head(900_000).as_bytes(), &bomb[..bomb.len() - 9]].concat());
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let (of_origin, rest) = (Arc::clone(&over), Arc::clone(&cut));
        let origin = Origin::http(move |_, wire| {
            wire.raw(b"HTTP/1.1 200 OK\r\n")?;
            wire.raw(&rest)?;
            let (over, ended) = &*of_origin;
            drop(ended.wait_while(over.lock().unwrap(), |over| !*over).unwrap());
            Ok(After::Close)
        });
        let mut kept = Vec::new();
        for number in 0..Self::MOST {
            let from = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            bind(&from, &SocketAddrV4::new(Self::CLIENT, 0)).unwrap();
            connect(&from, &proxy).unwrap();
            let mut stream = TcpStream::from(from);
            let (method, rest) =
                if number % 2 == 0 { ("GET", &b"\r\n"[..]) } else { ("POST", &cut[..]) };
            let at = origin.addr();
            // What is refused is refused.
            let _ = write!(stream, "{method} http://{at}/{number} HTTP/1.1\r\nHost: {at}\r\n");
            let _ = stream.write_all(rest);
            kept.push(stream);
        }
        Self { origin, over, kept }
    }

    /// How many responses it was let begin.
    fn end(self) -> usize {
        *self.over.0.lock().unwrap() = true;
        self.over.1.notify_all();
        drop(self.kept);
        self.origin.requests().len()
    }
}

/// Runs a program that must succeed.
fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}", output.status);
}

#[test]
fn no_client_reads_in_silence_what_is_hidden() {
    let folder = TempDir::new().unwrap();
    let referee = Arc::new(Referee::new(folder.path()));
    let authority = Authority::new("Origin");
    let trusted = authority.write(folder.path());
    let of_origin = Arc::clone(&referee);
    let origin = Origin::https(&authority.leaf(&origin::NAMES), move |request, wire| {
        of_origin.serve(request, wire)
    });
    let rules = e2e::programs::test_rules().display().to_string();
    let mut inspector = Inspector::start(["--rules", &rules, "--metrics", "127.0.0.1:0"]);
    let metrics = inspector.process.wait_for("the metrics' address", |line| {
        line.strip_prefix("listening on ")?.strip_suffix(" (metrics)")?.parse().ok()
    });
    let port = origin.addr().port();
    let mut gateway = Gateway::with_settings(
        &format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\n\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\nkind = \"target\"\n\
             target = \"localhost:{port}\"\n"
        ),
        ["--icap", &inspector.url(), "--upstream-ca", &trusted.display().to_string()],
    );
    let target: SocketAddr = gateway.process.wait_for("the other listener", |line| {
        line.strip_prefix("listening on ")?.strip_suffix(" (target)")?.parse().ok()
    });
    referee.metrics.set([gateway.console(), metrics]).unwrap();
    let forged = gateway.authority();
    let base = origin.url("");
    let past = Route {
        base: base.clone(),
        proxy: String::new(),
        node: base.clone(),
        gateway: None,
        authority: &trusted,
    };
    let through = Route {
        base,
        proxy: format!("http://{}", gateway.proxy()),
        node: format!("https://localhost:{}", target.port()),
        gateway: Some(gateway.proxy()),
        authority: &forged,
    };
    let readers = Readers::compile(folder.path());
    let hoard = Hoard::fill(gateway.proxy());
    let mut silent = String::new();
    for reader in READERS {
        let began = Instant::now();
        let bare = referee.judge(false, || readers.start(reader, &past));
        let found = bare.iter().filter(|((_, deed), said)| *deed == Deed::Read && said.arrived);
        let found: Vec<usize> = found.map(|((number, _), _)| *number).collect();
        let table = referee.judge(true, || readers.start(reader, &through));
        println!("{reader}: {found:?} without us, {:?}", began.elapsed());
        // It can tell, and came to the end.
        let least = if reader == "curl-as-is" { 3 } else { 10 };
        assert!(found.len() >= least && table.len() >= referee.contents.len(), "{reader}");
        for ((number, deed), said) in table {
            let content = &referee.contents[number];
            let fine = match content.what {
                What::Blocked => !said.arrived,
                What::Clean => said.status == 200 && (deed == Deed::Read || said.arrived),
                What::Counted => !said.arrived || said.counted,
            };
            if !fine {
                let about = format!("{} {:?}", content.file.display(), content.fields.last());
                writeln!(silent, "{reader}: {deed:?} {about}: {said:?}").unwrap();
            }
        }
    }
    assert!(hoard.end() > 10, "nothing was held");
    assert!(silent.is_empty(), "{silent}");
}
