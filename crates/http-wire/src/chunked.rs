//! The chunked transfer coding (RFC 9112 section 7.1), taken off.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::{Error, ErrorKind};
use crate::field::{Field, line_end};
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
#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    extensions: usize,
    max_trailers: usize,
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
        Self { state: State::Size, extensions: 0, max_trailers }
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
                    _ => return Err(Error::new(ErrorKind::ChunkEnd)),
                },
                State::Trailers => {
                    let Some(length) = trailers(buf, self.max_trailers)? else { return Ok(None) };
                    let trailers = buf.split_to(length).freeze();
                    buf.advance(2);
                    self.state = State::Done;
                    return Ok(Some(ChunkEvent::End { trailers }));
                }
                State::Done => return Ok(None),
            }
        }
    }

    fn size(&mut self, buf: &mut BytesMut) -> Result<Option<u64>, Error> {
        let window = &buf[..buf.len().min(MAX_LINE)];
        let Some(end) = line_end(window, 0)? else {
            return match window.len() {
                MAX_LINE => Err(Error::new(ErrorKind::ChunkExtension)),
                _ => Ok(None),
            };
        };
        let line = &window[..end];
        let digits = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(end);
        if digits == 0 || digits > 16 {
            return Err(Error::at(ErrorKind::ChunkSize, 0));
        }
        // White space before the `;` was allowed once and is read differently since.
        if digits < end && (line[digits] != b';' || !syntax::is_value(&line[digits..])) {
            return Err(Error::at(ErrorKind::ChunkSize, digits));
        }
        self.extensions += end - digits;
        if self.extensions > MAX_EXTENSIONS {
            return Err(Error::new(ErrorKind::ChunkExtension));
        }
        let size = line[..digits].iter().fold(0u64, |n, &b| (n << 4) | hex(b));
        if size > i64::MAX as u64 {
            return Err(Error::at(ErrorKind::ChunkSize, 0));
        }
        buf.advance(end + 2);
        Ok(Some(size))
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
fn check_trailer(field: &Field<'_>, at: usize) -> Result<(), Error> {
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
    match BANNED.iter().any(|name| field.is(name)) {
        true => Err(Error::at(ErrorKind::Trailer, at)),
        false => Ok(()),
    }
}
