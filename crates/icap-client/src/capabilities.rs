//! What a service said of itself in its OPTIONS response.

use std::time::Duration;

use icap::{Headers, Method};
use icap_stream::Offer;

/// How long an OPTIONS response holds that names no Options-TTL.
const DEFAULT_TTL: u64 = 3600;
/// Bounds in seconds on what a service may ask for: not at every transaction, not for ever.
const TTL_BOUNDS: (u64, u64) = (5, 24 * 3600);
/// The most extensions, X-Include names and so on that are looked at.
const MOST_ELEMENTS: usize = 1000;

/// A parsed OPTIONS response (RFC 3507 section 4.10.2, and the extensions in use).
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// Whether REQMOD is offered.
    pub reqmod: bool,
    /// Whether RESPMOD is offered.
    pub respmod: bool,
    /// The service's state; a change voids what was cached of its decisions.
    pub istag: Option<String>,
    /// The bytes it wants to see in a preview.
    pub preview: Option<u64>,
    /// `Allow: 204`.
    pub allow_204: bool,
    /// `Allow: 206`.
    pub allow_206: bool,
    /// `Allow: trailers`: it reads trailers after a body.
    pub allow_trailers: bool,
    /// Max-Connections.
    pub max_connections: Option<u32>,
    /// How long this holds.
    pub ttl: Duration,
    /// X-Include: request headers it wants, in lower case.
    pub include: Vec<String>,
    /// The service takes encapsulated heads exactly as they were on the wire (`X-Meergate:
    /// raw-heads`).
    pub raw_heads: bool,
    /// The service answers before it has read more than this many body bytes (`X-Meergate:
    /// hold=`).
    pub hold: Option<u64>,
    /// Content codings that the service undoes (`X-Meergate: decodes=gzip+br`), in lower case;
    /// `None` if it does not say.
    pub decodes: Option<Vec<String>>,
    /// The TCP streams that it takes (`X-Meergate: stream=1, …`); none if it does not say, or says what
    /// makes no sense.
    pub streams: Option<Offer>,
    /// `Service`: what it calls itself.
    pub service: Option<String>,
    transfers: Transfers,
}

/// What to do with a message, by the file extension of its URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Send all of it, without a preview.
    Complete,
    /// Don't send it.
    Ignore,
    /// Send a preview first.
    Preview,
}

#[derive(Clone, Debug, Default)]
struct Transfers {
    preview: Vec<Vec<u8>>,
    complete: Vec<Vec<u8>>,
    ignore: Vec<Vec<u8>>,
    rest: Option<Transfer>,
}

impl Capabilities {
    /// Reads the headers of an OPTIONS response. What makes no sense is left out, never guessed.
    pub fn from_headers(headers: &Headers) -> Self {
        let number = |name| headers.text(name).and_then(|v| v.trim().parse::<u64>().ok());
        let (least, most) = TTL_BOUNDS;
        let mut this = Self {
            reqmod: headers.list_contains("Methods", Method::Reqmod.as_str()),
            respmod: headers.list_contains("Methods", Method::Respmod.as_str()),
            istag: headers.text("ISTag").map(|v| v.trim_matches('"').to_owned()),
            preview: number("Preview"),
            allow_204: headers.list_contains("Allow", "204"),
            allow_206: headers.list_contains("Allow", "206"),
            allow_trailers: headers.list_contains("Allow", "trailers")
                || headers.list_contains("X-Meergate", "raw-heads"),
            max_connections: number("Max-Connections")
                .filter(|n| *n > 0)
                .map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            ttl: Duration::from_secs(
                number("Options-TTL").unwrap_or(DEFAULT_TTL).clamp(least, most),
            ),
            include: headers
                .list("X-Include")
                .take(MOST_ELEMENTS)
                .filter_map(|v| std::str::from_utf8(v).ok())
                .map(str::to_ascii_lowercase)
                .collect(),
            raw_heads: headers.list_contains("X-Meergate", "raw-heads"),
            hold: None,
            decodes: None,
            streams: None,
            service: headers.text("Service").map(str::to_owned),
            transfers: Transfers::from_headers(headers),
        };
        let ours = |key| {
            let mut list = headers.list("X-Meergate").filter_map(|v| std::str::from_utf8(v).ok());
            list.find_map(|element| element.strip_prefix(key))
        };
        this.hold = ours("hold=").and_then(|bytes| bytes.parse().ok());
        this.decodes = ours("decodes=")
            .map(|list| list.split('+').take(MOST_ELEMENTS).map(str::to_ascii_lowercase).collect());
        let said: Vec<&str> =
            headers.list("X-Meergate").filter_map(|v| std::str::from_utf8(v).ok()).collect();
        this.streams = Offer::parse(&said.join(",")).ok().flatten();
        this
    }

    /// Whether a method is offered.
    pub fn offers(&self, method: Method) -> bool {
        match method {
            Method::Options => true,
            Method::Reqmod => self.reqmod,
            Method::Respmod => self.respmod,
        }
    }

    /// Whether the service can be relied on to look into contents in this coding. One that does not
    /// say what it decodes is taken to know those that nearly all programs know.
    pub fn can_decode(&self, coding: &[u8]) -> bool {
        match &self.decodes {
            Some(codings) => codings.iter().any(|c| c.as_bytes().eq_ignore_ascii_case(coding)),
            None => Self::common(coding),
        }
    }

    /// Whether it is a coding that services are taken to decode while nothing is known of them.
    pub(crate) fn common(coding: &[u8]) -> bool {
        [&b"gzip"[..], b"deflate"].iter().any(|common| common.eq_ignore_ascii_case(coding))
    }

    /// What to do with a message whose URL has this path.
    ///
    /// Precedence is Transfer-Preview, -Complete, -Ignore, then whichever holds the `*`: where
    /// lists contradict each other, the message is inspected. Without any list all is sent
    /// complete (section 4.10.2). A preview is never sent that OPTIONS did not offer.
    pub fn transfer(&self, path: &[u8]) -> Transfer {
        match self.transfers.find(path) {
            Transfer::Preview if self.preview.is_none() => Transfer::Complete,
            transfer => transfer,
        }
    }
}

impl Transfers {
    fn from_headers(headers: &Headers) -> Self {
        let mut this = Self::default();
        for (name, kind) in [
            ("Transfer-Preview", Transfer::Preview),
            ("Transfer-Complete", Transfer::Complete),
            ("Transfer-Ignore", Transfer::Ignore),
        ] {
            for element in headers.list(name).take(MOST_ELEMENTS) {
                if element == b"*" {
                    this.rest.get_or_insert(kind);
                    continue;
                }
                let element = element.strip_prefix(b".").unwrap_or(element).to_ascii_lowercase();
                match kind {
                    Transfer::Preview => this.preview.push(element),
                    Transfer::Complete => this.complete.push(element),
                    Transfer::Ignore => this.ignore.push(element),
                }
            }
        }
        this
    }

    fn find(&self, path: &[u8]) -> Transfer {
        let rest = self.rest.unwrap_or(Transfer::Complete);
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let mut parts = name.rsplitn(2, |b| *b == b'.');
        let (Some(extension), Some(_)) = (parts.next(), parts.next()) else { return rest };
        let has = |list: &[Vec<u8>]| list.iter().any(|e| e.eq_ignore_ascii_case(extension));
        if has(&self.preview) {
            Transfer::Preview
        } else if has(&self.complete) {
            Transfer::Complete
        } else if has(&self.ignore) {
            Transfer::Ignore
        } else {
            rest
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use icap::Limits;

    fn parse(lines: &str) -> Capabilities {
        let lines = lines.replace('\n', "\r\n");
        Capabilities::from_headers(
            &Headers::parse_lines(lines.as_bytes(), &Limits::default()).unwrap(),
        )
    }

    #[test]
    fn c_icap_echo() {
        let c = parse(
            "Methods: RESPMOD, REQMOD\nISTag: \"CI0001-XX\"\nTransfer-Preview: *\nOptions-TTL: 60\nPreview: 1024\n\
             Allow: 204, 206\nX-Include: X-Authenticated-User, X-Client-IP\n",
        );
        assert!(c.reqmod && c.respmod && c.allow_204 && c.allow_206 && !c.allow_trailers);
        assert_eq!(c.preview, Some(1024));
        assert_eq!(c.transfer(b"/a.exe"), Transfer::Preview);
        assert_eq!(c.ttl, Duration::from_secs(60));
        assert_eq!(c.istag.as_deref(), Some("CI0001-XX"));
        assert_eq!(c.include, ["x-authenticated-user", "x-client-ip"]);
    }

    #[test]
    fn e2guardian() {
        let c = parse("Methods: REQMOD\nISTag:1795329836\nAllow: 204\n");
        assert!(c.reqmod && !c.respmod);
        assert_eq!(c.istag.as_deref(), Some("1795329836"));
        assert_eq!(c.transfer(b"/a.exe"), Transfer::Complete);
    }

    #[test]
    fn transfer_precedence() {
        let c = parse(
            "Preview: 10\nTransfer-Preview: exe, zip\nTransfer-Complete: zip, asp\nTransfer-Ignore: asp, jpg, *\n",
        );
        assert_eq!(c.transfer(b"/a/b.EXE"), Transfer::Preview);
        assert_eq!(c.transfer(b"/b.zip"), Transfer::Preview);
        assert_eq!(c.transfer(b"/b.asp"), Transfer::Complete);
        assert_eq!(c.transfer(b"/b.jpg"), Transfer::Ignore);
        assert_eq!(c.transfer(b"/b"), Transfer::Ignore);
        assert_eq!(c.transfer(b"/x.exe/b"), Transfer::Ignore);
        let c = parse("Transfer-Preview: exe\n");
        assert_eq!(c.transfer(b"/b.exe"), Transfer::Complete, "no preview was offered");
        let c = parse("Preview: 0\nTransfer-Preview: exe\n");
        assert_eq!(c.transfer(b"/b"), Transfer::Complete, "no * in any list");
    }

    #[test]
    fn ours() {
        let c = parse("Methods: REQMOD\nX-Meergate: raw-heads, hold=1048576\n");
        assert!(c.raw_heads);
        assert_eq!((c.hold, c.streams), (Some(1 << 20), None));
        let c = parse("X-Meergate: raw-heads, stream=1\nX-Meergate: window=100000, streams=7\n");
        let streams = c.streams.unwrap();
        assert_eq!((streams.version, streams.window.bytes()), (1, 100_000));
        assert_eq!(streams.streams, Some(7));
        assert_eq!(parse("X-Meergate: stream=1, stream=2\n").streams, None);
        assert_eq!(parse("X-Meergate: raw-heads, hold=all\n").hold, None);
        assert_eq!(c.decodes, None);
        assert!(c.can_decode(b"GZIP") && c.can_decode(b"deflate") && !c.can_decode(b"br"));
        let c = parse("Methods: REQMOD\nX-Meergate: raw-heads, decodes=gzip+br+Zstd\n");
        assert!(c.can_decode(b"br") && c.can_decode(b"zstd") && !c.can_decode(b"deflate"));
    }

    #[test]
    fn nonsense_is_left_out() {
        let c = parse("Preview: -1\nMax-Connections: 0\nOptions-TTL: never\n");
        assert_eq!((c.preview, c.max_connections, c.ttl), (None, None, Duration::from_secs(3600)));
    }
}
