//! DNS queries over TCP (RFC 1035 section 4.2.2), whatever the port: Suricata looks for them on port 53 alone.

use icap_stream::Way;

/// The highest opcode that is assigned (DSO, RFC 8490).
const LAST_OPCODE: u8 = 6;

/// Where a query begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// How many of the bytes that were looked at last belong to what came before it.
    pub(super) at: usize,
    /// What had come of it before those.
    pub(super) before: Vec<u8>,
}

/// Looks for one at the beginning of the client's turns, behind messages without a question (RFC 7873 section 5.4).
#[derive(Debug, Default)]
pub(super) struct Queries {
    turn: Option<Way>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Reads a message.
    Message(Vec<u8>),
    /// So much of a message without a question is still to come.
    Skip(usize),
    /// It is something else.
    Over,
}

impl Default for State {
    fn default() -> Self {
        Self::Message(Vec::new())
    }
}

/// What the beginning of a message is.
enum Seen {
    Nothing,
    Part,
    Query,
    /// It has no question, and goes on for so many bytes.
    Unasked(usize),
}

impl Queries {
    /// Takes in what was read, in the order of reading.
    pub(super) fn look(&mut self, way: Way, bytes: &[u8]) -> Option<Query> {
        if self.turn != Some(way) {
            *self = Self { turn: Some(way), state: State::default() };
        }
        if way == Way::ToClient {
            return None;
        }
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Over => return None,
                State::Skip(rest) => {
                    let skipped = (*rest).min(bytes.len() - at);
                    at += skipped;
                    *rest -= skipped;
                    if *rest == 0 {
                        self.state = State::default();
                    }
                }
                State::Message(message) => {
                    message.push(bytes[at]);
                    at += 1;
                    match seen(message) {
                        Seen::Part => {}
                        Seen::Nothing => self.state = State::Over,
                        Seen::Unasked(0) => self.state = State::default(),
                        Seen::Unasked(rest) => self.state = State::Skip(rest),
                        Seen::Query => {
                            let mut before = std::mem::take(message);
                            let begin = at.checked_sub(before.len());
                            before.truncate(before.len().saturating_sub(at));
                            self.state = State::Over;
                            let at = begin.unwrap_or(0);
                            let before = if begin.is_some() { Vec::new() } else { before };
                            return Some(Query { at, before });
                        }
                    }
                }
            }
        }
        None
    }
}

/// What a message with its length in front is, as far as it has come.
fn seen(message: &[u8]) -> Seen {
    let [high, low, message @ ..] = message else { return Seen::Part };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length == 0 {
        return Seen::Unasked(0);
    }
    // A response has the first bit of the flags.
    let is_query = |flags: &u8| flags & 0x80 == 0 && flags >> 3 <= LAST_OPCODE;
    if length < 12 || !message.get(2).is_none_or(is_query) {
        return Seen::Nothing;
    }
    let Some((header, question)) = message.split_at_checked(12) else { return Seen::Part };
    // What nobody answers who is asked, and other protocols have: answers, more than one record of an authority
    // (RFC 1995 has one), many others.
    let [_, _, _, _, 0, questions, 0, 0, 0, authorities @ (0 | 1), 0, 0..=16] = header else {
        return Seen::Nothing;
    };
    match questions {
        0 if *authorities == 0 => return Seen::Unasked(length - 12),
        0 => return Seen::Nothing,
        _ => {}
    }
    let mut at = 0;
    while let Some(label) = question.get(at) {
        match label {
            0 => break,
            1..=63 => at += 1 + usize::from(*label),
            _ => return Seen::Nothing,
        }
        if at > 254 {
            return Seen::Nothing;
        }
    }
    if 12 + at + 5 > length {
        return Seen::Nothing;
    }
    let Some([_, _, high, low]) = question.get(at + 1..at + 5) else { return Seen::Part };
    // IN, CH, HS, NONE, ANY; the first bit is that of multicast DNS.
    match u16::from_be_bytes([*high & 0x7f, *low]) {
        1 | 3 | 4 | 254 | 255 => Seen::Query,
        _ => Seen::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"\x03www\x04evil\x07example\0";

    fn message(questions: u8, rest: &[u8]) -> Vec<u8> {
        let message = [&[7, 7, 1, 0, 0, questions, 0, 0, 0, 0, 0, 0], rest].concat();
        [&(message.len() as u16).to_be_bytes(), &message[..]].concat()
    }

    fn query() -> Vec<u8> {
        message(1, &[NAME, &[0, 1, 0, 1]].concat())
    }

    /// Where a query begins in `bytes`, however they are cut.
    fn found(bytes: &[u8]) -> Option<usize> {
        let mut found = [1, 2, 5, 13, bytes.len()].map(|size| {
            let mut queries = Queries::default();
            let mut read = 0;
            bytes.chunks(size).find_map(|piece| {
                let query = queries.look(Way::ToServer, piece);
                read += piece.len();
                let query = query?;
                let begin = read - piece.len() + query.at - query.before.len();
                assert_eq!(query.before, bytes[begin..begin + query.before.len()]);
                Some(begin)
            })
        });
        assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        found[0].take()
    }

    #[test]
    fn queries_are_found_behind_messages_without_a_question() {
        assert_eq!(found(&query()), Some(0));
        assert_eq!(found(&[query(), query()].concat()), Some(0));
        assert_eq!(found(&[&[0, 0], &query()[..]].concat()), Some(2));
        let cookie = message(0, b"some option");
        assert_eq!(found(&[&cookie[..], &query()].concat()), Some(cookie.len()));
        assert_eq!(found(&message(1, &[0, 0, 2, 0, 1])), Some(0));
        assert_eq!(found(&message(1, &[NAME, &[0, 1, 0, 1], &[9; 300]].concat())), Some(0));
    }

    #[test]
    fn other_protocols_are_none() {
        let mut response = query();
        response[4] = 0x81;
        let mut long = query();
        long[1] -= 1;
        for other in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"EHLO there\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03and so on and on",
            &[0, 5, 1, 2, 3, 4, 5],
            &[0, 0, 0, 0, 0, 0],
            &message(1, b"\xc0\x0c\0\x01\0\x01"),
            &message(1, &[NAME, &[0, 1, 9, 9]].concat()),
            // What is TLS, and could be taken for a name behind that.
            b"\x16\x03\x01\x01\x10\x01\x00\x01\x0c\x03\x03\x01\x02\x03\x00\x00\x01\x00\x01\x00\x00\x00\x01\x00\x01",
            // Kafka's and PostgreSQL's first messages.
            b"\0\0\0\x2b\0\x12\0\x03\0\0\0\x01\0\x06client\0\0\x01\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\0\0\0\x29\0\x03\0\0user\0me\0database\0db\0\0\0\x01\0\x01\0\0\0\0\0\0",
            &response,
            &long,
        ] {
            assert_eq!(found(other), None, "{other:?}");
        }
        let mut queries = Queries::default();
        assert_eq!(queries.look(Way::ToClient, &query()), None);
        assert!(queries.look(Way::ToServer, &query()).is_some());
    }
}
