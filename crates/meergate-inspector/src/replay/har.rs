//! HTTP archives: what a browser has recorded, written out as HTTP/1.1.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use serde::Deserialize;

use super::{Connection, Exchange, Message};

#[derive(Deserialize)]
struct Har {
    log: Log,
}

#[derive(Deserialize)]
struct Log {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    request: Request,
    response: Response,
    #[serde(rename = "serverIPAddress", default)]
    server_ip: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    method: String,
    url: String,
    headers: Vec<Header>,
    post_data: Option<Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    status: u16,
    status_text: String,
    headers: Vec<Header>,
    #[serde(default)]
    content: Text,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Default, Deserialize)]
struct Text {
    #[serde(default)]
    text: String,
    #[serde(default)]
    encoding: String,
}

/// Fields that a recorder's view of the message makes untrue: bodies are recorded decoded.
const UNTRUE: [&str; 3] = ["content-length", "content-encoding", "transfer-encoding"];

/// Each entry as a connection of its own: an archive does not say what shared one.
pub(super) fn read(file: &[u8]) -> Result<Vec<Connection>, serde_json::Error> {
    let har: Har = serde_json::from_slice(file)?;
    let entries = har.log.entries.into_iter().filter(|entry| entry.response.status >= 200);
    Ok(entries.enumerate().map(|(n, entry)| connection(n, entry)).collect())
}

fn connection(n: usize, entry: Entry) -> Connection {
    let (authority, path) = split(&entry.request.url);
    let unknown = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
    let ip = entry.server_ip.trim_matches(['[', ']']).parse().unwrap_or(unknown);
    let client: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1).into(),
    };
    let port = if entry.request.url.starts_with("https:") { 443 } else { 80 };
    let body = entry.request.post_data.map(Text::bytes).unwrap_or_default();
    let start = format!("{} {path} HTTP/1.1", entry.request.method);
    let request = message(&start, &entry.request.headers, authority, body);
    let start = format!("HTTP/1.1 {} {}", entry.response.status, entry.response.status_text);
    let body = entry.response.content.bytes();
    let response = message(&start, &entry.response.headers, "", body);
    Connection {
        client: SocketAddr::new(client, 49152 + (n % 16_384) as u16),
        server: SocketAddr::new(ip, port),
        exchanges: vec![Exchange { request, response: Some(response) }],
        skipped: None,
        handshake: false,
    }
}

fn split(url: &str) -> (&str, &str) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => rest.split_at(at),
        _ => (rest, "/"),
    }
}

impl Text {
    fn bytes(self) -> Bytes {
        match self.encoding.as_str() {
            "base64" => base64(&self.text).into(),
            _ => self.text.into_bytes().into(),
        }
    }
}

fn message(start: &str, headers: &[Header], authority: &str, body: Bytes) -> Message {
    let mut head = format!("{start}\r\n");
    let mut has_host = authority.is_empty();
    for Header { name, value } in headers {
        // HTTP/2's `:authority` and the like are not fields.
        if name.starts_with(':') || UNTRUE.iter().any(|u| name.eq_ignore_ascii_case(u)) {
            continue;
        }
        has_host |= name.eq_ignore_ascii_case("host");
        head += &format!("{name}: {value}\r\n");
    }
    if !has_host {
        head += &format!("Host: {authority}\r\n");
    }
    if !body.is_empty() || start.starts_with("HTTP/") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    let body = if body.is_empty() { Vec::new() } else { vec![body] };
    Message { head: head.into(), body, trailers: Bytes::new() }
}

/// RFC 4648 section 4; what is not of the alphabet is passed over.
fn base64(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}
