//! The chunked transfer coding (RFC 9112 section 7.1), taken off.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{Error, ErrorKind};
use crate::field::{Field, line_end};
use crate::lines;
use crate::syntax;

/// Ends a line.
pub const CRLF: &[u8] = b"\r\n";
/// The last chunk and the end of an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Room that [`chunk_header`] needs: 16 digits and CRLF.
pub const MAX_CHUNK_HEADER: usize = 18;

/// One chunk line in bytes, extensions included.
const MAX_LINE: usize = 1024;
/// All chunk extensions of one body in bytes: past this they are an attack, not metadata.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// The line that precedes `length` bytes of chunk data, written into `room`.
pub fn chunk_header(length: usize, room: &mut [u8; MAX_CHUNK_HEADER]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut at = MAX_CHUNK_HEADER - 2;
    room[at..].copy_from_slice(CRLF);
    let mut rest = length;
    loop {
        at -= 1;
        room[at] = DIGITS[rest & 15];
        rest >>= 4;
        if rest == 0 {
            return &room[at..];
        }
    }
}

/// What [`ChunkedDecoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEvent {
    /// Content, never empty; a piece of a chunk if the chunk has not come whole.
    Data(Bytes),
    /// The body is complete.
    End {
        /// Trailer field lines, each ended by CRLF, checked; mostly empty.
        /// Read them with [`Fields::new`](crate::Fields::new).
        trailers: Bytes,
    },
}

/// Decodes the chunked transfer coding (RFC 9112 section 7.1), strictly: sizes are hexadecimal
/// digits and nothing else, line ends are CRLF. Chunk extensions are allowed within bounds and
/// dropped, for they concern one connection only (RFC 9112 section 7.1.1).
///
/// A [lenient](ChunkedDecoder::lenient) one reads what servers send: lines may end with LF alone, white space
/// may follow a size, and trailers are read as the fields of [`ResponseHead::parse_lenient`] are, without those
/// that belong into a head only.
///
/// [`ResponseHead::parse_lenient`]: crate::ResponseHead::parse_lenient
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    extensions: usize,
    max_trailers: usize,
    is_lenient: bool,
    is_mended: bool,
}

#[derive(Debug)]
enum State {
    Size,
    Data(u64),
    DataEnd,
    Trailers,
    Done,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new(8 * 1024)
    }
}

impl ChunkedDecoder {
    /// A decoder for one body that allows `max_trailers` bytes of trailers.
    pub fn new(max_trailers: usize) -> Self {
        Self {
            state: State::Size,
            extensions: 0,
            max_trailers,
            is_lenient: false,
            is_mended: false,
        }
    }

    /// A decoder that takes what servers send.
    #[must_use]
    pub fn lenient(self) -> Self {
        Self { is_lenient: true, ..self }
    }

    /// Whether something so far was not well formed: then nothing that follows the body is to be believed.
    pub fn is_mended(&self) -> bool {
        self.is_mended
    }

    /// Whether the end has been read. Only then may the connection carry another message.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the next event off `buf`. `None`: more bytes are needed, or the end was returned before.
    ///
    /// # Errors
    /// Malformed framing; the connection is of no further use.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<ChunkEvent>, Error> {
        loop {
            match self.state {
                State::Size => match self.size(buf)? {
                    None => return Ok(None),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::Data(size),
                },
                State::Data(left) => {
                    if buf.is_empty() {
                        return Ok(None);
                    }
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
                    let left = left - take as u64;
                    self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                    return Ok(Some(ChunkEvent::Data(buf.split_to(take).freeze())));
                }
                State::DataEnd => match **buf {
                    [] | [b'\r'] => return Ok(None),
                    [b'\r', b'\n', ..] => {
                        buf.advance(2);
                        self.state = State::Size;
                    }
                    [b'\n', ..] if self.is_lenient => {
                        buf.advance(1);
                        self.is_mended = true;
                        self.state = State::Size;
                    }
                    _ => return Err(Error::new(ErrorKind::ChunkEnd)),
                },
                State::Trailers => {
                    let Some(trailers) = self.trailers(buf)? else { return Ok(None) };
                    self.state = State::Done;
                    return Ok(Some(ChunkEvent::End { trailers }));
                }
                State::Done => return Ok(None),
            }
        }
    }

    fn size(&mut self, buf: &mut BytesMut) -> Result<Option<u64>, Error> {
        let window = &buf[..buf.len().min(MAX_LINE)];
        let line = match self.is_lenient {
            true => lines::next(window),
            false => line_end(window, 0)?.map(|end| (&window[..end], end + 2)),
        };
        let Some((line, length)) = line else {
            return match window.len() {
                MAX_LINE => Err(Error::new(ErrorKind::ChunkExtension)),
                _ => Ok(None),
            };
        };
        let end = line.len();
        let mut digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(end);
        if digits == 0 || digits > 16 {
            return Err(Error::at(ErrorKind::ChunkSize, 0));
        }
        let size = &line[..digits];
        self.is_mended |= length != end + 2;
        // White space before the `;` was allowed once and is read differently since.
        if self.is_lenient {
            let blank = line[digits..].iter().take_while(|&&b| matches!(b, b' ' | b'\t')).count();
            self.is_mended |= blank > 0;
            digits += blank;
        }
        if digits < end && (line[digits] != b';' || !syntax::is_value(&line[digits..])) {
            return Err(Error::at(ErrorKind::ChunkSize, digits));
        }
        self.extensions += end - digits;
        if self.extensions > MAX_EXTENSIONS {
            return Err(Error::new(ErrorKind::ChunkExtension));
        }
        let size = size.iter().fold(0u64, |n, &b| (n << 4) | hex(b));
        if size > i64::MAX as u64 {
            return Err(Error::at(ErrorKind::ChunkSize, 0));
        }
        buf.advance(length);
        Ok(Some(size))
    }

    /// Takes the trailers and the empty line behind them; `None` while they are incomplete.
    fn trailers(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, Error> {
        match trailers(buf, self.max_trailers) {
            Ok(None) => return Ok(None),
            Ok(Some(length)) => {
                let trailers = buf.split_to(length).freeze();
                buf.advance(2);
                return Ok(Some(trailers));
            }
            Err(e) if !self.is_lenient => return Err(e),
            Err(_) => self.is_mended = true,
        }
        let window = &buf[..buf.len().min(self.max_trailers + 2)];
        let Some((fields, length)) = lines::read(window, 0, usize::MAX)? else {
            return match buf.len() > window.len() {
                true => Err(Error::new(ErrorKind::TrailersTooLong)),
                false => Ok(None),
            };
        };
        let mut out = BytesMut::new();
        for field in fields.iter().filter(|field| !field.is_any(&BANNED)) {
            field.write(&mut out);
        }
        buf.advance(length);
        Ok(Some(out.freeze()))
    }
}

fn hex(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    })
}

/// Checks trailer field lines that came by another way than [`ChunkedDecoder`]: each well formed,
/// ended by CRLF, and none that belongs into a head only.
///
/// # Errors
/// [`ErrorKind::Trailer`], or what is wrong with a line.
pub fn check_trailers(lines: &[u8]) -> Result<(), Error> {
    let mut at = 0;
    while at < lines.len() {
        let field =
            Field::split(&lines[at..], at)?.ok_or_else(|| Error::new(ErrorKind::NotOneHead))?;
        check_trailer(&field, at)?;
        at += field.line.len();
    }
    Ok(())
}

/// Length of the trailer lines without the empty line after them; `None` while incomplete.
fn trailers(buf: &[u8], max: usize) -> Result<Option<usize>, Error> {
    let mut at = 0;
    loop {
        let rest = &buf[at..];
        if rest.starts_with(CRLF) {
            return Ok(Some(at));
        }
        match Field::split(rest, at)? {
            Some(field) if at + field.line.len() <= max => {
                check_trailer(&field, at)?;
                at += field.line.len();
            }
            // A lone CR may begin the empty line, which the limit does not count.
            None if buf.len() <= max || rest == b"\r" => return Ok(None),
            _ => return Err(Error::new(ErrorKind::TrailersTooLong)),
        }
    }
}

/// Fields that RFC 9110 section 6.5.1 bans from trailers and that a peer might merge into the head.
const BANNED: [&str; 14] = [
    "Authorization",
    "Connection",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Cookie",
    "Expect",
    "Host",
    "Proxy-Authorization",
    "Set-Cookie",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
];

fn check_trailer(field: &Field<'_>, at: usize) -> Result<(), Error> {
    match BANNED.iter().any(|name| field.is(name)) {
        true => Err(Error::at(ErrorKind::Trailer, at)),
        false => Ok(()),
    }
}
