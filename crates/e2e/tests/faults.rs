//! Everything that can break off does, at every stage and many times over: nothing uninspected
//! passes, and nothing is left behind.
//!
//! `MEERGATE_E2E_TRANSACTIONS` is how many transactions the long run makes (default 2400).

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use e2e::origin::{After, Request, Wire};
use e2e::{Gateway, Origin, content, process};

const SIZE: usize = 30_000;

/// Where an origin breaks off, by path.
const BREAKS: [&str; 6] =
    ["/no-answer", "/half-head", "/no-body", "/half-body", "/half-chunk", "/no-last-chunk"];

/// What a service does instead of its work, by the method that it is asked with.
const FAILURES: [&str; 9] = [
    "close-at-head",
    "close-at-body",
    "half-head",
    "garbage",
    "status-500",
    "status-404",
    "cut-content",
    "odd-chunk",
    "no-end",
];

fn origin(request: &Request, wire: &mut Wire<'_>) -> io::Result<After> {
    let body = content::noise(1, SIZE);
    let path = request.target.split('?').next().unwrap_or_default();
    let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    match path {
        "/half-head" => wire.raw(&length.as_bytes()[..20])?,
        "/no-answer" => {}
        "/no-body" => wire.raw(length.as_bytes())?,
        "/half-body" => wire.raw(&[length.as_bytes(), &body[..SIZE / 2]].concat())?,
        "/half-chunk" => {
            wire.raw(&[chunked.as_bytes(), b"7530\r\n", &body[..SIZE / 2]].concat())?;
        }
        "/no-last-chunk" => {
            wire.raw(&[chunked.as_bytes(), b"7530\r\n", &body, b"\r\n"].concat())?;
        }
        _ => return wire.ok("application/octet-stream", &body),
    }
    Ok(After::Abort)
}

/// An ICAP service that fails as the encapsulated request's query says, and else lets pass.
fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream?));
        }
    });
    address
}

fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let method = head.split(' ').next().unwrap_or_default().to_owned();
        if method == "OPTIONS" {
            out.write_all(
                b"ICAP/1.0 200 OK\r\nMethods: REQMOD, RESPMOD\r\nISTag: \"t\"\r\nAllow: 204\r\n\
                  Encapsulated: null-body=0\r\n\r\n",
            )?;
            continue;
        }
        let parts = head.lines().find_map(|line| line.strip_prefix("Encapsulated: "));
        let (last, length) = parts.and_then(|p| p.rsplit(", ").next()?.split_once('=')).unwrap();
        let mut http = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut http)?;
        let http = String::from_utf8_lossy(&http).into_owned();
        let wanted =
            http.lines().next().and_then(|line| line.split(['?', ' ']).nth(2)).unwrap_or("");
        let failure = wanted.strip_prefix(&format!("{method}-")).unwrap_or("none").to_owned();
        if failure == "close-at-head" {
            return Ok(());
        }
        if last != "null-body" {
            skip_content(&mut reader)?;
        }
        let ok = "ICAP/1.0 200 OK\r\nISTag: \"t\"\r\n";
        let own = format!(
            "{ok}Encapsulated: res-hdr=0, res-body=44\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"
        );
        match failure.as_str() {
            "close-at-body" => return Ok(()),
            "half-head" => return out.write_all(&ok.as_bytes()[..20]),
            "garbage" => return out.write_all(b"\0\x01nonsense\r\n\r\n"),
            "status-500" => out.write_all(b"ICAP/1.0 500 Broken\r\nISTag: \"t\"\r\n\r\n")?,
            "status-404" => out.write_all(b"ICAP/1.0 404 None\r\nISTag: \"t\"\r\n\r\n")?,
            "cut-content" => return out.write_all(format!("{own}2710\r\nhalf").as_bytes()),
            "odd-chunk" => return out.write_all(format!("{own}zz\r\n").as_bytes()),
            "no-end" => return out.write_all(format!("{own}5\r\nshort\r\n").as_bytes()),
            _ => out.write_all(b"ICAP/1.0 204 No Content\r\nISTag: \"t\"\r\n\r\n")?,
        }
    }
}

fn skip_content(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        // Nothing more comes of a message whose sender has gone.
        let digits = line.trim().split(';').next().unwrap_or_default();
        let size = u64::from_str_radix(digits, 16).map_err(io::Error::other)?;
        io::copy(&mut reader.by_ref().take(size + 2), &mut io::sink())?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// What a client does to the `number`th transaction.
enum Way {
    /// It must get everything.
    Good,
    /// It must not get a complete answer with status 200.
    Broken(String),
    /// It goes away itself, after so many bytes of its request or of the answer.
    Gone { sent: usize, read: usize },
}

fn way(number: usize) -> Way {
    let breaks = BREAKS.iter().map(|path| (*path).to_owned());
    let failures = ["REQMOD", "RESPMOD"]
        .into_iter()
        .flat_map(|method| FAILURES.iter().map(move |failure| format!("/ok?{method}-{failure}")));
    let all: Vec<String> = breaks.chain(failures).collect();
    match number % (2 * all.len()) {
        turn if turn < all.len() => Way::Broken(all[turn].clone()),
        turn if turn % 4 == 0 => Way::Gone { sent: 10 + turn, read: 0 },
        turn if turn % 4 == 1 => Way::Gone { sent: usize::MAX, read: turn * 100 },
        _ => Way::Good,
    }
}

fn transact(proxy: SocketAddr, origin: SocketAddr, number: usize) {
    let way = way(number);
    let path = match &way {
        Way::Broken(path) => path,
        _ => "/ok",
    };
    let upload = if number.is_multiple_of(3) { content::noise(2, 5000) } else { Vec::new() };
    let head = format!(
        "{} http://{origin}{path} HTTP/1.1\r\nHost: {origin}\r\nConnection: close\r\n{}\r\n",
        if upload.is_empty() { "GET" } else { "POST" },
        if upload.is_empty() { "" } else { "Content-Length: 5000\r\n" },
    );
    let request = [head.as_bytes(), &upload].concat();
    let mut stream = TcpStream::connect(proxy).unwrap();
    stream.set_read_timeout(Some(process::DEADLINE)).unwrap();
    // It may answer before it has read everything.
    let (sent, most) = match way {
        Way::Gone { sent, read } => (sent.min(request.len()), read),
        _ => (request.len(), usize::MAX),
    };
    let _refused = stream.write_all(&request[..sent]);
    let mut answer = Vec::new();
    let _reset = stream.take(most as u64).read_to_end(&mut answer);
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |end| end + 4);
    let is_whole = answer.starts_with(b"HTTP/1.1 200") && answer[end..] == content::noise(1, SIZE);
    match way {
        Way::Good => assert!(is_whole, "{number}: {}", String::from_utf8_lossy(&answer[..end])),
        Way::Broken(path) => {
            let text = String::from_utf8_lossy(&answer[..end]).into_owned();
            // A chunked message without its end holds all content, but no end.
            let is_chunked = text.contains("chunked") && !answer.ends_with(b"\r\n0\r\n\r\n");
            let is_short = text.contains("Content-Length: ") && answer.len() < end + 10_000;
            assert!(
                answer.is_empty() || !text.starts_with("HTTP/1.1 200") || is_chunked || is_short,
                "{number}, {path} looks complete: {text}"
            );
        }
        Way::Gone { .. } => {}
    }
}

/// Open files of the gateway's process.
fn files(gateway: &Gateway) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gateway.process.pid())).unwrap().count()
}

fn metric(gateway: &Gateway, name: &str) -> f64 {
    let mut stream = TcpStream::connect(gateway.console()).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[test]
fn nothing_passes_or_stays_however_it_breaks_off() {
    let total = std::env::var("MEERGATE_E2E_TRANSACTIONS")
        .map_or(2400, |text| text.parse().expect("MEERGATE_E2E_TRANSACTIONS: a number"));
    let origin = Origin::http(origin);
    let service = service();
    // It is asked on, however often it fails: elsewhere the gateway would leave it alone for a while.
    let gateway = Gateway::with_settings(
        &format!(
            "[[listen]]\naddress = \"127.0.0.1:0\"\n\
             [[icap.service]]\nname = \"test\"\nurl = \"icap://{service}/test\"\n\
             health.failures = 4000000000\n\
             [[icap.chain]]\nname = \"default\"\nservices = [\"test\"]\n"
        ),
        [""; 0],
    );
    // Once around, so that all that is made once is there.
    (0..60).for_each(|number| transact(gateway.proxy(), origin.addr(), number));
    gateway_is_idle(&gateway);
    let before = files(&gateway);

    let next = AtomicUsize::new(0);
    let (proxy, server) = (gateway.proxy(), origin.addr());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return;
                    }
                    transact(proxy, server, number);
                }
            });
        }
    });
    gateway_is_idle(&gateway);
    // Kept connections to the service: as many as were in use at once.
    let mut after = 0;
    wait_until("no more files open than before", || {
        after = files(&gateway);
        after <= before + 8
    });
    println!("{total} transactions: {before} files open before, {after} after");
    // What a service refused never came to the origin: its requests are those of the other ways.
    let seen = origin.requests();
    assert!(!seen.iter().any(|request| request.target.contains("?REQMOD-")));
    assert!(seen.len() > total / 4);
}

/// Waits until no client connection is open.
fn gateway_is_idle(gateway: &Gateway) {
    wait_until("no open connections", || metric(gateway, "meergate_connections") == 0.0);
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + process::DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn dripping_clients_are_ended_and_hinder_no_one() {
    let origin = Origin::http(origin);
    let server = origin.addr();
    let gateway = Gateway::with_settings(
        "[[listen]]\naddress = \"127.0.0.1:0\"\n\
         [limits]\nbegin_timeout = \"1s\"\nidle_timeout = \"1s\"\n",
        ["--icap", &format!("icap://{}/test", service())],
    );
    let tunnel = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n");
    let starts: [Vec<u8>; 7] = [
        Vec::new(),
        b"G".to_vec(),
        format!("GET http://{server}/ok HTTP/1.1\r\nHost: {server}\r\nX-").into_bytes(),
        format!("POST http://{server}/ok HTTP/1.1\r\nHost: {server}\r\nContent-Length: 9\r\n\r\nhalf")
            .into_bytes(),
        format!(
            "POST http://{server}/ok HTTP/1.1\r\nHost: {server}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nha"
        )
        .into_bytes(),
        tunnel.clone().into_bytes(),
        // The beginning of a ClientHello.
        [tunnel.as_bytes(), &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]].concat(),
    ];
    let mut drips: Vec<TcpStream> = Vec::new();
    for _ in 0..30 {
        for start in &starts {
            let mut stream = TcpStream::connect(gateway.proxy()).unwrap();
            stream.set_read_timeout(Some(process::DEADLINE)).unwrap();
            stream.write_all(start).unwrap();
            drips.push(stream);
        }
    }
    // Meanwhile everybody else is served.
    for number in 0..20 {
        let mut stream = TcpStream::connect(gateway.proxy()).unwrap();
        stream.set_read_timeout(Some(process::DEADLINE)).unwrap();
        let request = format!(
            "GET http://{server}/ok HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.ends_with(&content::noise(1, SIZE)), "{number}");
    }
    // Each of them is ended by the gateway.
    for mut stream in drips {
        let _reset = io::copy(&mut stream, &mut io::sink());
    }
    gateway_is_idle(&gateway);
}
