//! DNS messages (RFC 1035 section 4), read strictly: what is taken here, Suricata's parser takes too, and to the end.

use suricata::Direction;

use crate::inspection::refusal::DnsFault;
use crate::settings::Denial;

/// The longest message: over TCP, two bytes say how long it is.
pub(crate) const LONGEST: usize = u16::MAX as usize;

const HEADER: usize = 12;
/// The longest name, in bytes (RFC 1035 section 3.1).
const LONGEST_NAME: usize = 255;
/// How often a name may go on elsewhere; Suricata follows 255 labels and pointers together.
const MOST_POINTERS: usize = 100;

/// A well-formed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// Where its first question ends; if it has none, the header.
    question_end: usize,
}

impl Message {
    /// Checks a query (to the server) or a response (to the client).
    ///
    /// # Errors
    /// It is longer than a message may be, is not what goes that way, or does not hold exactly the records that its header says.
    pub(crate) fn new(bytes: Vec<u8>, direction: Direction) -> Result<Self, DnsFault> {
        if bytes.len() > LONGEST {
            return Err(DnsFault::Long);
        }
        let question_end = Walk { bytes: &bytes, at: 0 }.all(direction);
        match question_end {
            Some(question_end) => Ok(Self { bytes, question_end }),
            None => Err(DnsFault::Malformed),
        }
    }

    /// As it is.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What stands in front of it on TCP.
    pub(crate) fn length(&self) -> [u8; 2] {
        u16::try_from(self.bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
    }

    /// The answer that says no to its first question; it has the same id.
    pub(crate) fn denied(&self, denial: Denial) -> Vec<u8> {
        let question = &self.bytes[HEADER..self.question_end];
        // A response, the operation and "recursion desired" as they were, "recursion available".
        let flags = [0x80 | self.bytes[2] & 0x79, 0x80 | denial.code()];
        let count = [0, u8::from(!question.is_empty())];
        [&self.bytes[..2], &flags, &count, &[0; 6], question].concat()
    }
}

/// A place in a message. `None` is what cannot be read.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn all(mut self, direction: Direction) -> Option<usize> {
        self.skip(2)?;
        let is_response = self.number()? & 0x8000 != 0;
        if is_response != (direction == Direction::ToClient) {
            return None;
        }
        let questions = self.number()?;
        let records =
            u32::from(self.number()?) + u32::from(self.number()?) + u32::from(self.number()?);
        if questions == 0 && !is_response {
            return None;
        }
        let mut question_end = HEADER;
        for number in 0..questions {
            self.name()?;
            self.skip(4)?;
            if number == 0 {
                question_end = self.at;
            }
        }
        for _ in 0..records {
            self.record()?;
        }
        (self.at == self.bytes.len()).then_some(question_end)
    }

    fn record(&mut self) -> Option<()> {
        self.name()?;
        let kind = self.number()?;
        self.skip(6)?;
        let length = usize::from(self.number()?);
        let end = self.at + length;
        // What is read of the data ends where they do.
        let mut data = Walk { bytes: self.bytes.get(..end)?, at: self.at };
        match kind {
            // NS, CNAME, PTR.
            2 | 5 | 12 => data.name()?,
            // SOA.
            6 => {
                data.name()?;
                data.name()?;
                data.skip(20)?;
            }
            // MX.
            15 => {
                data.skip(2)?;
                data.name()?;
            }
            // TXT.
            16 => {
                while data.at < end {
                    let length = usize::from(data.byte()?);
                    data.skip(length)?;
                }
            }
            // SRV.
            33 => {
                data.skip(6)?;
                data.name()?;
            }
            // OPT.
            41 => {
                while data.at < end {
                    data.skip(2)?;
                    let length = usize::from(data.number()?);
                    data.skip(length)?;
                }
            }
            // SSHFP.
            44 => {
                data.skip(2)?;
                data.at = end;
            }
            _ => data.at = end,
        }
        self.at = end;
        (data.at == end).then_some(())
    }

    /// A name, which may go on at an earlier place of the message (RFC 1035 section 4.1.4).
    fn name(&mut self) -> Option<()> {
        let (mut length, mut pointers) = (0, 0);
        let mut at = self.at;
        let mut end = None;
        // Where the part under way begins: pointers lead in front of it, so that there is no circle.
        let mut begin = at;
        loop {
            let first = usize::from(*self.bytes.get(at)?);
            match first >> 6 {
                0 => {
                    at += 1 + first;
                    length += 1 + first;
                    if length > LONGEST_NAME {
                        return None;
                    }
                    if first == 0 {
                        break;
                    }
                }
                3 => {
                    let to = (first & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                    end.get_or_insert(at + 2);
                    pointers += 1;
                    if to >= begin || pointers > MOST_POINTERS {
                        return None;
                    }
                    (at, begin) = (to, to);
                }
                _ => return None,
            }
        }
        self.at = end.unwrap_or(at);
        (self.at <= self.bytes.len()).then_some(())
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u16> {
        let bytes = self.bytes.get(self.at..self.at + 2)?;
        self.at += 2;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.at += bytes;
        (self.at <= self.bytes.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query for `a.test`, or a response with such records.
    fn message(flags: u16, records: &[u8], count: u8) -> Vec<u8> {
        let header = [0xab, 0xcd, (flags >> 8) as u8, flags as u8, 0, 1, 0, count, 0, 0, 0, 0];
        [&header[..], b"\x01a\x04test\x00\x00\x01\x00\x01", records].concat()
    }

    fn record(name: &[u8], kind: u8, data: &[u8]) -> Vec<u8> {
        [name, &[0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8], data].concat()
    }

    #[test]
    fn what_is_whole_is_read_and_the_rest_is_not() {
        let query = message(0x0100, b"", 0);
        assert!(Message::new(query.clone(), Direction::ToServer).is_ok());
        assert!(Message::new(query.clone(), Direction::ToClient).is_err(), "no response");
        for length in 0..query.len() {
            assert!(Message::new(query[..length].to_vec(), Direction::ToServer).is_err());
        }
        let longer = [&query[..], b"x"].concat();
        assert_eq!(Message::new(longer, Direction::ToServer), Err(DnsFault::Malformed));
        assert_eq!(Message::new(vec![0; 65_536], Direction::ToServer), Err(DnsFault::Long));

        let response = |records: Vec<u8>| {
            Message::new(message(0x8180, &records, 1), Direction::ToClient).is_ok()
        };
        assert!(response(record(b"\xc0\x0c", 1, &[192, 0, 2, 1])));
        assert!(response(record(b"\xc0\x0c", 5, b"\x01b\xc0\x0e")));
        assert!(response(record(b"\xc0\x0c", 16, b"\x03abc\x00")));
        assert!(!response(record(b"\xc0\x0c", 16, b"\x04abc")), "a text that is cut");
        assert!(!response(record(b"\xc0\x0c", 5, b"\x01b\x00rest")), "more than a name");
        assert!(!response(record(b"\xc0\x30", 1, b"")), "a pointer forward");
        assert!(!response(record(b"\xc0\x1f", 1, b"")), "a pointer to itself");
        assert!(!response(record(b"\x80", 1, b"")), "no kind of label");
        let long = b"\x3f0123456789012345678901234567890123456789012345678901234567890ab".repeat(4);
        assert!(!response(record(&[&long[..], b"\x00"].concat(), 1, b"")), "a long name");
    }

    #[test]
    fn a_denial_has_the_question_and_is_a_response() {
        let query = Message::new(message(0x0110, b"", 0), Direction::ToServer).unwrap();
        let denied = query.denied(Denial::Refused);
        assert_eq!(denied[..4], [0xab, 0xcd, 0x81, 0x85]);
        assert_eq!(denied[12..], query.bytes()[12..]);
        assert!(Message::new(denied, Direction::ToClient).is_ok());
        assert_eq!(query.denied(Denial::Nxdomain)[3], 0x83);
    }
}
