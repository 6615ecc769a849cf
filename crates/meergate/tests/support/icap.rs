//! An ICAP service that a test scripts: one thread a connection, nothing clever.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::PATIENCE;

/// What the service was asked.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// `REQMOD` or `RESPMOD`.
    pub method: String,
    /// The ICAP head.
    pub icap: String,
    /// The encapsulated heads, as they came.
    pub heads: String,
    /// The content.
    pub body: Vec<u8>,
}

/// What it answers.
pub enum Verdict {
    /// A response of its own, called no block: its head and its content.
    Answer(String, Vec<u8>),
    /// A block page.
    Block,
    /// The request with another head, and its own content.
    Change(String),
    /// The connection ends without an answer.
    Close,
    /// The message with another content.
    Content(Vec<u8>),
    /// A block page, with the status 201 (Created).
    Created,
    /// It answers with so much of the content and then ends the connection.
    CutAfter(usize),
    /// The message as it is, in a 200.
    Echo,
    /// 204, or the message as it is where the client takes no 204.
    Pass,
    /// It answers with so much of the content and says nothing more.
    StopAfter(usize),
}

/// A running service.
pub struct Icap {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Message>>>,
}

impl Icap {
    /// Asks `script` about each message.
    pub fn start(script: impl Fn(&Message) -> Verdict + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, shared) = (Arc::new(script), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, asked) = (script.clone(), shared.clone());
                thread::spawn(move || serve(stream.unwrap(), &*script, &asked));
            }
        });
        Self { address, asked }
    }

    /// Settings that send everything through it.
    pub fn settings(&self) -> String {
        format!("[icap]\nurls = [\"icap://{}/test\"]\n", self.address)
    }

    /// All it was asked so far.
    pub fn asked(&self) -> Vec<Message> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(stream: TcpStream, script: &dyn Fn(&Message) -> Verdict, asked: &Mutex<Vec<Message>>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(icap) = head(&mut reader) {
        if icap.starts_with("OPTIONS") {
            let options = "ICAP/1.0 200 OK\r\nMethods: REQMOD, RESPMOD\r\nISTag: \"t\"\r\n\
                           Allow: 204\r\nEncapsulated: null-body=0\r\n\r\n";
            if writer.write_all(options.as_bytes()).is_err() {
                return;
            }
            continue;
        }
        let Some(message) = message(icap, &mut reader) else { return };
        let verdict = script(&message);
        asked.lock().unwrap().push(message.clone());
        if answer(&mut writer, &message, &verdict).is_none() {
            return;
        }
    }
}

fn head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn message(icap: String, reader: &mut impl BufRead) -> Option<Message> {
    let method = icap.split(' ').next()?.to_owned();
    let lower = icap.to_ascii_lowercase();
    let encapsulated =
        lower.lines().find_map(|l| l.strip_prefix("encapsulated:"))?.trim().to_owned();
    let (last, length) = encapsulated.rsplit(", ").next()?.split_once('=')?;
    let mut heads = vec![0; length.parse().ok()?];
    reader.read_exact(&mut heads).ok()?;
    let heads = String::from_utf8_lossy(&heads).into_owned();
    let mut body = Vec::new();
    if last == "null-body" {
        return Some(Message { method, icap, heads, body });
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let size = usize::from_str_radix(line.trim().split(';').next()?, 16).ok()?;
        if size == 0 {
            // Trailers, of which there are none here, and the empty line.
            reader.read_line(&mut line).ok()?;
            break;
        }
        let at = body.len();
        body.resize(at + size, 0);
        reader.read_exact(&mut body[at..]).ok()?;
        reader.read_line(&mut line).ok()?;
    }
    Some(Message { method, icap, heads, body })
}

fn answer(writer: &mut TcpStream, message: &Message, verdict: &Verdict) -> Option<()> {
    let allowed = message.icap.lines().any(|l| l.starts_with("Allow:") && l.contains("204"));
    match verdict {
        Verdict::Pass if !allowed => answer(writer, message, &Verdict::Echo),
        Verdict::Answer(head, body) => whole(writer, "res", head, body),
        Verdict::Change(head) => whole(writer, "req", head, &message.body),
        Verdict::Close => None,
        Verdict::Pass => writer.write_all(b"ICAP/1.0 204 No Content\r\nISTag: \"t\"\r\n\r\n").ok(),
        Verdict::Block | Verdict::Created => {
            let status = match verdict {
                Verdict::Created => "201 Created",
                _ => "200 OK",
            };
            let page =
                "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 7\r\n\r\n";
            let text = format!(
                "ICAP/1.0 {status}\r\nISTag: \"t\"\r\nX-Response-Info: blocked\r\n\
                 X-Signature-Id: 4711\r\nEncapsulated: res-hdr=0, res-body={}\r\n\r\n{page}\
                 7\r\nblocked\r\n0\r\n\r\n",
                page.len()
            );
            writer.write_all(text.as_bytes()).ok()
        }
        Verdict::Echo => answer(writer, message, &Verdict::Content(message.body.clone())),
        Verdict::Content(body) => {
            start(writer, message)?;
            write!(writer, "{:x}\r\n", body.len()).ok()?;
            writer.write_all(body).ok()?;
            writer.write_all(b"\r\n0\r\n\r\n").ok()
        }
        Verdict::CutAfter(length) => {
            begin(writer, message, *length)?;
            None
        }
        Verdict::StopAfter(length) => {
            begin(writer, message, *length)?;
            // Until whoever asks has gone.
            let _ = writer.read(&mut [0]);
            None
        }
    }
}

/// A 200 with this head and content, which is left out if it is empty.
fn whole(writer: &mut TcpStream, section: &str, head: &str, body: &[u8]) -> Option<()> {
    let part = if body.is_empty() { "null-body".to_owned() } else { format!("{section}-body") };
    write!(
        writer,
        "ICAP/1.0 200 OK\r\nISTag: \"t\"\r\nEncapsulated: {section}-hdr=0, {part}={}\r\n\r\n{head}",
        head.len()
    )
    .ok()?;
    if body.is_empty() {
        return Some(());
    }
    write!(writer, "{:x}\r\n", body.len()).ok()?;
    writer.write_all(body).ok()?;
    writer.write_all(b"\r\n0\r\n\r\n").ok()
}

/// A 200 with a first chunk of that length.
fn begin(writer: &mut TcpStream, message: &Message, length: usize) -> Option<()> {
    start(writer, message)?;
    write!(writer, "{length:x}\r\n").ok()?;
    writer.write_all(&message.body[..length]).ok()?;
    writer.write_all(b"\r\n").ok()
}

/// The head of a 200 with the message's own last head. Only for messages with content.
fn start(writer: &mut TcpStream, message: &Message) -> Option<()> {
    let (section, http) = match message.heads.find("\r\n\r\nHTTP/") {
        Some(end) if message.method == "RESPMOD" => ("res", &message.heads[end + 4..]),
        _ => ("req", &message.heads[..]),
    };
    write!(
        writer,
        "ICAP/1.0 200 OK\r\nISTag: \"t\"\r\nEncapsulated: {section}-hdr=0, {section}-body={}\r\n\r\n{http}",
        http.len()
    )
    .ok()
}
