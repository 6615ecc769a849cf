//! An ICAP client that sends exactly what it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request under construction.
#[derive(Clone)]
pub(crate) struct Request {
    method: &'static str,
    service: String,
    fields: Vec<(String, String)>,
    req_hdr: Vec<u8>,
    res_hdr: Vec<u8>,
    /// Chunk by chunk; `None` is null-body.
    body: Option<Vec<Vec<u8>>>,
    trailers: String,
}

impl Request {
    /// A REQMOD of this HTTP head.
    pub(crate) fn reqmod(head: impl AsRef<[u8]>) -> Self {
        Self::new("REQMOD", head.as_ref(), b"")
    }

    /// A RESPMOD of these HTTP heads; an empty request head is left out.
    pub(crate) fn respmod(request: impl AsRef<[u8]>, response: impl AsRef<[u8]>) -> Self {
        Self::new("RESPMOD", request.as_ref(), response.as_ref())
    }

    /// A RESPMOD of `GET path` and a 200 with a Content-Length.
    pub(crate) fn get(path: &str, body: &[u8]) -> Self {
        Self::respmod(
            format!("GET {path} HTTP/1.1\r\nHost: www.test\r\n\r\n"),
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
                body.len()
            ),
        )
        .body(body)
    }

    fn new(method: &'static str, req_hdr: &[u8], res_hdr: &[u8]) -> Self {
        Self {
            method,
            service: "/suricata".to_owned(),
            fields: Vec::new(),
            req_hdr: req_hdr.to_vec(),
            res_hdr: res_hdr.to_vec(),
            body: None,
            trailers: String::new(),
        }
    }

    /// With an ICAP field.
    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With `Allow: 204`.
    pub(crate) fn allow_204(self) -> Self {
        self.field("Allow", "204")
    }

    /// As part of this connection.
    pub(crate) fn connection(self, id: &str) -> Self {
        self.field("X-Connection-Id", id)
    }

    /// To another service.
    pub(crate) fn service(mut self, path: &str) -> Self {
        self.service = path.to_owned();
        self
    }

    /// With a body in one chunk.
    pub(crate) fn body(self, body: &[u8]) -> Self {
        self.chunks([body])
    }

    /// With a body in these chunks.
    pub(crate) fn chunks<'a>(mut self, chunks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.body = Some(chunks.into_iter().map(<[u8]>::to_vec).collect());
        self
    }

    /// With trailers behind the body.
    pub(crate) fn trailers(mut self, fields: impl IntoIterator<Item = (String, String)>) -> Self {
        self.trailers =
            fields.into_iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        self
    }

    /// The ICAP head with the encapsulated heads.
    pub(crate) fn head(&self, base: &str) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut offset = 0;
        for (name, head) in [("req-hdr", &self.req_hdr), ("res-hdr", &self.res_hdr)] {
            if !head.is_empty() {
                parts.push(format!("{name}={offset}"));
                offset += head.len();
            }
        }
        let body = match (&self.body, self.method) {
            (None, _) => "null-body",
            (Some(_), "REQMOD") => "req-body",
            (Some(_), _) => "res-body",
        };
        parts.push(format!("{body}={offset}"));
        let mut out =
            format!("{} {base}{} ICAP/1.0\r\nHost: localhost\r\n", self.method, self.service);
        for (name, value) in &self.fields {
            out += &format!("{name}: {value}\r\n");
        }
        out += &format!("Encapsulated: {}\r\n\r\n", parts.join(", "));
        [out.as_bytes(), &self.req_hdr, &self.res_hdr].concat()
    }

    /// Everything.
    pub(crate) fn bytes(&self, base: &str) -> Vec<u8> {
        let mut out = self.head(base);
        if let Some(chunks) = &self.body {
            for chunk in chunks {
                out.extend(chunked(chunk));
            }
            out.extend(b"0\r\n");
            out.extend(self.trailers.bytes());
            out.extend(b"\r\n");
        }
        out
    }
}

/// One chunk with its framing; nothing for no bytes.
pub(crate) fn chunked(data: &[u8]) -> Vec<u8> {
    if data.is_empty() {
        return Vec::new();
    }
    [format!("{:x}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
}

/// What the server said.
#[derive(Debug)]
pub(crate) struct Reply {
    /// ICAP status.
    pub(crate) status: u16,
    /// ICAP head as text.
    pub(crate) head: String,
    /// Encapsulated HTTP head.
    pub(crate) http: String,
    /// Encapsulated body.
    pub(crate) body: Vec<u8>,
    /// The connection ended before the reply did.
    pub(crate) broken: bool,
}

impl Reply {
    /// The first ICAP field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// Panics unless this is a block page of this signature.
    pub(crate) fn assert_blocked(&self, sid: u32) {
        assert_eq!(self.status, 200, "{self:?}");
        assert!(!self.broken, "{self:?}");
        assert!(self.http.starts_with("HTTP/1.1 403 "), "{self:?}");
        assert_eq!(self.field("X-Signature-Id"), Some(sid.to_string().as_str()), "{self:?}");
        assert_eq!(self.field("X-Response-Info"), Some("blocked"));
        assert!(self.field("X-Violations-Found").is_some());
        let page = String::from_utf8_lossy(&self.body);
        assert!(page.contains(&format!(":{sid}:")), "{page}");
        assert!(self.http.contains(&format!("Content-Length: {}\r\n", self.body.len())));
    }

    /// Panics unless this is a complete 200 with this body.
    pub(crate) fn assert_passed(&self, body: &[u8]) {
        assert_eq!(self.status, 200, "{:?} {:?}", self.head, self.http);
        assert!(!self.broken, "the reply ends too early: {} bytes", self.body.len());
        assert!(self.body == body, "{} bytes instead of {}", self.body.len(), body.len());
        assert!(self.field("X-Response-Info").is_none(), "{}", self.head);
    }

    /// Panics unless this is a 204.
    pub(crate) fn assert_unmodified(&self) {
        assert_eq!(self.status, 204, "{self:?}");
    }
}

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    base: String,
    buffer: Vec<u8>,
}

impl Client {
    /// A new connection.
    pub(crate) fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, base: format!("icap://{to}"), buffer: Vec::new() }
    }

    /// The URL in front of the service's path.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// For writing while another thread reads.
    pub(crate) fn writer(&self) -> impl Write + use<> {
        self.stream.try_clone().unwrap()
    }

    /// Sends a whole request and reads the reply. Writes from another thread, so that neither side
    /// has to wait for the other.
    pub(crate) fn ask(&mut self, request: &Request) -> Reply {
        let bytes = request.bytes(&self.base);
        let mut writer = self.stream.try_clone().unwrap();
        // The server may have cut the connection before all is written.
        let writer = std::thread::spawn(move || drop(writer.write_all(&bytes)));
        let reply = self.reply();
        writer.join().unwrap();
        reply
    }

    /// Sends bytes in pieces of this size and reads the reply, whatever becomes of the connection.
    pub(crate) fn exchange(&mut self, bytes: Vec<u8>, piece: usize) -> Reply {
        let mut writer = self.stream.try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            for piece in bytes.chunks(piece) {
                if writer.write_all(piece).is_err() {
                    break;
                }
            }
        });
        let reply = self.reply();
        if reply.broken {
            // The rest of the request has nowhere to go.
            let _ = self.stream.shutdown(std::net::Shutdown::Both);
        }
        writer.join().unwrap();
        reply
    }

    /// Sends bytes and breaks the connection off.
    pub(crate) fn abort_after(&mut self, bytes: &[u8]) {
        self.stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Asks for OPTIONS of the service.
    pub(crate) fn options(&mut self) -> Reply {
        let request = format!("OPTIONS {}/suricata ICAP/1.0\r\nHost: localhost\r\n\r\n", self.base);
        self.send(request.as_bytes());
        self.reply()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads one reply.
    pub(crate) fn reply(&mut self) -> Reply {
        let mut reply = Reply {
            status: 0,
            head: String::new(),
            http: String::new(),
            body: Vec::new(),
            broken: true,
        };
        let Some(head) = self.until(b"\r\n\r\n") else { return reply };
        reply.head = String::from_utf8(head).unwrap();
        reply.status = reply.head.split(' ').nth(1).unwrap().parse().unwrap();
        let encapsulated = reply.field("Encapsulated").unwrap_or("null-body=0").to_owned();
        let (kind, offset) =
            encapsulated.rsplit(',').next().unwrap().trim().split_once('=').unwrap();
        let Some(http) = self.exactly(offset.parse().unwrap()) else { return reply };
        reply.http = String::from_utf8(http).unwrap();
        if kind == "null-body" {
            reply.broken = false;
            return reply;
        }
        loop {
            match self.chunk() {
                Some(chunk) if chunk.is_empty() => {
                    reply.broken = false;
                    return reply;
                }
                Some(chunk) => reply.body.extend(chunk),
                None => {
                    // What is left is part of a chunk, and as much with the client as the rest.
                    reply.body.append(&mut self.buffer);
                    return reply;
                }
            }
        }
    }

    /// Reads the head of a reply and then so much of its body.
    pub(crate) fn body_so_far(&mut self, len: usize) -> Vec<u8> {
        let head = String::from_utf8(self.until(b"\r\n\r\n").unwrap()).unwrap();
        assert!(head.starts_with("ICAP/1.0 200 "), "{head}");
        let offset = head.split("-body=").nth(1).unwrap().split("\r\n").next().unwrap();
        self.exactly(offset.parse().unwrap()).unwrap();
        self.more_body(len)
    }

    /// Reads so much of a body.
    pub(crate) fn more_body(&mut self, len: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < len {
            body.extend(self.chunk().unwrap());
        }
        body
    }

    /// Reads a body to its end.
    pub(crate) fn rest_of_body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().filter(|chunk| !chunk.is_empty()) {
            body.extend(chunk);
        }
        body
    }

    /// One chunk; the last one is empty.
    fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = String::from_utf8(self.until(b"\r\n")?).unwrap();
        let size = usize::from_str_radix(line.trim().split(';').next().unwrap(), 16).unwrap();
        let data = self.exactly(size)?;
        self.exactly(2)?;
        Some(data)
    }

    /// True if the server has closed the connection and nothing is left to read.
    pub(crate) fn is_closed(&mut self) -> bool {
        !self.fill() && self.buffer.is_empty()
    }

    fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let mut from = 0;
        loop {
            if let Some(at) = self.buffer[from..].windows(end.len()).position(|w| w == end) {
                return Some(self.buffer.drain(..from + at + end.len()).collect());
            }
            from = self.buffer.len().saturating_sub(end.len());
            if !self.fill() {
                return None;
            }
        }
    }

    fn exactly(&mut self, n: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < n {
            if !self.fill() {
                return None;
            }
        }
        Some(self.buffer.drain(..n).collect())
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(n) => {
                self.buffer.extend(&chunk[..n]);
                true
            }
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(e) => panic!("reading the reply: {e}"),
        }
    }
}
