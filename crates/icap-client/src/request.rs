//! ICAP request heads.

use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use icap::client::Terms;
use icap::{BodyKind, Encapsulated, Method};

use crate::capabilities::Capabilities;
use crate::head::Message;
use crate::uri::ServiceUri;
use crate::{Identity, TransactionInfo};

/// The head of an OPTIONS request.
pub(crate) fn options(uri: &ServiceUri) -> Bytes {
    let mut head = Writer::start(Method::Options, uri);
    head.out.put_slice(b"\r\n");
    head.out.freeze()
}

/// The head of a REQMOD or RESPMOD request and the HTTP heads it encapsulates.
pub(crate) fn adaptation(
    uri: &ServiceUri,
    message: &Message,
    terms: &Terms,
    capabilities: &Capabilities,
    identity: Identity,
    info: &TransactionInfo,
) -> [Bytes; 3] {
    let mut head = Writer::start(terms.method, uri);
    // A server was seen to answer `Allow: 206` alone with 500.
    let allow: &[u8] = match (terms.allow_204, terms.allow_206, terms.send_trailers) {
        (true, true, true) => b"204, 206, trailers",
        (true, true, false) => b"204, 206",
        (true, false, true) => b"204, trailers",
        (true, false, false) => b"204",
        (false, _, true) => b"trailers",
        (false, _, false) => b"",
    };
    if !allow.is_empty() {
        head.line("Allow", allow);
    }
    if let Some(preview) = terms.preview {
        head.number("Preview", preview);
    }
    head.identity(capabilities, identity, info);
    if capabilities.raw_heads
        && let Some(overlap) = info.range_overlap
    {
        head.number("X-Range-Overlap", overlap);
    }
    info.shared.for_each(|name, value| head.line(name, value));
    let (request, response, body) = match message {
        Message::Request(request) => (request.bytes().clone(), Bytes::new(), BodyKind::Req),
        Message::Response { request, response } => {
            (request.bytes().clone(), response.bytes().clone(), BodyKind::Res)
        }
    };
    Encapsulated {
        req_hdr: Some(request.len()),
        res_hdr: matches!(message, Message::Response { .. }).then_some(response.len()),
        body: if terms.has_body { body } else { BodyKind::Null },
    }
    .encode(&mut head.out);
    head.out.put_slice(b"\r\n");
    [head.out.freeze(), request, response]
}

/// The head of a request for a stream, and the CONNECT that it encapsulates.
pub(crate) fn stream(
    uri: &ServiceUri,
    authority: &str,
    capabilities: &Capabilities,
    identity: Identity,
    info: &TransactionInfo,
) -> [Bytes; 2] {
    let mut head = Writer::start(Method::Reqmod, uri);
    head.number("X-Meergate-Stream", icap_stream::VERSION);
    head.identity(capabilities, identity, info);
    // A name could pass for more than it is: then for none.
    let is_plain = authority.bytes().all(|b| b.is_ascii_graphic());
    let authority = if is_plain { authority } else { "unknown.invalid:0" };
    let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    Encapsulated { req_hdr: Some(connect.len()), res_hdr: None, body: BodyKind::Req }
        .encode(&mut head.out);
    head.out.put_slice(b"\r\n");
    [head.out.freeze(), connect.into()]
}

struct Writer {
    out: BytesMut,
}

impl Writer {
    fn start(method: Method, uri: &ServiceUri) -> Self {
        let mut this = Self { out: BytesMut::with_capacity(1024) };
        this.out.put_slice(method.as_str().as_bytes());
        this.out.put_u8(b' ');
        this.out.put_slice(uri.request_uri.as_bytes());
        this.out.put_slice(b" ICAP/1.0\r\n");
        this.line("Host", uri.host_header.as_bytes());
        this.line("User-Agent", concat!("meergate/", env!("CARGO_PKG_VERSION")).as_bytes());
        this
    }

    /// Writes a header. A value that could pass for more than one line is left out: user names
    /// and ids come from outside.
    fn line(&mut self, name: &str, value: &[u8]) {
        // All of them, although the first may decide: so the compiler takes many at once.
        let may_end_it = |b: u8| (b < 0x20) & (b != b'\t') | (b == 0x7f);
        if value.iter().fold(false, |so_far, &b| so_far | may_end_it(b)) {
            return;
        }
        self.out.put_slice(name.as_bytes());
        self.out.put_slice(b": ");
        self.out.put_slice(value);
        self.out.put_slice(b"\r\n");
    }

    fn number(&mut self, name: &str, value: impl itoa::Integer) {
        self.line(name, itoa::Buffer::new().format(value).as_bytes());
    }

    /// As its `Display`, which takes several times as long as all else that is written.
    fn address(&mut self, name: &str, value: IpAddr) {
        self.out.put_slice(name.as_bytes());
        self.out.put_slice(b": ");
        match value {
            IpAddr::V4(address) => {
                for (at, octet) in address.octets().into_iter().enumerate() {
                    self.out.put_slice(if at == 0 { b"" } else { b"." });
                    self.out.put_slice(itoa::Buffer::new().format(octet).as_bytes());
                }
            }
            // Writing to memory does not fail.
            IpAddr::V6(address) => drop(write!(self.out, "{address}")),
        }
        self.out.put_slice(b"\r\n");
    }

    /// Who and what the message belongs to.
    fn identity(
        &mut self,
        capabilities: &Capabilities,
        identity: Identity,
        info: &TransactionInfo,
    ) {
        let full = identity == Identity::Full;
        let asked = |name: &str| {
            identity != Identity::None && capabilities.include.iter().any(|i| i == name)
        };
        if let Some(client) = info.client.filter(|_| full || asked("x-client-ip")) {
            self.address("X-Client-IP", client.ip().to_canonical());
            if full || asked("x-client-port") {
                self.number("X-Client-Port", client.port());
            }
        }
        if let Some(server) = info.server.filter(|_| full || asked("x-server-ip")) {
            self.address("X-Server-IP", server.ip().to_canonical());
            if full || asked("x-server-port") {
                self.number("X-Server-Port", server.port());
            }
        }
        if let Some(user) = &info.username {
            if full || asked("x-client-username") {
                self.line("X-Client-Username", user.as_bytes());
            }
            if asked("x-authenticated-user") {
                let name = base64(format!("Local://{user}").as_bytes());
                self.line("X-Authenticated-User", name.as_bytes());
            }
        }
        if full {
            self.line("X-Proto", info.proto.as_bytes());
            self.line("X-Connection-Id", info.connection_id.as_bytes());
            if let Some(stream) = info.stream_id {
                self.number("X-Stream-Id", stream);
            }
            self.line("X-Transaction-Id", info.transaction_id.as_bytes());
        }
    }
}

/// RFC 4648 section 4, as draft-stecher-icap-subid-00 wants user names.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0u32, |b, byte| b << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn addresses_are_written_as_they_are_displayed() {
        for address in ["0.0.0.0", "192.0.2.10", "255.255.255.255", "::", "2001:db8::ff:1"] {
            let mut w = Writer { out: BytesMut::new() };
            w.address("X", address.parse().unwrap());
            assert_eq!(w.out, format!("X: {address}\r\n"));
        }
    }

    #[test]
    fn a_value_can_not_add_a_header() {
        let mut w = Writer { out: BytesMut::new() };
        w.line("X-Client-Username", b"eve\r\nAllow: 204");
        assert!(w.out.is_empty());
    }
}
