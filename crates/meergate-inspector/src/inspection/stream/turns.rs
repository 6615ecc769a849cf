//! What begins within a stream, told by the first bytes of a turn: of one side after some of the other's.

use icap_stream::Way;

/// Bytes that tell a ClientHello: the record's head, the message's, and its version.
const HELLO: usize = 11;
/// Bytes of anything behind which some clients look for a response (`HTTP/` and a digit at last).
const RESPONSE: usize = 8 + 6;
/// The longest first line that is looked at; no server takes a longer one.
pub(super) const LONGEST: usize = 128 << 10;

/// What begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A ClientHello of the client's.
    Hello,
    /// HTTP, whoever asks and whoever answers.
    Http,
    /// A ClientHello of the server's.
    ServersHello,
}

/// Follows the turns.
#[derive(Debug, Default)]
pub(super) struct Turns {
    turn: Option<Way>,
    first: Vec<u8>,
    /// How many of those had come before the last look.
    before: usize,
    line: Line,
}

impl Turns {
    /// Takes in what was read, in the order of reading.
    pub(super) fn look(&mut self, way: Way, bytes: &[u8]) -> Option<Found> {
        if self.turn != Some(way) {
            *self = Self { turn: Some(way), ..Self::default() };
        }
        self.before = self.first.len();
        let missing = HELLO - self.before;
        if missing > 0 {
            self.first.extend_from_slice(&bytes[..missing.min(bytes.len())]);
            if is_hello(&self.first) {
                return Some(match way {
                    Way::ToClient => Found::ServersHello,
                    Way::ToServer => Found::Hello,
                });
            }
        }
        self.line.look(bytes).then_some(Found::Http)
    }

    /// The turn's first bytes that had come before those that were looked at last, at most 11.
    pub(super) fn before(&self) -> &[u8] {
        &self.first[..self.before]
    }
}

/// A record of a handshake, whatever its version, with a ClientHello.
fn is_hello(first: &[u8]) -> bool {
    matches!(first, [22, 3, _, _, _, 1, 0, _, _, 3, _])
}

/// A first line, and what stands before it.
#[derive(Debug, Default)]
enum Line {
    #[default]
    Blank,
    Other,
    Text {
        first: Vec<u8>,
        last: Vec<u8>,
        length: usize,
        is_method: bool,
        words: usize,
    },
}

impl Line {
    /// Whether it is one of HTTP.
    fn look(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            match self {
                Self::Other => return false,
                // Lenient receivers skip blank lines, a byte order mark, and more.
                Self::Blank
                    if byte <= b' ' || matches!(byte, 0x7f | 0x85 | 0xa0 | 0xef | 0xbb | 0xbf) => {}
                Self::Blank => {
                    let (first, last) = (vec![byte], vec![byte]);
                    let is_method = is_token(byte);
                    *self = Self::Text { first, last, length: 1, is_method, words: 1 };
                }
                Self::Text { last, is_method, words, .. } if byte == b'\n' => {
                    let found = *is_method && *words > 2 && ends_as_request(last);
                    *self = Self::Other;
                    return found;
                }
                Self::Text { first, last, length, is_method, words } => {
                    *length += 1;
                    let is_blank = byte <= b' ';
                    let was_blank = last.last().is_some_and(|last| *last <= b' ');
                    *words += usize::from(was_blank && !is_blank);
                    *is_method &= *words > 1 || is_blank || is_token(byte);
                    // However many blanks there are, they are one.
                    if !(is_blank && was_blank) {
                        if last.len() == RESPONSE {
                            last.remove(0);
                        }
                        last.push(byte);
                    }
                    if first.len() < RESPONSE {
                        first.push(byte);
                        if begins_as_response(first) {
                            *self = Self::Other;
                            return true;
                        }
                    } else if !*is_method || *length > LONGEST {
                        *self = Self::Other;
                    }
                }
            }
        }
        false
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `HTTP/` and a digit, near the beginning, or what servers of sound say for it.
fn begins_as_response(first: &[u8]) -> bool {
    let is_version =
        |part: &[u8]| part[..5].eq_ignore_ascii_case(b"HTTP/") && part[5].is_ascii_digit();
    let is_icy = first
        .get(..5)
        .is_some_and(|icy| icy[..4].eq_ignore_ascii_case(b"ICY ") && icy[4].is_ascii_digit());
    is_icy || first.windows(6).any(is_version)
}

/// A blank, `HTTP/` and a version.
fn ends_as_request(last: &[u8]) -> bool {
    let last = if last.last().is_some_and(|b| *b <= b' ') { &last[..last.len() - 1] } else { last };
    let Some(blank) = last.iter().rposition(|b| *b <= b' ') else { return false };
    let version = &last[blank + 1..];
    let Some((name, number)) = version.split_at_checked(5) else { return false };
    name.eq_ignore_ascii_case(b"HTTP/")
        && number.first().is_some_and(u8::is_ascii_digit)
        && number.iter().all(|b| b.is_ascii_digit() || *b == b'.')
}
