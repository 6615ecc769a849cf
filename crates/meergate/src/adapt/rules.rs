//! What is changed in heads so that nothing slips past the services, and what is refused.

use http_wire::{RequestHead, ResponseHead, Version, tokens};

use super::trouble::Trouble;
use crate::config::{Http, Ranges, Uninspectable};
use crate::pages::Page;

/// The settings that govern one connection's messages.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    http: &'a Http,
    /// Whether there is any service to slip past.
    inspected: bool,
    /// Whether the response may be inspected, which the request is made ready for.
    response_inspected: bool,
}

/// Why a content's bytes count as uninspected although they went through the services.
pub(crate) type Opaque = Option<&'static str>;

impl<'a> Rules<'a> {
    pub(crate) fn new(http: &'a Http, inspected: bool) -> Self {
        Self { http, inspected, response_inspected: inspected }
    }

    /// The same for a request whose response may be inspected although it is not itself.
    pub(crate) fn expecting(self, response_inspected: bool) -> Self {
        Self { response_inspected: self.response_inspected || response_inspected, ..self }
    }

    /// The request head as it is to go on. Untouched, byte for byte, if nothing is to be changed.
    pub(crate) fn request(&self, head: RequestHead) -> Result<(RequestHead, Opaque), Trouble> {
        let may_upgrade = self.may_upgrade(&head);
        self.clean(head, may_upgrade)
    }

    /// The same for a head that a service changed: it asks for another protocol only if the client
    /// did, who would not know what to make of the answer.
    pub(crate) fn changed_request(
        &self,
        head: RequestHead,
        named: &RequestHead,
    ) -> Result<(RequestHead, Opaque), Trouble> {
        let may_upgrade = self.may_upgrade(&head) && self.may_upgrade(named);
        self.clean(head, may_upgrade)
    }

    fn clean(
        &self,
        head: RequestHead,
        may_upgrade: bool,
    ) -> Result<(RequestHead, Opaque), Trouble> {
        let whole = self.response_inspected && self.http.ranges == Ranges::Whole;
        let range = whole && head.field("Range").is_some();
        let codings = if self.response_inspected { self.codings(&head) } else { None };
        let upgrade = wants_upgrade(&head) && !may_upgrade;
        let opaque = self.request_coding(&head)?;
        if !range && codings.is_none() && !upgrade {
            return Ok((head, opaque));
        }
        let mut edit = head.edit();
        if range {
            edit.remove("Range").remove("If-Range");
        }
        if let Some(codings) = codings {
            edit.set("Accept-Encoding", codings);
        }
        if upgrade {
            edit.remove("Upgrade").remove("HTTP2-Settings");
            let left = connection_without_upgrade(&head);
            match left.is_empty() {
                true => edit.remove("Connection"),
                false => edit.set("Connection", left),
            };
        }
        Ok((edit.build().map_err(Trouble::RequestFault)?, opaque))
    }

    /// Whether the request asks for another protocol that is allowed.
    pub(crate) fn may_upgrade(&self, head: &RequestHead) -> bool {
        let allowed = |token: &[u8]| {
            self.http.upgrades.iter().any(|u| u.as_bytes().eq_ignore_ascii_case(token))
        };
        let mut asked = head.all("Upgrade").flat_map(|f| tokens(f.value)).peekable();
        head.version() == Version::Http11
            && head.method() == b"GET"
            && head.connection_upgrade()
            && asked.peek().is_some()
            && asked.all(allowed)
    }

    /// The response head as it is to go on, and whether its content can't be looked into.
    pub(crate) fn response(
        &self,
        head: ResponseHead,
        has_content: bool,
    ) -> Result<(ResponseHead, Opaque), Trouble> {
        let mut opaque = None;
        if self.inspected && has_content {
            if let Some(coding) = self.other_coding(head.all("Content-Encoding").map(|f| f.value)) {
                if self.http.other_codings == Uninspectable::Block {
                    return Err(refuse_coding(&coding));
                }
                opaque = Some("coding");
            }
            if head.status() == 206 {
                if self.http.ranges == Ranges::Block {
                    return Err(refuse_range());
                }
                opaque = opaque.or(Some("range"));
            }
        }
        if self.http.alt_svc || head.field("Alt-Svc").is_none() {
            return Ok((head, opaque));
        }
        let mut edit = head.edit();
        edit.remove("Alt-Svc");
        Ok((edit.build().map_err(Trouble::OriginFault)?, opaque))
    }

    fn request_coding(&self, head: &RequestHead) -> Result<Opaque, Trouble> {
        if !self.inspected {
            return Ok(None);
        }
        match self.other_coding(head.all("Content-Encoding").map(|f| f.value)) {
            None => Ok(None),
            Some(_) if self.http.other_codings == Uninspectable::Pass => Ok(Some("coding")),
            Some(coding) => Err(refuse_coding(&coding)),
        }
    }

    /// A content coding that the services can't undo. They peel off at most two layers.
    fn other_coding<'h>(&self, values: impl Iterator<Item = &'h [u8]>) -> Option<String> {
        let mut layers = 0;
        for coding in values.flat_map(tokens) {
            layers += 1;
            if layers > 2 || !(coding.eq_ignore_ascii_case(b"identity") || self.decodes(coding)) {
                return Some(String::from_utf8_lossy(coding).into_owned());
            }
        }
        None
    }

    fn decodes(&self, coding: &[u8]) -> bool {
        let coding = match coding.len() > 2 && coding[..2].eq_ignore_ascii_case(b"x-") {
            true => &coding[2..],
            false => coding,
        };
        self.http.decodable.iter().any(|d| d.as_bytes().eq_ignore_ascii_case(coding))
    }

    /// `Accept-Encoding` without what can't be decoded; `None` if it can stay as it is.
    fn codings(&self, head: &RequestHead) -> Option<Vec<u8>> {
        let mut any = false;
        let mut left: Vec<u8> = Vec::new();
        let mut same = true;
        for member in head.all("Accept-Encoding").flat_map(|f| tokens(f.value)) {
            any = true;
            let coding = member.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
            if coding.eq_ignore_ascii_case(b"identity") || self.decodes(coding) {
                if !left.is_empty() {
                    left.extend_from_slice(b", ");
                }
                left.extend_from_slice(member);
            } else {
                same = false;
            }
        }
        // Without the field any coding would be acceptable (RFC 9110 section 12.5.3); clients that
        // send none are known to want none.
        if !any || same {
            return None;
        }
        if left.is_empty() {
            left.extend_from_slice(b"identity");
        }
        Some(left)
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

fn refuse_coding(coding: &str) -> Trouble {
    let page = Page::new(403, "The content can't be inspected")
        .detail(format!("It is encoded as {coding:?}, which no inspection service can decode."))
        .status("http_response_content_coding");
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

    fn sent(http: &Http, fields: &str) -> String {
        let (head, _) = Rules::new(http, true).request(request(fields)).unwrap();
        let text = String::from_utf8(head.bytes().to_vec()).unwrap();
        text["GET / HTTP/1.1\r\nHost: a\r\n".len()..text.len() - 2].to_owned()
    }

    #[test]
    fn only_decodable_codings_are_asked_for() {
        let http = Http::default();
        let table = [
            ("Accept-Encoding: gzip,deflate\r\n", "Accept-Encoding: gzip,deflate\r\n"),
            ("accept-encoding: gzip, br, zstd\r\n", "Accept-Encoding: gzip\r\n"),
            ("Accept-Encoding: br;q=1, x-gzip;q=.5, *;q=0\r\n", "Accept-Encoding: x-gzip;q=.5\r\n"),
            ("Accept-Encoding: br\r\n", "Accept-Encoding: identity\r\n"),
            (
                "Accept-Encoding: br\r\nA: b\r\nAccept-Encoding: gzip\r\n",
                "Accept-Encoding: gzip\r\nA: b\r\n",
            ),
            ("A:  b\r\n", "A:  b\r\n"),
        ];
        for (given, expected) in table {
            assert_eq!(sent(&http, given), expected);
        }
        let (head, _) =
            Rules::new(&http, false).request(request("Accept-Encoding: br\r\n")).unwrap();
        assert_eq!(head.field("accept-encoding").unwrap().value, b"br");
    }

    #[test]
    fn ranges_ask_for_the_whole() {
        let http = Http::default();
        assert_eq!(sent(&http, "Range: bytes=1-\r\nIf-Range: x\r\nA: b\r\n"), "A: b\r\n");
        let http = Http { ranges: Ranges::Pass, ..Http::default() };
        assert_eq!(sent(&http, "Range: bytes=1-\r\n"), "Range: bytes=1-\r\n");
        let rules = Rules::new(&http, true);
        assert_eq!(rules.response(response(206, ""), true).unwrap().1, Some("range"));
        let http = Http { ranges: Ranges::Block, ..Http::default() };
        assert!(Rules::new(&http, true).response(response(206, ""), true).is_err());
    }

    #[test]
    fn only_known_upgrades_are_asked_for() {
        let http = Http::default();
        let web_socket = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
        assert_eq!(sent(&http, web_socket), web_socket);
        let h2c =
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAAB\r\n";
        assert_eq!(sent(&http, h2c), "");
        let both = "Connection: Upgrade, TE\r\nUpgrade: websocket, h2c\r\nTE: trailers\r\n";
        assert_eq!(sent(&http, both), "Connection: TE\r\nTE: trailers\r\n");
        assert_eq!(sent(&http, "Upgrade: websocket\r\n"), "");
    }

    #[test]
    fn contents_in_other_codings_are_refused_or_counted() {
        let block = Http::default();
        let pass = Http { other_codings: Uninspectable::Pass, ..Http::default() };
        for (value, opaque) in [
            ("gzip", false),
            ("X-GZIP, identity", false),
            ("br", true),
            ("gzip, br", true),
            ("gzip, gzip, gzip", true),
        ] {
            let head = || response(200, &format!("Content-Encoding: {value}\r\n"));
            assert_eq!(Rules::new(&block, true).response(head(), true).is_err(), opaque, "{value}");
            let passed = Rules::new(&pass, true).response(head(), true).unwrap().1;
            assert_eq!(passed.is_some(), opaque, "{value}");
            assert!(Rules::new(&block, false).response(head(), true).is_ok());
            assert!(Rules::new(&block, true).response(head(), false).is_ok());
        }
    }

    #[test]
    fn other_protocols_are_not_advertised() {
        let head = || response(200, "A: 1\r\nAlt-Svc: h3=\":443\"\r\n");
        let (left, _) = Rules::new(&Http::default(), false).response(head(), true).unwrap();
        assert_eq!(&left.bytes()[..], b"HTTP/1.1 200 X\r\nA: 1\r\n\r\n");
        let http = Http { alt_svc: true, ..Http::default() };
        let (left, _) = Rules::new(&http, false).response(head(), true).unwrap();
        assert!(left.field("alt-svc").is_some());
    }
}
