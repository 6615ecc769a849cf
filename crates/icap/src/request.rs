//! The head of a request.

use bytes::{Buf, BufMut, BytesMut};

use crate::fields::{self, Span};
use crate::{Encapsulated, Error, ErrorKind, Headers, Limits, Method};

/// The head of an ICAP request: request line, headers, and what they say about the rest.
///
/// A parsed head can be used again for the next one ([`parse_into`](Self::parse_into)), which
/// then allocates nothing.
#[derive(Clone, Debug)]
pub struct RequestHead {
    method: Method,
    uri: (u32, u32),
    path: (u32, u32),
    minor: u8,
    headers: Headers,
    encapsulated: Option<Encapsulated>,
    preview: Option<u64>,
    allow_204: bool,
    allow_206: bool,
    allow_trailers: bool,
    close: bool,
}

impl RequestHead {
    /// A head to send: `uri` as `icap://host[:port]/service`.
    ///
    /// # Errors
    /// `StartLine` if the URI is no ICAP URI, path or `*`, or holds blanks or control characters.
    pub fn new(
        method: Method,
        uri: &str,
        encapsulated: Option<Encapsulated>,
    ) -> Result<Self, Error> {
        let mut this = Self::empty();
        this.method = method;
        this.uri = this.headers.append(uri.as_bytes());
        this.path = path_of(uri.as_bytes(), 0)?;
        this.encapsulated = encapsulated;
        Ok(this)
    }

    /// A head without content, as a place to parse into.
    pub fn empty() -> Self {
        Self {
            method: Method::Options,
            uri: (0, 0),
            path: (0, 0),
            minor: 0,
            headers: Headers::new(),
            encapsulated: None,
            preview: None,
            allow_204: false,
            allow_206: false,
            allow_trailers: false,
            close: false,
        }
    }

    /// Lets go of what was parsed, so that the buffer it came from can be used again; keeps the
    /// rest of the memory.
    pub fn clear(&mut self) {
        self.headers.text = BytesMut::new();
        self.headers.spans.clear();
        (self.uri, self.path) = ((0, 0), (0, 0));
    }

    /// Takes one head from the front of `buf`; `None` if it is not complete.
    ///
    /// # Errors
    /// See [`parse_into`](Self::parse_into).
    pub fn parse(buf: &mut BytesMut, limits: &Limits) -> Result<Option<Self>, Error> {
        let mut head = Self::empty();
        Ok(head.parse_into(buf, &mut 0, limits)?.then_some(head))
    }

    /// Takes one head from the front of `buf` in place of this one; false if it is not complete.
    /// `scanned` remembers how far `buf` was searched in vain: 0 for a new head.
    ///
    /// # Errors
    /// `HeadTooLarge` beyond `limits.max_head` or `max_fields`, `UriTooLong`, `StartLine`,
    /// `Method`, `Version` (anything but ICAP/1.x), `Header`, and `Encapsulated` if that header
    /// is missing where it must stand (all but OPTIONS), repeated or not fit for the method. After
    /// an error the connection can't be read any further.
    pub fn parse_into(
        &mut self,
        buf: &mut BytesMut,
        scanned: &mut usize,
        limits: &Limits,
    ) -> Result<bool, Error> {
        let Some(text) = take_block(buf, scanned, limits)? else { return Ok(false) };
        self.headers.spans.clear();
        self.headers.text = text;
        self.preview = None;
        self.allow_204 = false;
        self.allow_206 = false;
        self.allow_trailers = false;
        self.close = false;
        self.encapsulated = None;
        let fields_at = self.parse_line(limits)?;
        fields::parse(&mut self.headers.text, fields_at, &mut self.headers.spans, limits)?;
        self.read_fields(limits)?;
        Ok(true)
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The URI as it stands in the request line.
    pub fn uri(&self) -> &str {
        std::str::from_utf8(self.headers.slice(self.uri)).unwrap_or_default()
    }

    /// The path of the URI, without its query: names the service. `*` for `OPTIONS *`, `/` if the
    /// URI ends after the host.
    pub fn path(&self) -> &str {
        match std::str::from_utf8(self.headers.slice(self.path)).unwrap_or_default() {
            "" => "/",
            path => path,
        }
    }

    /// The minor version: 0 for ICAP/1.0.
    pub fn minor_version(&self) -> u8 {
        self.minor
    }

    /// The header fields.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The header fields, to add to. `Encapsulated` is written by [`encode`](Self::encode) and
    /// must not be added; what `preview`, `allows_204`, `allows_206` and `wants_close` say is
    /// only known for parsed heads.
    pub fn headers_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }

    /// What follows the head. For OPTIONS without the header: nothing.
    pub fn encapsulated(&self) -> Encapsulated {
        self.encapsulated.unwrap_or(Encapsulated::NOTHING)
    }

    /// The bytes of body promised before the client waits for an answer (RFC 3507 section 4.5).
    pub fn preview(&self) -> Option<u64> {
        self.preview
    }

    /// Whether the client takes 204 outside a preview (`Allow: 204`, section 4.6).
    pub fn allows_204(&self) -> bool {
        self.allow_204
    }

    /// Whether the client takes 206 (`Allow: 206`, draft-icap-ext-partial-content-07).
    pub fn allows_206(&self) -> bool {
        self.allow_206
    }

    /// Whether the client takes trailers (`Allow: trailers`).
    pub fn allows_trailers(&self) -> bool {
        self.allow_trailers
    }

    /// Whether the client will close the connection after this transaction.
    pub fn wants_close(&self) -> bool {
        self.close
    }

    /// The bytes of a parsed head, as they came but for unfolded lines.
    pub fn bytes(&self) -> &[u8] {
        &self.headers.text
    }

    /// Writes the head, `Encapsulated` last, the empty line included.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(self.method.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(self.headers.slice(self.uri));
        out.put_slice(b" ICAP/1.0\r\n");
        self.headers.encode_except("Encapsulated", out);
        if let Some(encapsulated) = &self.encapsulated {
            encapsulated.encode(out);
        }
        out.put_slice(b"\r\n");
    }

    /// Parses the request line and says where the fields start.
    fn parse_line(&mut self, limits: &Limits) -> Result<usize, Error> {
        let text = &self.headers.text;
        let (end, next) = fields::line_end(text, 0).ok_or(start("no line end"))?;
        let mut words = text[..end].split(|b| *b == b' ');
        let (Some(method), Some(uri), Some(version), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(start("a request line that is not METHOD URI VERSION"));
        };
        if !fields::is_token(method) {
            return Err(start("a method that is not a token"));
        }
        self.minor = minor_version(version)?;
        let method_len = method.len();
        self.method = Method::from_token(method)
            .ok_or(Error::new(ErrorKind::Method, "a method other than OPTIONS, REQMOD, RESPMOD"))?;
        if uri.len() > limits.max_uri {
            return Err(Error::new(ErrorKind::UriTooLong, "a URI longer than the limit"));
        }
        let uri_at = method_len + 1;
        self.uri = (uri_at as u32, (uri_at + uri.len()) as u32);
        self.path = path_of(uri, uri_at)?;
        if self.headers.slice(self.path) == b"*" && self.method != Method::Options {
            return Err(start("the URI * outside OPTIONS"));
        }
        Ok(next)
    }

    /// One pass over the fields for those that govern the transaction.
    fn read_fields(&mut self, limits: &Limits) -> Result<(), Error> {
        for &Span { name, value } in &self.headers.spans {
            let (name, value) = (self.headers.slice(name), self.headers.slice(value));
            match name.len() {
                12 if name.eq_ignore_ascii_case(b"Encapsulated") => {
                    let parsed = Encapsulated::parse(value, limits)?;
                    parsed.check_request(self.method)?;
                    if self.encapsulated.replace(parsed).is_some() {
                        return Err(encapsulated("two Encapsulated headers"));
                    }
                }
                7 if name.eq_ignore_ascii_case(b"Preview") => {
                    let bytes = decimal(value)
                        .ok_or(Error::new(ErrorKind::Preview, "a Preview that is not a number"))?;
                    if self.preview.replace(bytes).is_some_and(|before| before != bytes) {
                        return Err(Error::new(ErrorKind::Preview, "two Preview headers"));
                    }
                }
                5 if name.eq_ignore_ascii_case(b"Allow") => {
                    self.allow_204 |= has_element(value, b"204");
                    self.allow_206 |= has_element(value, b"206");
                    self.allow_trailers |= has_element(value, b"trailers");
                }
                10 if name.eq_ignore_ascii_case(b"Connection") => {
                    self.close |= has_element(value, b"close");
                }
                _ => {}
            }
        }
        if self.encapsulated.is_none() && self.method != Method::Options {
            return Err(encapsulated("no Encapsulated header"));
        }
        Ok(())
    }
}

/// Takes the block of lines at the front of `buf`, its empty line included.
pub(crate) fn take_block(
    buf: &mut BytesMut,
    scanned: &mut usize,
    limits: &Limits,
) -> Result<Option<BytesMut>, Error> {
    if *scanned == 0 {
        buf.advance(fields::leading_newlines(buf));
    }
    let too_large = Error::new(ErrorKind::HeadTooLarge, "a head longer than the limit");
    match fields::block_end(buf, *scanned) {
        Some(end) if end > limits.max_head => Err(too_large),
        Some(end) => {
            *scanned = 0;
            Ok(Some(buf.split_to(end)))
        }
        None if buf.len() >= limits.max_head => Err(too_large),
        None => {
            *scanned = buf.len();
            Ok(None)
        }
    }
}

/// The minor version of `ICAP/1.x`.
pub(crate) fn minor_version(version: &[u8]) -> Result<u8, Error> {
    let unsupported = Error::new(ErrorKind::Version, "a version other than ICAP/1.x");
    match version {
        [b'I', b'C', b'A', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            if *major == b'1' {
                Ok(minor - b'0')
            } else {
                Err(unsupported)
            }
        }
        _ if version.starts_with(b"ICAP/") => Err(unsupported),
        _ => Err(start("a first line without an ICAP version")),
    }
}

/// A non-negative decimal number of digits alone.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|d| *d <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Whether the comma-separated `list` holds `element`, without regard to case.
pub(crate) fn has_element(list: &[u8], element: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|e| e.trim_ascii().eq_ignore_ascii_case(element))
}

/// The path in `uri`, which stands at `at`: empty if the URI ends after the host.
fn path_of(uri: &[u8], at: usize) -> Result<(u32, u32), Error> {
    if uri.is_empty() || !uri.iter().all(|b| b.is_ascii_graphic()) {
        return Err(start("a URI that is empty or holds other than visible ASCII"));
    }
    let has_scheme = |scheme: &[u8]| {
        uri.get(..scheme.len()).is_some_and(|front| front.eq_ignore_ascii_case(scheme))
    };
    let path = if uri == b"*" || uri[0] == b'/' {
        0
    } else {
        let authority = match () {
            () if has_scheme(b"icap://") => 7,
            () if has_scheme(b"icaps://") => 8,
            () => return Err(start("a URI that is not icap://, icaps://, a path or *")),
        };
        let host_end = uri[authority..].iter().position(|b| matches!(b, b'/' | b'?'));
        authority + host_end.unwrap_or(uri.len() - authority)
    };
    let end = memchr::memchr(b'?', &uri[path..]).map_or(uri.len(), |query| path + query);
    Ok(((at + path) as u32, (at + end) as u32))
}

fn start(what: &'static str) -> Error {
    Error::new(ErrorKind::StartLine, what)
}

fn encapsulated(what: &'static str) -> Error {
    Error::new(ErrorKind::Encapsulated, what)
}
