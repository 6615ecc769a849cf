//! How both sides of a stream agree to go on in TLS: one question and one answer, with nothing around them.
//!
//! Whatever else stands in a turn with them could be meant to be read as if TLS had protected it
//! (CVE-2011-0411, CVE-2021-23214): then they agreed on nothing.

use icap_client::Way;

/// Bytes of a turn that are kept: no question and no answer is longer.
const MOST: usize = 1024;
/// What a client of PostgreSQL asks, which a server answers with one letter.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f];
/// RFC 4511 section 4.14.
const LDAP_START_TLS: &[u8] = b"1.3.6.1.4.1.1466.20037";
/// RFC 6120 section 5.4.2.
const XMPP_TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
/// A client of MySQL says that it goes on in TLS, and does; the packet's head included.
const MYSQL_REQUEST: usize = 36;
/// The bit for that among its capabilities.
const MYSQL_TLS: u8 = 0x08;

/// What was said in the last turn of each side.
#[derive(Debug, Default)]
pub(super) struct Talk {
    turns: [Turn; 2],
    speaker: Option<Way>,
    /// What a server said that spoke first.
    greeting: Option<Vec<u8>>,
    /// The client's turn follows a question and an answer that agree on TLS.
    is_agreed: bool,
}

#[derive(Debug, Default)]
struct Turn {
    /// Its beginning.
    said: Vec<u8>,
    is_longer: bool,
}

impl Turn {
    fn add(&mut self, bytes: &[u8]) {
        let room = MOST - self.said.len();
        self.is_longer |= bytes.len() > room;
        self.said.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn whole(&self) -> Option<&[u8]> {
        (!self.is_longer).then_some(&self.said)
    }
}

impl Talk {
    /// Takes in what was read, in the order of reading. If the client is to go on in TLS, where in `bytes` that
    /// begins: at their end if nothing of it has come.
    pub(super) fn hear(&mut self, way: Way, bytes: &[u8]) -> Option<usize> {
        if self.speaker != Some(way) {
            self.speaker = Some(way);
            if way == Way::ToServer && self.greeting.is_none() {
                let greeting = self.turns[Way::ToClient as usize].whole();
                self.greeting = Some(greeting.unwrap_or_default().to_vec());
            }
            self.is_agreed = way == Way::ToServer && self.agrees();
            self.turns[way as usize] = Turn::default();
        }
        let before = self.turns[way as usize].said.len();
        self.turns[way as usize].add(bytes);
        if way == Way::ToClient {
            return None;
        }
        if self.is_agreed {
            return (before == 0).then_some(0);
        }
        let is_due = before < MYSQL_REQUEST && before + bytes.len() >= MYSQL_REQUEST;
        (is_due && self.asks_mysql()).then(|| MYSQL_REQUEST - before)
    }

    /// What the server said before the client's first word.
    pub(super) fn greeting(&self) -> &[u8] {
        self.greeting.as_deref().unwrap_or_default()
    }

    /// Whether the last two turns are a question for TLS and the answer to that.
    fn agrees(&self) -> bool {
        let [asked, answered] = [Way::ToServer, Way::ToClient].map(|way| &self.turns[way as usize]);
        let (Some(asked), Some(answered)) = (asked.whole(), answered.whole()) else { return false };
        if asked == SSL_REQUEST {
            return answered == b"S";
        }
        ldap(asked, answered) || lines(asked, answered) || xmpp(asked, answered)
    }

    /// Whether the client's turn begins as one does that asks a server of MySQL for TLS and does not await an
    /// answer.
    fn asks_mysql(&self) -> bool {
        let greeting = self.turns[Way::ToClient as usize].whole().unwrap_or_default();
        let is_greeting = match greeting {
            [low, middle, high, 0, 10, rest @ ..] => {
                u32::from_le_bytes([*low, *middle, *high, 0]) as usize == rest.len() + 1
            }
            _ => false,
        };
        let said = &self.turns[Way::ToServer as usize].said;
        is_greeting && matches!(said[..], [32, 0, 0, 1, _, high, ..] if high & MYSQL_TLS != 0)
    }
}

/// Protocols of lines: SMTP and LMTP (RFC 3207), NNTP (RFC 4642), FTP (RFC 4217), POP3 and IMAP (RFC 2595), ManageSieve
/// (RFC 5804).
fn lines(asked: &[u8], answered: &[u8]) -> bool {
    let (Some(asked), Some(answered)) = (one_line(asked), text(answered)) else { return false };
    let words: Vec<&str> = asked.split(' ').collect();
    let is = |word: &str, command: &str| word.eq_ignore_ascii_case(command);
    match words[..] {
        [command] if is(command, "STARTTLS") => {
            reply(answered, "220") || reply(answered, "382") || answers(answered, "OK")
        }
        [command] if is(command, "STLS") => answers(answered, "+OK"),
        ["AUTH" | "auth" | "Auth", kind] => {
            ["TLS", "SSL", "TLS-C"].iter().any(|known| is(kind, known)) && reply(answered, "234")
        }
        [tag, command] if is(command, "STARTTLS") && !tag.is_empty() => {
            let rest = answered.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' '));
            rest.is_some_and(|rest| answers(rest, "OK"))
        }
        _ => false,
    }
}

/// A line without its end, if that is all.
fn one_line(bytes: &[u8]) -> Option<&str> {
    let line = text(bytes)?.strip_suffix("\r\n")?;
    (!line.contains(['\r', '\n'])).then(|| line.trim_end_matches(' '))
}

fn text(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok()
}

/// Whether that is one line, whose first word is `word`.
fn answers(answer: &str, word: &str) -> bool {
    one_line(answer.as_bytes())
        .and_then(|line| line.split(' ').next())
        .is_some_and(|first| first.eq_ignore_ascii_case(word))
}

/// Whether that is one reply with this code, of one line or several (RFC 5321 section 4.2.1).
fn reply(answer: &str, code: &str) -> bool {
    let Some(all) = answer.strip_suffix("\r\n") else { return false };
    let mut lines = all.split("\r\n").peekable();
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix(code) else { return false };
        let is_last = lines.peek().is_none();
        let goes_on = rest.starts_with('-');
        let is_end = rest.is_empty() || rest.starts_with(' ');
        if line.contains(['\r', '\n']) || (is_last && !is_end) || (!is_last && !goes_on) {
            return false;
        }
    }
    true
}

/// RFC 6120 section 5.4.2.
fn xmpp(asked: &[u8], answered: &[u8]) -> bool {
    is_element(asked, "starttls") && is_element(answered, "proceed")
}

/// Whether that is an element of this name, with nothing in it, in the namespace of TLS.
fn is_element(bytes: &[u8], name: &str) -> bool {
    let inside = || {
        let all = text(bytes)?.trim_ascii();
        let start = all.strip_prefix('<')?.strip_prefix(name)?;
        match start.strip_suffix("/>") {
            Some(inside) => Some(inside),
            None => start.strip_suffix('>')?.strip_suffix(name)?.strip_suffix("></"),
        }
    };
    inside().is_some_and(|inside| {
        let is_namespace = |quote: char| {
            let value = inside.trim_ascii().strip_prefix("xmlns=");
            value.and_then(|value| value.strip_prefix(quote)?.strip_suffix(quote)) == Some(XMPP_TLS)
        };
        inside.starts_with([' ', '\n', '\t']) && (is_namespace('"') || is_namespace('\''))
    })
}

/// RFC 4511 section 4.14.
fn ldap(asked: &[u8], answered: &[u8]) -> bool {
    let request = || {
        let (id, operation) = message(asked, 0x77)?;
        let (name, _) = element(operation, 0x80)?;
        (name == LDAP_START_TLS).then_some(id)
    };
    let response = || {
        let (id, operation) = message(answered, 0x78)?;
        // An enumeration: success.
        let (code, _) = element(operation, 0x0a)?;
        (code == [0]).then_some(id)
    };
    request().is_some_and(|id| response() == Some(id))
}

/// The id and the operation of this kind in an LDAPMessage, if that is all (RFC 4511 section 4.1.1).
fn message(bytes: &[u8], operation: u8) -> Option<(&[u8], &[u8])> {
    let (message, behind) = element(bytes, 0x30)?;
    let (id, rest) = element(message, 2)?;
    let (operation, _) = element(rest, operation)?;
    behind.is_empty().then_some((id, operation))
}

/// What is in the element at the start, which has this tag, and what is behind it (X.690 section 8.1).
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *bytes.strip_prefix(&[tag])? {
        [short @ ..=0x7f, ref rest @ ..] => (usize::from(short), rest),
        [0x81, length, ref rest @ ..] => (usize::from(length), rest),
        [0x82, high, low, ref rest @ ..] => (usize::from(u16::from_be_bytes([high, low])), rest),
        // Long for no reason, as some write them.
        [0x84, 0, 0, high, low, ref rest @ ..] => {
            (usize::from(u16::from_be_bytes([high, low])), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where TLS begins in what the client says last.
    fn hear(said: &[(Way, &[u8])], cut: usize) -> Option<usize> {
        let mut talk = Talk::default();
        let (mut at, mut found) = (0, None);
        for (way, bytes) in said {
            if *way == Way::ToServer {
                at = 0;
            }
            for piece in bytes.chunks(cut) {
                if let Some(begins) = talk.hear(*way, piece) {
                    found.get_or_insert(at + begins);
                }
                at += piece.len();
            }
        }
        found
    }

    fn agree(asked: &[u8], answered: &[u8]) -> bool {
        let greeting: &[u8] = b"220 here\r\n";
        let said = [
            (Way::ToClient, greeting),
            (Way::ToServer, asked),
            (Way::ToClient, answered),
            (Way::ToServer, b"\x16\x03\x01"),
        ];
        let found = [1, 2, 7, 1000].map(|cut| hear(&said, cut));
        assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        found[0] == Some(0)
    }

    const LDAP: [&[u8]; 2] = [
        b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037",
        b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00",
    ];
    const XMPP: [&[u8]; 2] = [
        b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ];

    #[test]
    fn a_question_and_its_answer_agree() {
        let pairs: &[(&[u8], &[u8])] = &[
            (b"STARTTLS\r\n", b"220 go on\r\n"),
            (b"starttls \r\n", b"220-go\r\n220-on\r\n220 now\r\n"),
            (b"STARTTLS\r\n", b"382 Continue\r\n"),
            (b"STARTTLS\r\n", b"OK \"begin\"\r\n"),
            (b"STLS\r\n", b"+OK begin\r\n"),
            (b"AUTH TLS\r\n", b"234 AUTH TLS OK.\r\n"),
            (b"AUTH SSL\r\n", b"234-x\r\n234 OK.\r\n"),
            (b"a1 StartTLS\r\n", b"a1 OK begin\r\n"),
            (&SSL_REQUEST, b"S"),
            (LDAP[0], LDAP[1]),
            (XMPP[0], XMPP[1]),
            (b"<starttls xmlns=\"urn:ietf:params:xml:ns:xmpp-tls\"></starttls>\n", XMPP[1]),
        ];
        for (asked, answered) in pairs {
            assert!(agree(asked, answered), "{}", asked.escape_ascii());
            // With anything around either of them they agree on nothing.
            for around in
                [&b"NOOP\r\n"[..], b"220 x\r\n", b"\n", b"S", b"<a/>", b"\0", b"a1 OK\r\n"]
            {
                assert!(!agree(&[asked, around].concat(), answered) || around == b"\n");
                assert!(!agree(&[around, asked].concat(), answered) || around == b"\n");
                assert!(!agree(asked, &[around, answered].concat()) || around == b"\n");
                let behind = [answered, around].concat();
                assert!(!agree(asked, &behind) || around == b"\n", "{}", behind.escape_ascii());
            }
        }
    }

    #[test]
    fn whoever_says_no_or_something_else_has_not_agreed() {
        let pairs: &[(&[u8], &[u8])] = &[
            (b"STARTTLS\r\n", b"454 not now\r\n"),
            (b"STARTTLS\r\n", b"220 go\n"),
            (b"STARTTLS\n", b"220 go\r\n"),
            (b"STARTTLS\r\n", b"220-go\r\n"),
            (b"STARTTLS\r\n", b"220 a\r\n220 b\r\n"),
            (b"STARTTLS\r\n", b"220-a\r\n250 b\r\n"),
            (b"NOOP\r\n", b"220 go\r\n"),
            (b"a1 STARTTLS\r\n", b"a2 OK begin\r\n"),
            (b"a1 STARTTLS\r\n", b"a1 NO begin\r\n"),
            (b" STARTTLS\r\n", b" OK begin\r\n"),
            (&SSL_REQUEST, b"N"),
            (&SSL_REQUEST, b"SS"),
            (LDAP[0], b"\x30\x0c\x02\x01\x02\x78\x07\x0a\x01\x00\x04\x00\x04\x00"),
            (LDAP[0], b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x34\x04\x00\x04\x00"),
            (LDAP[0], b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04"),
            (XMPP[0], b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
            (XMPP[0], b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><a xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        ];
        for (asked, answered) in pairs {
            assert!(!agree(asked, answered), "{}", answered.escape_ascii());
        }
        let long = [&b"220-"[..], &[b'x'; 2 * MOST], b"\r\n220 go\r\n"].concat();
        assert!(!agree(b"STARTTLS\r\n", &long));
        // Who asked before and says something else first.
        let said: &[(_, &[u8])] = &[
            (Way::ToServer, b"STARTTLS\r\n"),
            (Way::ToClient, b"220 go\r\n"),
            (Way::ToServer, b"NOOP\r\n"),
            (Way::ToClient, b"220 go\r\n"),
        ];
        assert_eq!(hear(said, 100), Some(0));
        assert_eq!(hear(&[said, &[(Way::ToServer, b"\x16\x03\x01")]].concat()[2..], 100), None);
    }

    #[test]
    fn mysql_goes_on_without_an_answer() {
        let mut greeting = vec![60, 0, 0, 0, 10];
        greeting.resize(4 + 60, b'x');
        let mut request = vec![32, 0, 0, 1, 0x85, 0xae, 3, 0, 0, 0, 0, 1, 45];
        request.resize(MYSQL_REQUEST, 0);
        let hello = b"\x16\x03\x01\x02\x00\x01";
        for cut in 1..80 {
            let said = [&request[..], hello].concat();
            let found = hear(&[(Way::ToClient, &greeting), (Way::ToServer, &said)], cut);
            assert_eq!(found, Some(MYSQL_REQUEST), "{cut}");
        }
        let mut plain = request.clone();
        plain[5] = 0xa6;
        let short = &greeting[..60];
        for (greeting, request) in [(&greeting[..], &plain), (short, &request)] {
            let said = [&request[..], hello].concat();
            assert_eq!(hear(&[(Way::ToClient, greeting), (Way::ToServer, &said)], 1000), None);
        }
    }
}
