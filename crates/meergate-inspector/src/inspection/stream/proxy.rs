//! Headers of the PROXY protocol at the beginning of a stream: what its server speaks begins behind them.
//!
//! Receivers differ in what they take for one: longer ones than the specification has (haproxy.org, `proxy-protocol.txt`),
//! one behind another, in small letters, behind blanks. So what some may take for one is one.

use super::turns::LONGEST;

/// Headers behind each other at most: a chain of as many load balancers is nobody's.
const MOST: usize = 16;
/// What one of version 1 begins with, in whichever case.
const TEXT: &[u8] = b"PROXY";
/// What one of version 2 begins with behind CR, LF and NUL, and how long that is with all up to the length of the rest.
const BINARY: &[u8] = b"QUIT\n";
const BINARY_HEAD: usize = BINARY.len() + 4;

/// Follows them.
#[derive(Debug, Default)]
pub(super) struct ProxyHeaders {
    state: State,
    count: usize,
}

#[derive(Debug, Default)]
enum State {
    /// Nothing, or blanks, line ends, NUL and the like before something begins.
    #[default]
    Begin,
    /// The same, with a NUL, as in front of a header of version 2.
    BehindNul,
    /// What may be a header of version 2.
    Binary { head: Vec<u8> },
    /// Another thing has begun.
    Over,
    /// The rest of a header of version 2.
    Rest { left: usize },
    /// What may be a header of version 1, so many bytes of it.
    Text { line: usize },
}

impl ProxyHeaders {
    /// Takes in bytes. If a header ends among them: how many of them go up to there, and what is behind is to be looked at
    /// in another call.
    pub(super) fn look(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, &byte) in bytes.iter().enumerate() {
            if matches!(self.state, State::Over) {
                return None;
            }
            if self.take(byte) {
                self.state = State::Begin;
                self.count += 1;
                return Some(at + 1);
            }
        }
        None
    }

    /// Whether there are more of them than are followed.
    pub(super) fn are_too_many(&self) -> bool {
        self.count > MOST
    }

    /// Whether a header ends with this byte.
    fn take(&mut self, byte: u8) -> bool {
        match &mut self.state {
            State::Begin if byte == 0 => self.state = State::BehindNul,
            State::Begin | State::BehindNul if is_before(byte) => {}
            State::BehindNul if byte == BINARY[0] => {
                self.state = State::Binary { head: vec![byte] };
            }
            State::Begin | State::BehindNul if byte.eq_ignore_ascii_case(&TEXT[0]) => {
                self.state = State::Text { line: 1 };
            }
            State::Text { line } => {
                let is_right = match *line < TEXT.len() {
                    true => byte.eq_ignore_ascii_case(&TEXT[*line]),
                    false => *line > TEXT.len() || byte <= b' ',
                };
                *line += 1;
                if byte == b'\n' && is_right {
                    return true;
                }
                if !is_right || *line > LONGEST {
                    self.state = State::Over;
                }
            }
            State::Binary { head } => {
                head.push(byte);
                if !head.iter().zip(BINARY).all(|(a, b)| a == b) {
                    self.state = State::Over;
                } else if let (BINARY_HEAD, [.., high, low]) = (head.len(), &head[..]) {
                    let left = usize::from(u16::from_be_bytes([*high, *low]));
                    self.state = State::Rest { left };
                    return left == 0;
                }
            }
            State::Rest { left } => {
                *left -= 1;
                return *left == 0;
            }
            State::Begin | State::BehindNul | State::Over => self.state = State::Over,
        }
        false
    }
}

/// What lenient receivers skip before what they look for, and what a header of version 2 begins with.
fn is_before(byte: u8) -> bool {
    byte <= b' ' || matches!(byte, 0xef | 0xbb | 0xbf)
}
