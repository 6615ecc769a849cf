//! What must not hide in a stream: TLS that begins within it, and HTTP.

use icap_client::Way;
use memchr::{memchr_iter, memchr2_iter};

use super::agreed::Talk;
use crate::protocol::first_line::FirstLine;

/// Bytes of a hello that tell it: the record's head, the message's, and its version.
const HELLO: usize = 11;
/// How a record of a handshake begins.
const RECORD: u8 = 22;
/// Bytes of a line that are looked at as they come.
const SHORT: usize = 64;

/// What is found within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The client goes on in TLS, as both sides agreed. That begins here in what was read.
    Agreed(usize),
    /// A request of HTTP, which is not to be read as a stream: rules look at it, and services see it
    /// decoded.
    Http,
    /// A handshake of TLS: what follows is encrypted.
    Tls,
}

/// Looks for what hides in a stream.
///
/// A handshake is looked for at the start of a turn, that is in the first bytes of one side after
/// some of the other's: an honest client starts TLS there; we stop before any byte of it is sent
/// on. One that hides its hello behind something else is found by the server's answer, wherever
/// that stands.
#[derive(Debug, Default)]
pub(super) struct Within {
    /// What was said about TLS, if they may agree on that.
    talk: Option<Talk>,
    /// TLS begins with the client's next byte.
    is_due: bool,
    /// The client's first line, until it is known what that is.
    line: Option<Vec<u8>>,
    is_line_known: bool,
    turn: Option<Way>,
    /// The turn's first bytes.
    first: [u8; HELLO],
    length: usize,
    /// The last bytes of either side, in which a hello may have begun.
    tails: [Vec<u8>; 2],
    /// The client has sent what every hello begins with.
    has_records: bool,
}

impl Within {
    /// Where both sides may agree to go on in TLS, or not.
    pub(super) fn new(may_agree: bool) -> Self {
        Self { talk: may_agree.then(Talk::default), ..Self::default() }
    }

    /// What the server said before the client's first word.
    pub(super) fn greeting(&self) -> &[u8] {
        self.talk.as_ref().map(Talk::greeting).unwrap_or_default()
    }

    /// Takes in what was read, in the order of reading. With something found, none of it may go on; what stands
    /// before TLS that both agreed on may.
    pub(super) fn look(&mut self, way: Way, bytes: &[u8]) -> Option<Found> {
        if let Some(at) = self.agreed(way, bytes) {
            return Some(Found::Agreed(at));
        }
        if self.turn != Some(way) {
            self.turn = Some(way);
            self.length = 0;
        }
        let missing = HELLO - self.length;
        if missing > 0 {
            let taken = missing.min(bytes.len());
            self.first[self.length..self.length + taken].copy_from_slice(&bytes[..taken]);
            self.length += taken;
            if self.length == HELLO && is_hello(&self.first, way) {
                return Some(Found::Tls);
            }
        }
        if self.is_answered(way, bytes) {
            return Some(Found::Tls);
        }
        if way == Way::ToServer && !self.is_line_known {
            let line = self.line.get_or_insert_default();
            line.extend_from_slice(bytes);
            // Whoever comes byte by byte does not have it read anew each time.
            let tells =
                line.len() <= SHORT || line.len() >= FirstLine::MAX || bytes.contains(&b'\n');
            match if tells { FirstLine::of(line) } else { FirstLine::Unknown } {
                FirstLine::Http => return Some(Found::Http),
                FirstLine::Unknown => {}
                FirstLine::Other => {
                    self.is_line_known = true;
                    self.line = None;
                }
            }
        }
        None
    }

    /// Where TLS begins that was agreed on.
    fn agreed(&mut self, way: Way, bytes: &[u8]) -> Option<usize> {
        let was_due = std::mem::take(&mut self.is_due) && way == Way::ToServer;
        let begins = self.talk.as_mut()?.hear(way, bytes);
        let at = if was_due { 0 } else { begins? };
        self.is_due = at == bytes.len();
        (bytes.get(at) == Some(&RECORD)).then_some(at)
    }

    /// Whether the server says its hello, to a client that may have said one.
    fn is_answered(&mut self, way: Way, bytes: &[u8]) -> bool {
        let tail = &mut self.tails[way as usize];
        tail.extend_from_slice(&bytes[..bytes.len().min(HELLO - 1)]);
        let found = match way {
            Way::ToServer => {
                self.has_records = self.has_records || has_record(tail) || has_record(bytes);
                false
            }
            Way::ToClient => self.has_records && (has_answer(tail) || has_answer(bytes)),
        };
        match bytes.len() < HELLO {
            true => drop(tail.drain(..tail.len().saturating_sub(HELLO - 1))),
            false => {
                tail.clear();
                tail.extend_from_slice(&bytes[bytes.len() - (HELLO - 1)..]);
            }
        }
        found
    }
}

/// Whether a record of a handshake may begin somewhere in these bytes, in either form.
fn has_record(bytes: &[u8]) -> bool {
    memchr2_iter(1, 22, bytes).any(|at| bytes.get(at + 1) == Some(&3) && bytes.len() > at + 2)
}

/// Whether a ServerHello stands somewhere in these bytes.
fn has_answer(bytes: &[u8]) -> bool {
    let is_answer =
        |at: usize| bytes[at..].first_chunk().is_some_and(|first| is_hello(first, Way::ToClient));
    memchr_iter(22, bytes).any(is_answer)
}

/// Whether these are the first bytes of a ClientHello or ServerHello, by who speaks. A client may say any
/// version, of which servers take the one that they know; theirs is one. (False ones among random bytes:
/// of a server's one in 2^50, of a client's one in 2^34 at the start of a turn.)
fn is_hello(first: &[u8; HELLO], way: Way) -> bool {
    let [22, 3, version, high, low, message, 0, _, _, major, minor] = *first else {
        return way == Way::ToServer && is_old_hello(first);
    };
    match way {
        Way::ToServer => message == 1 && (1..=1 << 14).contains(&u16::from_be_bytes([high, low])),
        Way::ToClient => message == 2 && version <= 4 && major == 3 && minor <= 4,
    }
}

/// A ClientHello in the form of SSL 2.0, which servers may take for TLS 1.2 (RFC 5246 appendix E.2).
fn is_old_hello(first: &[u8; HELLO]) -> bool {
    let at = |i: usize| usize::from(u16::from_be_bytes([first[i], first[i + 1]]));
    let (ciphers, session, challenge) = (at(5), at(7), at(9));
    first[0] & 0x80 != 0
        && first[2] == 1
        && first[3] == 3
        && first[4] <= 4
        && ciphers % 3 == 0
        && (16..=32).contains(&challenge)
        && at(0) & 0x7fff == 9 + ciphers + session + challenge
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on";
    const SERVER: &[u8] = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03 and so on";
    const OLD: &[u8] = b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10";

    fn find(said: &[(Way, &[u8])], cut: usize) -> Option<(Found, usize)> {
        let mut within = Within::default();
        let mut at = 0;
        for (way, bytes) in said {
            for piece in bytes.chunks(cut) {
                if let Some(found) = within.look(*way, piece) {
                    return Some((found, at));
                }
                at += piece.len();
            }
        }
        None
    }

    #[test]
    fn a_hello_is_found_at_the_start_of_a_turn_however_it_is_cut() {
        use Way::{ToClient, ToServer};
        for cut in 1..30 {
            for hello in [CLIENT, OLD] {
                let said: &[(_, &[u8])] = &[
                    (ToServer, b"EHLO a\r\n"),
                    (ToClient, b"250 a\r\n"),
                    (ToServer, b"STARTTLS\r\n"),
                    (ToClient, b"220 go\r\n"),
                    (ToServer, hello),
                ];
                let (found, at) = find(said, cut).unwrap();
                assert_eq!(found, Found::Tls);
                assert!(at < 33 + HELLO, "what tells it has not gone on: {at}");
            }
            // Behind something of the same turn the server's is found.
            let behind = [&b"ask\0"[..], CLIENT].concat();
            let said: &[(_, &[u8])] =
                &[(ToServer, b"\0"), (ToClient, b"\0"), (ToServer, &behind), (ToClient, SERVER)];
            assert_eq!(find(said, cut).unwrap().0, Found::Tls);
        }
    }

    #[test]
    fn where_both_agree_nothing_of_the_hello_goes_on() {
        use Way::{ToClient, ToServer};
        let said: &[(_, &[u8])] = &[
            (ToClient, b"220 a\r\n"),
            (ToServer, b"EHLO a\r\n"),
            (ToClient, b"250 a\r\n"),
            (ToServer, b"STARTTLS\r\n"),
            (ToClient, b"220 go\r\n"),
            (ToServer, CLIENT),
        ];
        for cut in 1..40 {
            let (mut within, mut nested) = (Within::new(true), Within::new(false));
            let mut found = None;
            for (way, bytes) in said {
                for piece in bytes.chunks(cut) {
                    assert_eq!(found, None);
                    found = within.look(*way, piece);
                    let no = nested.look(*way, piece);
                    assert!(matches!(no, None | Some(Found::Tls)));
                    if found.is_some() {
                        break;
                    }
                }
            }
            assert_eq!((found, within.greeting()), (Some(Found::Agreed(0)), &b"220 a\r\n"[..]));
        }
        // Who agrees and does not do it is heard as before.
        let mut within = Within::new(true);
        for (way, bytes) in &said[..5] {
            assert_eq!(within.look(*way, bytes), None);
        }
        assert_eq!(within.look(ToServer, b"QUIT\r\n"), None);
        assert_eq!(within.look(ToClient, b"221 bye\r\n"), None);
        assert_eq!(within.look(ToServer, CLIENT), Some(Found::Tls));
    }

    #[test]
    fn a_hello_says_any_version() {
        for (record, message) in [([3, 4], [3, 3]), ([3, 5], [3, 3]), ([3, 0xff], [4, 1])] {
            let mut hello = CLIENT.to_vec();
            hello[1..3].copy_from_slice(&record);
            hello[9..11].copy_from_slice(&message);
            let said: &[(_, &[u8])] = &[(Way::ToClient, b"220 go\r\n"), (Way::ToServer, &hello)];
            for cut in 1..30 {
                assert_eq!(find(said, cut).unwrap().0, Found::Tls);
            }
            // And behind something else.
            let behind = [b"ask\0", &hello[..]].concat();
            let said: &[(_, &[u8])] = &[(Way::ToServer, &behind), (Way::ToClient, SERVER)];
            assert_eq!(find(said, 9).unwrap().0, Found::Tls);
        }
    }

    #[test]
    fn a_hello_behind_something_else_is_found_by_its_answer() {
        for cut in 1..30 {
            for hello in [&b"\x16\x03\x01\x00\x01\x01\x16\x03\x01 in small records"[..], OLD] {
                let pipelined = [b"AUTH TLS\r\n", hello].concat();
                let answer = [b"234 go on\r\n", SERVER].concat();
                let said: &[(_, &[u8])] = &[
                    (Way::ToClient, b"220 here\r\n"),
                    (Way::ToServer, &pipelined),
                    (Way::ToClient, &answer),
                ];
                assert_eq!(find(said, cut).unwrap().0, Found::Tls, "{cut}");
            }
        }
    }

    #[test]
    fn a_request_is_found_whenever_it_comes_first() {
        let request = b"GET / HTTP/1.1\r\n\r\n";
        for cut in 1..20 {
            for greeting in [&b""[..], b"HTTP/1.1 200 OK\r\n\r\n"] {
                let said: &[(_, &[u8])] = &[(Way::ToClient, greeting), (Way::ToServer, request)];
                let (found, at) = find(said, cut).unwrap();
                assert_eq!(found, Found::Http);
                assert!(at < greeting.len() + 16, "its first line has not gone on");
            }
        }
    }

    #[test]
    fn other_bytes_are_let_alone() {
        let said: &[(_, &[u8])] = &[
            (Way::ToClient, b"220 mail\r\n"),
            (Way::ToServer, b"EHLO a\r\nGET / HTTP/1.1\r\n"),
            (Way::ToClient, CLIENT),
            (Way::ToClient, SERVER),
            (Way::ToServer, SERVER),
            (Way::ToClient, OLD),
            (Way::ToServer, b"\x16\x03\x01\x02\x00\x02\x00\x01\xfc\x03\x03"),
        ];
        for cut in 1..30 {
            assert_eq!(find(said, cut), None);
        }
    }
}
