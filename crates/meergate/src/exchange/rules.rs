//! What is changed in heads so that nothing slips past the services, and what is refused.

use http_wire::{HOP_BY_HOP, RequestHead, ResponseHead, Version, tokens};
use icap_client::Chain;

use super::codings::{Content, DICTIONARY_REQUEST, DICTIONARY_RESPONSE, Decoders};
use super::ranges::{self, Asked, Part};
use super::signed;
use super::trouble::Trouble;
use crate::config::{Http, Ranges, Uninspectable};
use crate::pages::Page;
use crate::policy::Policy;
use crate::words::Unseen;

/// The settings that govern one connection's messages.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    http: &'a Http,
    /// The services that it could slip past.
    chain: Option<&'a Chain>,
    /// What becomes of parts of resources.
    ranges: Ranges,
    /// Protocols that a client may upgrade to.
    upgrades: &'a [String],
    /// All rules, if the response may be inspected by others.
    policy: Option<&'a Policy>,
}

/// Another name of `Range`, of before HTTP/1.1, that Apache still knows.
const OLD_RANGE: &str = "Request-Range";

/// Why a content's bytes count as uninspected although they went through the services.
pub(crate) type Opaque = Option<Unseen>;

/// A request as it is to go on.
pub(crate) struct Ready {
    /// Its head. Untouched, byte for byte, if nothing is to be changed.
    pub(crate) head: RequestHead,
    pub(crate) opaque: Opaque,
    /// What the client wants of the wider part that the head asks for.
    pub(crate) part: Option<Part>,
}

impl<'a> Rules<'a> {
    pub(crate) fn new(http: &'a Http, chain: Option<&'a Chain>, ranges: Ranges) -> Self {
        Self { http, chain, ranges, upgrades: &http.upgrades, policy: None }
    }

    /// The same where a client may upgrade to these protocols.
    pub(crate) fn upgrading(self, upgrades: &'a [String]) -> Self {
        Self { upgrades, ..self }
    }

    /// The same for a request whose response may be inspected by whomever the rules choose then.
    pub(crate) fn expecting(self, policy: &'a Policy) -> Self {
        Self { policy: policy.looks_at_responses().then_some(policy), ..self }
    }

    /// The request as it is to go on.
    pub(crate) fn request(&self, head: RequestHead) -> Result<Ready, Trouble> {
        let may_upgrade = self.may_upgrade(&head);
        let asked = match self.ranges {
            Ranges::Block | Ranges::Pass => Asked::AsItIs,
            Ranges::Overlap => ranges::ask(&head, self.http.range_overlap.0),
            Ranges::Whole => ranges::leave_out(&head),
        };
        self.clean(head, asked, may_upgrade)
    }

    /// As `request`, for a head that a service changed. `shown` is the head that the service got.
    /// An `Upgrade` stays only if the client asked for one (it must understand the answer). A
    /// `Range` stays only if it is unchanged.
    pub(crate) fn changed_request(
        &self,
        head: RequestHead,
        shown: &RequestHead,
    ) -> Result<(RequestHead, Opaque), Trouble> {
        let may_upgrade = self.may_upgrade(&head) && self.may_upgrade(shown);
        let asked = match self.ranges {
            Ranges::Block | Ranges::Pass => Asked::AsItIs,
            Ranges::Overlap if ranges::is_same(&head, shown) => Asked::AsItIs,
            Ranges::Overlap | Ranges::Whole => ranges::leave_out(&head),
        };
        self.clean(head, asked, may_upgrade).map(|ready| (ready.head, ready.opaque))
    }

    fn clean(
        &self,
        head: RequestHead,
        mut asked: Asked,
        may_upgrade: bool,
    ) -> Result<Ready, Trouble> {
        let opaque = self.request_coding(&head)?;
        let upgrade = wants_upgrade(&head) && !may_upgrade;
        let (mut codings, mut dropped) = (None, Vec::new());
        if let Some(decoders) = self.response_decoders() {
            codings = match asked {
                Asked::Wider(_) => Decoders::Known(&[]).acceptable(&head),
                _ => decoders.acceptable(&head),
            };
            dropped = DICTIONARY_REQUEST.to_vec();
            if matches!(self.ranges, Ranges::Overlap | Ranges::Whole) {
                dropped.push(OLD_RANGE);
            }
            dropped.retain(|n| head.field(n).is_some() && !signed::covers(&head, n));
        } else {
            asked = Asked::AsItIs;
        }
        let hidden = self.hidden(head.hop_by_hop(), |name| head.field(name).is_some());
        let mut edit = head.edit();
        let mut part = None;
        match asked {
            Asked::AsItIs
                if codings.is_none() && dropped.is_empty() && hidden.is_empty() && !upgrade =>
            {
                return Ok(Ready { head, opaque, part });
            }
            Asked::AsItIs => {}
            Asked::LeftOut => drop(edit.remove("Range").remove("If-Range")),
            Asked::Wider(wider) => {
                edit.set("Range", wider.value());
                part = Some(wider);
            }
        }
        if let Some(codings) = codings {
            edit.set("Accept-Encoding", codings);
        }
        for name in dropped {
            edit.remove(name);
        }
        for name in hidden {
            edit.remove(name);
        }
        if upgrade {
            edit.remove("Upgrade").remove("HTTP2-Settings");
            let left = connection_without_upgrade(&head);
            match left.is_empty() {
                true => edit.remove("Connection"),
                false => edit.set("Connection", left),
            };
        }
        Ok(Ready { head: edit.build().map_err(Trouble::RequestFault)?, opaque, part })
    }

    /// Who decodes the response, if anybody is to look into it.
    fn response_decoders(&self) -> Option<Decoders<'a>> {
        match (&self.http.decodable, self.policy, self.chain) {
            (_, None, None) => None,
            (Some(list), _, _) => Some(Decoders::Known(list)),
            (None, Some(policy), _) => Some(Decoders::Any(policy)),
            (None, None, Some(chain)) => Some(Decoders::OfResponse(chain)),
        }
    }

    /// Whether the request asks for another protocol that is allowed.
    pub(crate) fn may_upgrade(&self, head: &RequestHead) -> bool {
        let allowed =
            |token: &[u8]| self.upgrades.iter().any(|u| u.as_bytes().eq_ignore_ascii_case(token));
        let mut asked = head.all("Upgrade").flat_map(|f| tokens(f.value)).peekable();
        head.version() == Version::Http11
            && matches!(head.method(), b"GET" | b"POST")
            && head.connection_upgrade()
            && asked.peek().is_some()
            && asked.all(allowed)
    }

    /// The response head as it is to go on, and whether its content can't be looked into. A part that
    /// `is_wider` than what the client gets of it can.
    pub(crate) fn response(
        &self,
        head: ResponseHead,
        has_content: bool,
        is_wider: bool,
    ) -> Result<(ResponseHead, Opaque), Trouble> {
        let mut opaque = None;
        if let Some(chain) = self.chain.filter(|_| has_content) {
            let decoders = match &self.http.decodable {
                Some(list) => Decoders::Known(list),
                None => Decoders::OfResponse(chain),
            };
            let values = head.all("Content-Encoding").map(|f| f.value);
            opaque = self.opaque(decoders.judge(values), "http_response_content_coding")?;
            if ranges::is_part(&head) {
                if self.ranges == Ranges::Block {
                    return Err(refuse_range());
                }
                if !is_wider {
                    opaque = opaque.or(Some(Unseen::Range));
                }
            }
        }
        let dictionary = self.chain.is_some() && head.field(DICTIONARY_RESPONSE).is_some();
        let alt_svc = !self.http.alt_svc && head.field("Alt-Svc").is_some();
        let hidden = self.hidden(head.hop_by_hop(), |name| head.field(name).is_some());
        if !dictionary && !alt_svc && hidden.is_empty() {
            return Ok((head, opaque));
        }
        let mut edit = head.edit();
        for name in hidden {
            edit.remove(name);
        }
        if dictionary {
            edit.remove(DICTIONARY_RESPONSE);
        }
        if alt_svc {
            edit.remove("Alt-Svc");
        }
        Ok((edit.build().map_err(Trouble::OriginFault)?, opaque))
    }

    /// The fields of a head that its `Connection` lists and that services would not be shown for that, but whose receivers
    /// read them all the same: they go no further (RFC 9110 section 7.6.1). What else concerns one connection
    /// is told apart by its name.
    fn hidden<'h>(
        &self,
        hop_by_hop: impl Iterator<Item = &'h [u8]>,
        is_there: impl Fn(&[u8]) -> bool,
    ) -> Vec<&'h [u8]> {
        if self.chain.is_none() {
            return Vec::new();
        }
        let is_known = |name: &[u8]| {
            HOP_BY_HOP.iter().chain(&[&b"HTTP2-Settings"[..]]).any(|k| k.eq_ignore_ascii_case(name))
        };
        hop_by_hop.filter(|name| !is_known(name) && is_there(name)).collect()
    }

    fn request_coding(&self, head: &RequestHead) -> Result<Opaque, Trouble> {
        let Some(chain) = self.chain else { return Ok(None) };
        let decoders = match &self.http.decodable {
            Some(list) => Decoders::Known(list),
            None => Decoders::OfRequest(chain),
        };
        let content = decoders.judge(head.all("Content-Encoding").map(|f| f.value));
        self.opaque(content, "http_request_denied")
    }

    /// Why nobody looks into `content`; `error` is the type of `Proxy-Status` (RFC 9209) for a page
    /// in its place.
    fn opaque(&self, content: Content, error: &'static str) -> Result<Opaque, Trouble> {
        match content {
            Content::Open => Ok(None),
            Content::Closed(coding) if self.http.other_codings == Uninspectable::Block => {
                Err(refuse_coding(&coding, error))
            }
            Content::Closed(_) | Content::Framed => Ok(Some(Unseen::Coding)),
        }
    }
}

fn wants_upgrade(head: &RequestHead) -> bool {
    head.connection_upgrade() || head.field("Upgrade").is_some()
}

fn connection_without_upgrade(head: &RequestHead) -> Vec<u8> {
    let gone = |t: &&[u8]| {
        !t.eq_ignore_ascii_case(b"upgrade") && !t.eq_ignore_ascii_case(b"http2-settings")
    };
    let left: Vec<&[u8]> =
        head.all("Connection").flat_map(|f| tokens(f.value)).filter(gone).collect();
    left.join(&b", "[..])
}

fn refuse_coding(coding: &str, error: &'static str) -> Trouble {
    let page = Page::new(403, "The content can't be inspected")
        .detail(format!("It is encoded as {coding:?}, which no inspection service can decode."))
        .status(error);
    Trouble::Refused(Box::new(page))
}

fn refuse_range() -> Trouble {
    let page = Page::new(403, "Parts of a resource can't be inspected")
        .detail("The server sent a part only (206), and the rules here ask for the whole.".into());
    Trouble::Refused(Box::new(page))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_wire::Limits;

    fn request(fields: &str) -> RequestHead {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        RequestHead::from_bytes(Bytes::from(text), &Limits::default()).unwrap()
    }

    fn response(status: u16, fields: &str) -> ResponseHead {
        let text = format!("HTTP/1.1 {status} X\r\n{fields}\r\n");
        ResponseHead::from_bytes(Bytes::from(text), &Limits::default()).unwrap()
    }

    fn ready(http: &Http, ranges: Ranges, fields: &str) -> Ready {
        Rules::new(http, Some(&Chain::empty()), ranges).request(request(fields)).unwrap()
    }

    fn sent(http: &Http, ranges: Ranges, fields: &str) -> String {
        let text = String::from_utf8(ready(http, ranges, fields).head.bytes().to_vec()).unwrap();
        text["GET / HTTP/1.1\r\nHost: a\r\n".len()..text.len() - 2].to_owned()
    }

    fn decoding(codings: &[&str]) -> Http {
        let list = codings.iter().map(|&name| name.to_owned()).collect();
        Http { decodable: Some(list), ..Http::default() }
    }

    #[test]
    fn only_what_can_be_decoded_is_asked_for() {
        let http = decoding(&["gzip", "br"]);
        let table = [
            ("Accept-Encoding: gzip,br\r\n", "Accept-Encoding: gzip,br\r\n"),
            ("accept-encoding: gzip, br, dcb\r\n", "Accept-Encoding: gzip, br\r\n"),
            ("Available-Dictionary: :a:\r\nA: b\r\nDictionary-ID: \"c\"\r\n", "A: b\r\n"),
            ("A:  b\r\n", "A:  b\r\n"),
        ];
        for (given, expected) in table {
            assert_eq!(sent(&http, Ranges::Overlap, given), expected);
        }
        let rules = Rules::new(&http, None, Ranges::Overlap);
        let head = rules.request(request("Accept-Encoding: dcb\r\n")).unwrap().head;
        assert_eq!(head.field("accept-encoding").unwrap().value, b"dcb");
        let empty = Chain::empty();
        let rules = Rules::new(&http, Some(&empty), Ranges::Overlap);
        let dictionary = response(200, "A: 1\r\nUse-As-Dictionary: match=\"/*\"\r\n");
        let (head, _) = rules.response(dictionary, true, false).unwrap();
        assert_eq!(&head.bytes()[..], b"HTTP/1.1 200 X\r\nA: 1\r\n\r\n");
    }

    #[test]
    fn ranges_are_asked_for_as_the_settings_say() {
        let http = Http::default();
        let given = "Range: bytes=100000-\r\nIf-Range: x\r\nAccept-Encoding: gzip\r\n";
        assert_eq!(sent(&http, Ranges::Whole, given), "Accept-Encoding: gzip\r\n");
        assert_eq!(sent(&http, Ranges::Pass, given), given);
        assert_eq!(sent(&http, Ranges::Block, given), given);
        let wider = "Range: bytes=34464-\r\nIf-Range: x\r\nAccept-Encoding: identity\r\n";
        assert_eq!(sent(&http, Ranges::Overlap, given), wider);
        assert!(ready(&http, Ranges::Overlap, given).part.is_some());
        assert!(ready(&http, Ranges::Pass, given).part.is_none());

        let signed = format!("{given}Signature-Input: a=(\"range\")\r\n");
        assert_eq!(sent(&http, Ranges::Overlap, &signed), signed);
        for other in [
            "Range: bytes=3-1\r\n",
            "Range: bytes=0-1\r\nRange: bytes=0-1\r\n",
            "Request-Range: bytes=0-1\r\n",
        ] {
            assert_eq!(sent(&http, Ranges::Overlap, other), "");
        }

        let empty = Chain::empty();
        let opaque = |ranges, wider| {
            let rules = Rules::new(&http, Some(&empty), ranges);
            rules.response(response(206, ""), true, wider).map(|(_, opaque)| opaque)
        };
        assert_eq!(opaque(Ranges::Pass, false).unwrap(), Some(Unseen::Range));
        assert_eq!(opaque(Ranges::Overlap, false).unwrap(), Some(Unseen::Range));
        assert_eq!(opaque(Ranges::Overlap, true).unwrap(), None);
        assert!(opaque(Ranges::Block, false).is_err());
        for (status, range, counted) in [
            (200, "bytes 0-9/20", true),
            (200, "bytes 0-19/20", false),
            (200, "bytes */20", false),
            (200, "bytes=0-9/20", true),
            (200, "rows 0-9/20", true),
            (206, "bytes 0-19/20", true),
        ] {
            let head = response(status, &format!("Content-Range: {range}\r\n"));
            let rules = Rules::new(&http, Some(&empty), Ranges::Overlap);
            let (_, opaque) = rules.response(head, true, false).unwrap();
            assert_eq!(opaque.is_some(), counted, "{status} {range}");
        }
    }

    #[test]
    fn what_connection_lists_is_hidden_from_nobody() {
        let http = Http::default();
        let given = "Connection: close, TE, X-A, content-encoding\r\nTE: trailers\r\nx-a: 1\r\n\
                     Content-Encoding: identity\r\nX-B: 2\r\n";
        let left = "Connection: close, TE, X-A, content-encoding\r\nTE: trailers\r\nX-B: 2\r\n";
        assert_eq!(sent(&http, Ranges::Overlap, given), left);
        let empty = Chain::empty();
        let head = |chain| {
            let rules = Rules::new(&http, chain, Ranges::Overlap);
            let (head, _) = rules.response(response(200, given), true, false).unwrap();
            String::from_utf8(head.bytes().to_vec()).unwrap()
        };
        assert_eq!(head(Some(&empty)), format!("HTTP/1.1 200 X\r\n{left}\r\n"));
        assert_eq!(head(None), format!("HTTP/1.1 200 X\r\n{given}\r\n"));
    }

    #[test]
    fn only_known_upgrades_are_asked_for() {
        let http = Http::default();
        let web_socket = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
        assert_eq!(sent(&http, Ranges::Overlap, web_socket), web_socket);
        let h2c =
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAAB\r\n";
        assert_eq!(sent(&http, Ranges::Overlap, h2c), "");
        let both = "Connection: Upgrade, TE\r\nUpgrade: websocket, h2c\r\nTE: trailers\r\n";
        assert_eq!(sent(&http, Ranges::Overlap, both), "Connection: TE\r\nTE: trailers\r\n");
        assert_eq!(sent(&http, Ranges::Overlap, "Upgrade: websocket\r\n"), "");
        let rules = Rules::new(&http, None, Ranges::Overlap);
        for (method, may) in [("GET", true), ("POST", true), ("PUT", false), ("HEAD", false)] {
            let text = format!("{method} / HTTP/1.1\r\nHost: a\r\n{web_socket}\r\n");
            let head = RequestHead::from_bytes(Bytes::from(text), &Limits::default()).unwrap();
            assert_eq!(rules.may_upgrade(&head), may, "{method}");
        }
    }

    #[test]
    fn contents_in_other_codings_are_refused_or_counted() {
        let block = decoding(&["gzip"]);
        let pass = Http { other_codings: Uninspectable::Pass, ..block.clone() };
        let empty = Chain::empty();
        let judge = |http, chain, value: &str, content| {
            let head = response(200, &format!("Content-Encoding: {value}\r\n"));
            let rules = Rules::new(http, chain, Ranges::Overlap);
            rules.response(head, content, false).map(|(_, opaque)| opaque)
        };
        for (value, blocked, counted) in [
            ("gzip", false, false),
            ("X-GZIP", false, false),
            ("br", true, true),
            ("gzip, br", true, true),
            ("gzip, gzip, gzip", true, true),
            ("utf-8", false, false),
            ("aws-chunked", false, true),
            ("gzip, foo", true, true),
        ] {
            let came = judge(&block, Some(&empty), value, true);
            assert_eq!(came.is_err(), blocked, "{value}");
            let came = judge(&pass, Some(&empty), value, true).unwrap();
            assert_eq!(came, counted.then_some(Unseen::Coding), "{value}");
            assert_eq!(judge(&block, None, value, true).unwrap(), None);
            assert_eq!(judge(&block, Some(&empty), value, false).unwrap(), None);
        }
    }

    #[test]
    fn other_protocols_are_not_advertised() {
        let head = || response(200, "A: 1\r\nAlt-Svc: h3=\":443\"\r\n");
        let (left, _) = Rules::new(&Http::default(), None, Ranges::Overlap)
            .response(head(), true, false)
            .unwrap();
        assert_eq!(&left.bytes()[..], b"HTTP/1.1 200 X\r\nA: 1\r\n\r\n");
        let http = Http { alt_svc: true, ..Http::default() };
        let (left, _) =
            Rules::new(&http, None, Ranges::Overlap).response(head(), true, false).unwrap();
        assert!(left.field("alt-svc").is_some());
    }
}
