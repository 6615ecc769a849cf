//! Content of which the engine has every byte, and whose receiver may read something else out of it all the same: it is
//! coded below HTTP, its text is in a charset that is written otherwise, or its receiver keeps it coded.

use content_coding::Codings;
use dual_ring::Slices;
use http_wire::{Fields, RequestHead, ResponseHead, tokens};

use crate::inspection::metrics::Uninspected;
use crate::inspection::parameters::Parameters;

/// Fields that name the coding of the messages inside a content (gRPC over HTTP/2, "Message-Encoding"; Connect,
/// "Streaming-Request").
const INNER: [&str; 2] = ["grpc-encoding", "Connect-Content-Encoding"];

/// Content in base64 (gRPC-Web).
const BASE64: &[u8] = b"application/grpc-web-text";

/// Beginnings of the names of charsets in which text is written as in ASCII (WHATWG Encoding, "Names and labels"). Others
/// (UTF-16, UTF-7, ISO-2022, those of EBCDIC, and what nobody knows) hide words from rules that look for their letters.
const LIKE_ASCII: [&[u8]; 26] = [
    b"ascii",
    b"ansi_x3.4",
    b"big5",
    b"cp1250",
    b"cp1251",
    b"cp1252",
    b"cp1253",
    b"cp1254",
    b"cp1255",
    b"cp1256",
    b"cp1257",
    b"cp1258",
    b"euc-",
    b"gb18030",
    b"gb2312",
    b"gbk",
    b"iso-8859-",
    b"iso8859-",
    b"iso_8859-",
    b"koi8-",
    b"latin",
    b"shift_jis",
    b"us-ascii",
    b"utf-8",
    b"utf8",
    b"windows-",
];

/// Why the content of a request counts.
pub(crate) fn of_request(head: &RequestHead) -> Option<Uninspected> {
    written_otherwise(&head.fields())
}

/// Why the content of a response counts, in these codings, to this request if that is known.
pub(crate) fn of_response(
    head: &ResponseHead,
    codings: Option<&Codings>,
    request: Option<&RequestHead>,
) -> Option<Uninspected> {
    let is_kept = codings.is_some_and(|codings| !accepts(request, codings));
    written_otherwise(&head.fields()).or(is_kept.then_some(Uninspected::NotAccepted))
}

/// The first two bytes of a content, as far as they came.
#[derive(Default)]
pub(crate) struct Beginning(Vec<u8>);

impl Beginning {
    /// Whether the next bytes complete a mark of UTF-16, which browsers believe before any field.
    pub(crate) fn is_utf_16(&mut self, next: Slices<'_>) -> bool {
        let missing = 2 - self.0.len();
        self.0.extend(next.first.iter().chain(next.second).take(missing));
        missing > 0 && matches!(self.0[..], [0xfe, 0xff] | [0xff, 0xfe])
    }
}

/// Whether the content may be read as text: nothing else is said of it.
pub(crate) fn may_be_text(fields: &Fields<'_>) -> bool {
    const OTHERS: [&[u8]; 3] = [b"audio/", b"image/", b"video/"];
    let mut kinds = fields.clone().filter(|field| field.is("Content-Type")).peekable();
    kinds.peek().is_none()
        || kinds.any(|kind| {
            let is_bytes = kind.value.eq_ignore_ascii_case(b"application/octet-stream");
            !is_bytes && !OTHERS.iter().any(|other| starts_with(kind.value, other))
        })
}

fn written_otherwise(fields: &Fields<'_>) -> Option<Uninspected> {
    let named = |name| fields.clone().filter(move |field| field.is(name));
    let is_coded = INNER
        .iter()
        .flat_map(|&name| named(name))
        .flat_map(|field| tokens(field.value))
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
    let kinds = || named("Content-Type").map(|field| field.value);
    if is_coded || kinds().any(|kind| starts_with(kind, BASE64)) {
        return Some(Uninspected::Coding);
    }
    kinds().any(names_other_charset).then_some(Uninspected::Charset)
}

/// Whether a Content-Type says that text is not written as in ASCII.
pub(crate) fn names_other_charset(kind: &[u8]) -> bool {
    Parameters::of(kind).flatten().any(|(name, value)| {
        name.eq_ignore_ascii_case(b"charset")
            && !value.trim_ascii().is_empty()
            && is_other_charset(value)
    })
}

/// Whether text in the charset of that name may not be written as in ASCII.
pub(crate) fn is_other_charset(name: &[u8]) -> bool {
    !LIKE_ASCII.iter().any(|charset| starts_with(name.trim_ascii(), charset))
}

/// Whether the client said that it undoes these codings (RFC 9110 section 12.5.3). One that says nothing takes the bytes for
/// what they are.
fn accepts(request: Option<&RequestHead>, codings: &Codings) -> bool {
    let Some(request) = request else { return false };
    let members: Vec<&[u8]> =
        request.all("Accept-Encoding").flat_map(|field| tokens(field.value)).collect();
    let is_listed = |coding: &content_coding::Coding| {
        members.iter().any(|member| {
            let mut words = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = words.next().unwrap_or_default();
            let is_it = name == b"*" || content_coding::Coding::from_token(name) == Some(*coding);
            is_it && !words.any(is_zero)
        })
    };
    codings.applied().iter().all(is_listed)
}

/// Whether a weight is that of what is not wanted.
fn is_zero(parameter: &[u8]) -> bool {
    starts_with(parameter, b"q=") && parameter[2..].iter().all(|byte| matches!(byte, b'0' | b'.'))
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_wire::Limits;

    fn response(fields: &str) -> ResponseHead {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        ResponseHead::from_bytes(text.into(), &Limits::default()).unwrap()
    }

    fn request(fields: &str) -> RequestHead {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        RequestHead::from_bytes(text.into(), &Limits::default()).unwrap()
    }

    #[test]
    fn what_is_written_otherwise_is_known_by_its_fields() {
        use Uninspected::{Charset, Coding};
        for (expected, fields) in [
            (None, ""),
            (None, "Content-Type: text/html; charset=utf-8\r\n"),
            (None, "grpc-encoding: identity\r\n"),
            (Some(Coding), "GRPC-Encoding: gzip\r\n"),
            (Some(Coding), "grpc-encoding: identity\r\ngrpc-encoding: snappy\r\n"),
            (Some(Coding), "Connect-Content-Encoding: zstd\r\n"),
            (Some(Coding), "Content-Type: application/grpc-web-text+proto\r\n"),
            (Some(Charset), "Content-Type: text/html; charset=UTF-16LE\r\n"),
            (Some(Charset), "Content-Type: text/html;a=b; Charset=\"utf-7\"\r\n"),
            (Some(Charset), "Content-Type: text/html;charset=iso-2022-jp\r\n"),
            (Some(Charset), "Content-Type: text/html; charset=ibm037\r\n"),
            (Some(Charset), "Content-Type: text/html; charset=utf_16\r\n"),
            (None, "Content-Type: text/html; charset=Windows-1252\r\n"),
            (None, "Content-Type: text/html; charset=\"ISO-8859-1\"\r\n"),
            (Some(Charset), "Content-Type: text/html\r\nContent-Type: a/b; charset=unicode\r\n"),
        ] {
            assert_eq!(of_response(&response(fields), None, None), expected, "{fields}");
            assert_eq!(of_request(&request(fields)), expected, "{fields}");
        }
    }

    #[test]
    fn who_asked_for_no_coding_may_keep_it() {
        for (accepted, codings, fields) in [
            (false, "gzip", ""),
            (true, "gzip", "Accept-Encoding: gzip\r\n"),
            (true, "x-gzip", "Accept-Encoding: br;q=1, GZIP;q=0.5\r\n"),
            (true, "br", "Accept-Encoding: *\r\n"),
            (true, "gzip, br", "Accept-Encoding: gzip\r\nAccept-Encoding: br\r\n"),
            (false, "gzip, br", "Accept-Encoding: gzip\r\n"),
            (false, "gzip", "Accept-Encoding: identity\r\n"),
            (false, "gzip", "Accept-Encoding: gzip;q=0.0\r\n"),
            (false, "zstd", "Accept-Encoding: gzip, br, *;q=0\r\n"),
        ] {
            let codings = Codings::parse([codings.as_bytes()]).unwrap();
            let found = of_response(&response(""), Some(&codings), Some(&request(fields)));
            assert_eq!(found.is_none(), accepted, "{fields}");
            assert!(of_response(&response(""), Some(&codings), None).is_some());
        }
    }

    #[test]
    fn what_has_a_mark_may_be_text() {
        let marked = |pieces: &[(&[u8], &[u8])]| {
            let mut begin = Beginning::default();
            pieces
                .iter()
                .map(|&(first, second)| begin.is_utf_16(Slices { first, second }))
                .collect::<Vec<_>>()
        };
        assert_eq!(marked(&[(b"\xff\xfea", b""), (b"\xff\xfe", b"")]), [true, false]);
        assert_eq!(marked(&[(b"", b""), (b"\xfe", b"\xff")]), [false, true]);
        assert_eq!(marked(&[(b"\xff", b""), (b"\xfe", b"a")]), [false, true]);
        assert_eq!(marked(&[(b"\xef\xbb\xbf", b"")]), [false]);
        for (text, fields) in [
            (true, ""),
            (true, "Content-Type: text/html\r\n"),
            (true, "Content-Type: application/json\r\n"),
            (true, "Content-Type: image/png\r\nContent-Type: text/html\r\n"),
            (false, "Content-Type: application/octet-stream\r\n"),
            (false, "Content-Type: audio/mpeg\r\n"),
        ] {
            assert_eq!(may_be_text(&response(fields).fields()), text, "{fields}");
        }
    }
}
