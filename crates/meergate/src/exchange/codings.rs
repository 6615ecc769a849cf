//! Content codings: which are asked for, and what becomes of contents in others.

use http_wire::{AWS_CHUNKED, RequestHead, names_no_coding, tokens};
use icap_client::Chain;

use super::signed;
use crate::policy::Policy;

/// Most codings of one content. What is behind more is in nobody's interest but a bomb's.
const MAX_LAYERS: usize = 2;

/// Who decodes the content of a message.
#[derive(Clone, Copy)]
pub(super) enum Decoders<'a> {
    /// Any service that responses may be shown to: which it is, its head will tell.
    Any(&'a Policy),
    /// Whoever the settings speak of.
    Known(&'a [String]),
    /// The services that a request is shown to.
    OfRequest(&'a Chain),
    /// The services that a response is shown to.
    OfResponse(&'a Chain),
}

impl Decoders<'_> {
    /// Whether they look into contents in this coding.
    fn decode(&self, coding: &[u8]) -> bool {
        let coding = canonical(coding);
        match self {
            Self::Any(policy) => policy.chains().all(|chain| chain.decodes_responses(coding)),
            Self::Known(list) => list.iter().any(|d| d.as_bytes().eq_ignore_ascii_case(coding)),
            Self::OfRequest(chain) => chain.decodes_requests(coding),
            Self::OfResponse(chain) => chain.decodes_responses(coding),
        }
    }

    /// Fields of a request through which it may be answered in a coding that nobody decodes: the
    /// value that `Accept-Encoding` is to have, if another than it has.
    pub(super) fn acceptable(&self, head: &RequestHead) -> Option<Vec<u8>> {
        if head.field("Accept-Encoding").is_none() || signed::covers(head, "Accept-Encoding") {
            // Without the field any coding would be acceptable (RFC 9110 section 12.5.3); clients
            // that send none are known to want none.
            return None;
        }
        let mut left: Vec<&[u8]> = Vec::new();
        let mut same = true;
        for member in head.all("Accept-Encoding").flat_map(|f| tokens(f.value)) {
            let coding = member.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
            let keeps = coding.eq_ignore_ascii_case(b"identity")
                || is_refusal(member)
                || self.decode(coding);
            match keeps {
                true => left.push(member),
                false => same = false,
            }
        }
        if same {
            return None;
        }
        match left.iter().all(|member| is_refusal(member)) {
            true => Some(b"identity".to_vec()),
            false => Some(left.join(&b", "[..])),
        }
    }

    /// What stands in the way of looking into a content with these values of `Content-Encoding`.
    pub(super) fn judge<'h>(&self, values: impl Iterator<Item = &'h [u8]>) -> Content {
        // Empty members too: urllib3 takes one for `deflate`.
        let members = values.flat_map(|value| value.split(|&b| b == b','));
        let names: Vec<&[u8]> = members.map(<[u8]>::trim_ascii).collect();
        let coded = || names.iter().filter(|name| !(name.is_empty() || names_no_coding(name)));
        let layers = coded().count();
        // Beside another name Chromium decodes nothing, and Firefox what it knows.
        let decoded = layers == names.len()
            && layers <= MAX_LAYERS
            && names.iter().all(|coding| self.decode(coding));
        if layers == 0 || decoded {
            Content::Open
        } else if coded().all(|coding| coding.eq_ignore_ascii_case(AWS_CHUNKED)) {
            Content::Framed
        } else {
            Content::Closed(String::from_utf8_lossy(&names.join(&b", "[..])).into_owned())
        }
    }
}

/// What can be seen of a content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It is in these codings, or ones of that name. The services don't undo them, and some client may.
    Closed(String),
    /// All of it, but with the lines of [`AWS_CHUNKED`] in between.
    Framed,
    /// All of it.
    Open,
}

/// The name under which a coding is registered (RFC 9110 section 8.4.1.3).
fn canonical(coding: &[u8]) -> &[u8] {
    match coding.eq_ignore_ascii_case(b"x-gzip") {
        true => b"gzip",
        false => coding,
    }
}

/// Whether a member of `Accept-Encoding` says that a coding is not wanted: its weight is zero.
fn is_refusal(member: &[u8]) -> bool {
    let mut parameters = member.split(|&b| b == b';').skip(1).map(<[u8]>::trim_ascii);
    parameters.any(|parameter| {
        parameter.len() > 2
            && parameter[..2].eq_ignore_ascii_case(b"q=")
            && parameter[2..].iter().all(|b| matches!(b, b'0' | b'.'))
    })
}

/// Fields through which a dictionary for compression is offered and asked for (RFC 9842): what is
/// coded with one, nobody decodes who has not seen it.
pub(super) const DICTIONARY_REQUEST: [&str; 2] = ["Available-Dictionary", "Dictionary-ID"];
/// The same of a response.
pub(super) const DICTIONARY_RESPONSE: &str = "Use-As-Dictionary";

#[cfg(test)]
mod tests {
    use super::*;
    use http_wire::Limits;

    fn list(decodable: &[&str]) -> Vec<String> {
        decodable.iter().map(|&name| name.to_owned()).collect()
    }

    fn accepts(decodable: &[String], fields: &str) -> Option<String> {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = RequestHead::from_bytes(text.into(), &Limits::default()).unwrap();
        let value = Decoders::Known(decodable).acceptable(&head);
        value.map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn only_codings_that_nobody_decodes_are_left_out() {
        let old = list(&["gzip", "deflate"]);
        let new = list(&["gzip", "deflate", "br", "zstd"]);
        for (decodable, given, expected) in [
            (&new, "gzip, deflate, br, zstd", None),
            (&new, "gzip, deflate, br, zstd, dcb, dcz", Some("gzip, deflate, br, zstd")),
            (&new, "gzip;q=1.0, X-GZIP;q=.5, *;q=0", None),
            (&new, "identity;q=1, *;q=0", None),
            (&new, "gzip, compress, *", Some("gzip")),
            (&old, "gzip,deflate", None),
            (&old, "gzip, br, zstd;q=0", Some("gzip, zstd;q=0")),
            (&old, "br", Some("identity")),
            (&old, "br, *;q=0.000", Some("identity")),
            (&old, "br;q=0.001", Some("identity")),
            (&old, "", None),
        ] {
            let field = format!("Accept-Encoding: {given}\r\n");
            assert_eq!(accepts(decodable, &field).as_deref(), expected, "{given}");
        }
        assert_eq!(accepts(&old, "A: b\r\n"), None);
        let twice = "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n";
        assert_eq!(accepts(&old, twice).as_deref(), Some("gzip"));
    }

    #[test]
    fn a_signed_field_is_left_alone() {
        let signature = "Signature-Input: a=(\"accept-encoding\")\r\nSignature: a=:AA==:\r\n";
        let fields = format!("Accept-Encoding: br, dcb\r\n{signature}");
        assert_eq!(accepts(&list(&["gzip"]), &fields), None);
    }

    #[test]
    fn contents_are_closed_unless_all_clients_read_what_the_services_do() {
        let closed = |coding: &str| Content::Closed(coding.to_owned());
        let decodable = list(&["gzip", "deflate", "br"]);
        for (value, expected) in [
            ("gzip", Content::Open),
            ("X-GZIP", Content::Open),
            ("gzip, br", Content::Open),
            ("br, gzip, gzip", closed("br, gzip, gzip")),
            ("zstd", closed("zstd")),
            ("gzip,DCB", closed("gzip, DCB")),
            ("x-deflate", closed("x-deflate")),
            ("snappy", closed("snappy")),
            ("gzip;q=1", closed("gzip;q=1")),
            ("\"gzip\"", closed("\"gzip\"")),
            ("gzip br", closed("gzip br")),
            ("UTF-8", Content::Open),
            ("none", Content::Open),
            ("binary, identity", Content::Open),
            ("", Content::Open),
            (",, ,", Content::Open),
            // What clients decode beside another name differs.
            ("gzip, foo", closed("gzip, foo")),
            ("utf-8, gzip", closed("utf-8, gzip")),
            ("gzip, identity", closed("gzip, identity")),
            (",gzip", closed(", gzip")),
            ("aws-chunked", Content::Framed),
            ("AWS-Chunked, binary", Content::Framed),
            ("gzip,aws-chunked", closed("gzip, aws-chunked")),
        ] {
            let judged = Decoders::Known(&decodable).judge([value.as_bytes()].into_iter());
            assert_eq!(judged, expected, "{value}");
        }
        // The inspector undoes it.
        let decodable = list(&["aws-chunked", "gzip"]);
        for value in ["aws-chunked", "AWS-chunked,gzip"] {
            let judged = Decoders::Known(&decodable).judge([value.as_bytes()].into_iter());
            assert_eq!(judged, Content::Open, "{value}");
        }
    }
}
