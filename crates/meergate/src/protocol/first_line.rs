//! Whether what a client says first is HTTP/1: told by its first line, in whatever form a lenient server
//! would take it.

/// The methods of requests without a version (HTTP/0.9), and of those whose version is not told apart.
const METHODS: [&[u8]; 9] =
    [b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"];

/// What the beginning of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstLine {
    /// A request, or what some server would take for one.
    Http,
    /// Something else.
    Other,
    /// More is needed to tell.
    Unknown,
}

impl FirstLine {
    /// The longest first line that is waited for, in bytes. Servers take request lines of 8 to 16 KiB.
    pub(crate) const MAX: usize = 16 << 10;

    /// What a connection is whose client began with these `bytes`. What may be either is HTTP, which
    /// is read strictly.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        // Blank lines may stand before it (RFC 9112 section 2.2), and some skip more.
        let start = bytes.iter().position(|b| !is_space(*b) && *b != b'\n');
        let Some(start) = start else {
            return if bytes.len() < Self::MAX { Self::Unknown } else { Self::Other };
        };
        let line = &bytes[start..];
        let end = line.iter().position(|b| *b == b'\n');
        let line = &line[..end.unwrap_or(line.len())];
        let mut words = line.split(|b| is_space(*b)).filter(|word| !word.is_empty());
        let first = words.next().unwrap_or_default();
        if !first.iter().all(|b| is_of_token(*b)) {
            return Self::Other;
        }
        let rest: Vec<&[u8]> = words.collect();
        match end {
            Some(_) if is_request(first, &rest) => Self::Http,
            Some(_) => Self::Other,
            None if bytes.len() < Self::MAX => Self::Unknown,
            None if rest.is_empty() => Self::Other,
            // A line without an end, that may be a long request line.
            None => Self::Http,
        }
    }
}

/// Whether these words are a request line: one that names a version of HTTP, or has none and a method
/// of HTTP. (RTSP and SIP have methods of the same names, and versions of their own.)
fn is_request(first: &[u8], rest: &[&[u8]]) -> bool {
    let is_version = |word: &&[u8]| word.get(..5).is_some_and(|w| w.eq_ignore_ascii_case(b"HTTP/"));
    match rest {
        [] => false,
        [_] => METHODS.contains(&first) || rest.iter().any(is_version),
        [..] => {
            let others = [&b"RTSP/"[..], b"SIP/", b"ICAP/"];
            let is_other = |word: &[u8]| others.iter().any(|other| word.starts_with(other));
            rest.iter().any(is_version)
                || (METHODS.contains(&first) && !rest.last().is_some_and(|word| is_other(word)))
        }
    }
}

/// Python's `str.split` takes the last ones too, in text of Latin-1, and so do its servers.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | 0x0b | 0x0c | 0x1c..=0x1f | 0x85 | 0xa0)
}

/// RFC 9110 section 5.6.2.
fn is_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::FirstLine::{self, Http, Other, Unknown};

    #[test]
    fn requests_are_told_from_other_lines() {
        for (bytes, expected) in [
            (&b""[..], Unknown),
            (b"\r\n\r\n", Unknown),
            (b"G", Unknown),
            (b"GET /", Unknown),
            (b"GET / HTTP/1.1\r", Unknown),
            (b"GET / HTTP/1.1\r\n", Http),
            (b"\r\n\n GET / HTTP/1.1\n", Http),
            (b"get\t/\x0bhttp/1.0\n", Http),
            (b"FROB / HTTP/1.1\r\n", Http),
            (b"GET /a b HTTP/1.1\r\n", Http),
            (b"GET /\r\n", Http),
            (b"POST /x\n", Http),
            (b"GET /a b\n", Http),
            (b"FOO HTTP/1.1\n", Http),
            (b"\x1cPOST /x HTTP/1.1\r\n", Http),
            (b"\xa0GET /x\r\n", Http),
            (b"GET\x85/x\x1fHTTP/1.1\r\n", Http),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http),
            (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Other),
            (b"EHLO mail.example\r\n", Other),
            (b"USER anonymous\r\n", Other),
            (b"PING\r\n", Other),
            (b"*1\r\n$4\r\nPING\r\n", Other),
            (b"get key\r\n", Other),
            (b"OPTIONS sip:a@b SIP/2.0\r\n", Other),
            (b"OPTIONS rtsp://a/b RTSP/1.0\r\n", Other),
            (b"<stream:stream", Other),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Other),
            (b"\x10\x0c\x00\x04MQTT", Other),
        ] {
            assert_eq!(FirstLine::of(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn no_line_is_waited_for_without_end() {
        let long = |start: &str, len| FirstLine::of(&[start.as_bytes(), &vec![b'a'; len]].concat());
        assert_eq!(long("GET /", 16_000), Unknown);
        assert_eq!(long("GET /", 17_000), Http);
        assert_eq!(long("a", 17_000), Other);
        assert_eq!(FirstLine::of(&[b' '; 17_000]), Other);
    }
}
