//! What a server says first in a handshake, read from its records as far as that is in the clear
//! (RFC 8446 section 5.1, RFC 5246 section 6.2.1), without IO.

use std::fmt;

/// The most bytes of a server's first flight, record headers included. Chains of certificates take
/// about 4 KiB.
pub(super) const MAX_FLIGHT: usize = 128 * 1024;

const RECORD_CHANGE_CIPHER_SPEC: u8 = 20;
const RECORD_ALERT: u8 = 21;
const RECORD_HANDSHAKE: u8 = 22;
/// RFC 5246 section 7.2.
const WARNING: u8 = 1;
/// The most that a record holds in the clear.
const MAX_RECORD: usize = 1 << 14;

const SERVER_HELLO: u8 = 2;
const CERTIFICATE: u8 = 11;
const SERVER_HELLO_DONE: u8 = 14;

const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;
const TLS_1_3: u16 = 0x0304;
/// RFC 8446 section 4.1.3: the random of a ServerHello that asks for another ClientHello.
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// Reads the beginning of what a server says.
#[derive(Debug, Default)]
pub struct ServerFlight {
    /// Bytes of the records that were read.
    read: usize,
    /// The handshake messages in them, from the first on that is not complete.
    messages: Vec<u8>,
    /// The ServerHello that counts, once it came.
    hello: Option<Vec<u8>>,
    retried: bool,
}

/// How far a server's first flight has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is complete as far as it is in the clear: of TLS 1.3 the ServerHello, before it the
    /// certificate too, if there is any. Or it ended with an alert.
    Complete,
    /// More must come.
    Partial,
    /// The server wants another ClientHello first (HelloRetryRequest).
    Retry,
}

/// Bytes that no server says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlightError(&'static str);

impl fmt::Display for FlightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the beginning of a server's handshake: {}", self.0)
    }
}

impl std::error::Error for FlightError {}

impl ServerFlight {
    /// Reads on in `bytes`, which begin with the connection and have grown since the last call. To be
    /// asked again at once after [`Progress::Retry`].
    ///
    /// # Errors
    /// It can never become a server's first flight, or is longer than `MAX_FLIGHT`.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Progress, FlightError> {
        loop {
            if let Some(progress) = self.next_message()? {
                return Ok(progress);
            }
            let rest = bytes.get(self.read..).unwrap_or_default();
            if rest.get(1).is_some_and(|major| *major != 3) {
                return Err(FlightError("record version"));
            }
            let kind = rest.first().copied();
            let known = [RECORD_CHANGE_CIPHER_SPEC, RECORD_ALERT, RECORD_HANDSHAKE];
            if kind.is_some_and(|kind| !known.contains(&kind)) {
                return Err(FlightError("another record"));
            }
            let length = match rest {
                [_, _, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
                _ => return Ok(Progress::Partial),
            };
            if length == 0 || length > MAX_RECORD {
                return Err(FlightError("record length"));
            }
            if self.read + 5 + length > MAX_FLIGHT {
                return Err(FlightError("too long"));
            }
            let Some(content) = rest.get(5..5 + length) else { return Ok(Progress::Partial) };
            self.read += 5 + length;
            match kind {
                Some(RECORD_HANDSHAKE) => self.messages.extend_from_slice(content),
                _ if !self.messages.is_empty() => {
                    return Err(FlightError("a record within a message"));
                }
                // Only a warning, such as that the server does not go by that name.
                Some(RECORD_ALERT) if content.first() == Some(&WARNING) => {}
                Some(RECORD_ALERT) => return Ok(Progress::Complete),
                // Of a resumed session.
                _ if self.hello.is_some() => return Ok(Progress::Complete),
                // After a HelloRetryRequest it means nothing (RFC 8446 appendix D.4).
                _ if self.retried => {}
                _ => return Err(FlightError("another record")),
            }
        }
    }

    /// What follows a HelloRetryRequest, which was taken off the bytes.
    #[must_use]
    pub fn after_retry(&self) -> Self {
        Self { retried: self.retried, ..Self::default() }
    }

    /// How many bytes the records take that were read.
    pub fn bytes_read(&self) -> usize {
        self.read
    }

    /// The last ServerHello, with its header, once it came.
    pub fn hello(&self) -> Option<&[u8]> {
        self.hello.as_deref()
    }

    /// Takes in the next message; `None` if it is not complete, or leads nowhere by itself.
    fn next_message(&mut self) -> Result<Option<Progress>, FlightError> {
        while let [kind, a, b, c, ..] = self.messages[..] {
            if self.hello.is_none() && kind != SERVER_HELLO {
                return Err(FlightError("another message"));
            }
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if 4 + length > MAX_FLIGHT {
                return Err(FlightError("too long"));
            }
            if self.messages.len() < 4 + length {
                return Ok(None);
            }
            let rest = self.messages.split_off(4 + length);
            let message = std::mem::replace(&mut self.messages, rest);
            match kind {
                SERVER_HELLO => {
                    let hello = Hello::read(&message[4..]).ok_or(FlightError("ServerHello"))?;
                    match hello {
                        Hello::Retry if self.retried || !self.messages.is_empty() => {
                            return Err(FlightError("more behind a HelloRetryRequest"));
                        }
                        Hello::Retry => {
                            self.retried = true;
                            return Ok(Some(Progress::Retry));
                        }
                        Hello::Clear | Hello::Sealed if self.hello.is_some() => {
                            return Err(FlightError("a second ServerHello"));
                        }
                        Hello::Clear => self.hello = Some(message),
                        Hello::Sealed => {
                            self.hello = Some(message);
                            return Ok(Some(Progress::Complete));
                        }
                    }
                }
                CERTIFICATE | SERVER_HELLO_DONE => return Ok(Some(Progress::Complete)),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// What a ServerHello leads to.
enum Hello {
    /// What follows is in the clear (before TLS 1.3).
    Clear,
    /// Another ClientHello.
    Retry,
    /// What follows is encrypted (TLS 1.3).
    Sealed,
}

impl Hello {
    /// Reads the message without its header (RFC 8446 section 4.1.3).
    fn read(body: &[u8]) -> Option<Self> {
        let (_, rest) = body.split_at_checked(2)?;
        let (random, rest) = rest.split_at_checked(32)?;
        let (session, rest) = rest.split_first()?;
        let (_, rest) = rest.split_at_checked(usize::from(*session))?;
        let (_, mut rest) = rest.split_at_checked(3)?;
        if random == RETRY {
            return Some(Self::Retry);
        }
        if rest.is_empty() {
            return Some(Self::Clear);
        }
        let (length, extensions) = rest.split_first_chunk()?;
        if usize::from(u16::from_be_bytes(*length)) != extensions.len() {
            return None;
        }
        rest = extensions;
        let mut read = Self::Clear;
        while !rest.is_empty() {
            let (kind, after) = rest.split_first_chunk()?;
            let (length, after) = after.split_first_chunk()?;
            let (value, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
            if u16::from_be_bytes(*kind) == EXTENSION_SUPPORTED_VERSIONS
                && value == TLS_1_3.to_be_bytes()
            {
                read = Self::Sealed;
            }
            rest = after;
        }
        Some(read)
    }
}

/// Handshake messages, in records of plain text.
pub(super) fn records(messages: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(messages.len() + 5 + 5 * (messages.len() / MAX_RECORD));
    for piece in messages.chunks(MAX_RECORD) {
        out.extend_from_slice(&[RECORD_HANDSHAKE, 3, 3]);
        // At most 16,384.
        out.extend_from_slice(&(piece.len() as u16).to_be_bytes());
        out.extend_from_slice(piece);
    }
    out
}

/// A Certificate message as TLS 1.2 has it, with this chain (RFC 5246 section 7.4.2), and a
/// ServerHelloDone. `None` if the chain is longer than the message can say.
pub(super) fn certificates<'a>(chain: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    for certificate in chain {
        list.extend_from_slice(&length24(certificate.len())?);
        list.extend_from_slice(certificate);
    }
    let mut messages = vec![CERTIFICATE];
    messages.extend_from_slice(&length24(list.len() + 3)?);
    messages.extend_from_slice(&length24(list.len())?);
    messages.extend_from_slice(&list);
    messages.extend_from_slice(&[SERVER_HELLO_DONE, 0, 0, 0]);
    Some(messages)
}

fn length24(length: usize) -> Option<[u8; 3]> {
    let [0, bytes @ ..] = u32::try_from(length).ok()?.to_be_bytes() else { return None };
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(random: [u8; 32], version: Option<u16>) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend(random);
        body.extend([0, 0x13, 1, 0]);
        if let Some(version) = version {
            body.extend([0, 6, 0, 43, 0, 2]);
            body.extend(version.to_be_bytes());
        }
        message(SERVER_HELLO, &body)
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        [&[kind], &length24(body.len()).unwrap()[..], body].concat()
    }

    /// How it goes with so many bytes more each time.
    fn read(bytes: &[u8], step: usize) -> Result<(Vec<Progress>, ServerFlight), FlightError> {
        let mut flight = ServerFlight::default();
        let mut went = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            at = (at + step).min(bytes.len());
            loop {
                match flight.read(&bytes[..at])? {
                    Progress::Partial => break,
                    Progress::Retry => went.push(Progress::Retry),
                    Progress::Complete => {
                        went.push(Progress::Complete);
                        return Ok((went, flight));
                    }
                }
            }
        }
        Ok((went, flight))
    }

    #[test]
    fn tls_1_3_is_complete_with_its_hello_and_1_2_with_its_certificate() {
        let sealed = hello([7; 32], Some(TLS_1_3));
        let clear = hello([7; 32], None);
        let chain = certificates([&[1; 300][..], &[2; 40_000]].into_iter()).unwrap();
        let retry = hello(RETRY, Some(TLS_1_3));
        let change = [20, 3, 3, 0, 1, 1];
        let status = message(22, &[0; 50]);
        for step in [1, 7, 5_000, 1 << 20] {
            let (went, flight) =
                read(&[records(&sealed), vec![23, 3, 3, 0, 1, 0]].concat(), step).unwrap();
            assert_eq!(went, [Progress::Complete], "{step}");
            assert_eq!(flight.hello(), Some(&sealed[..]));
            assert_eq!(flight.bytes_read(), sealed.len() + 5);

            let all = records(&[&clear[..], &chain].concat());
            let (went, flight) = read(&all, step).unwrap();
            assert_eq!(went, [Progress::Complete], "{step}");
            assert_eq!((flight.hello(), flight.bytes_read()), (Some(&clear[..]), all.len()));

            let two = [records(&retry), change.to_vec(), records(&sealed)].concat();
            let (went, flight) = read(&two, step).unwrap();
            assert_eq!(went, [Progress::Retry, Progress::Complete], "{step}");
            assert_eq!(flight.hello(), Some(&sealed[..]));

            let resumed = [records(&[&clear[..], &status].concat()), change.to_vec()].concat();
            assert_eq!(read(&resumed, step).unwrap().0, [Progress::Complete], "{step}");
            let [warning, fatal] = [1, 2].map(|level| [21, 3, 3, 0, 2, level, 112]);
            assert_eq!(read(&fatal, step).unwrap().0, [Progress::Complete], "{step}");
            let warned = [&warning[..], &records(&sealed)].concat();
            let (went, flight) = read(&warned, step).unwrap();
            assert_eq!((went, flight.hello()), (vec![Progress::Complete], Some(&sealed[..])));
        }
    }

    #[test]
    fn what_no_server_says_is_refused() {
        let clear = hello([7; 32], None);
        let retry = hello(RETRY, Some(TLS_1_3));
        let mut lying = clear.clone();
        lying.extend([0, 9]);
        lying[3] += 2;
        let long = records(&[&clear[..], &message(CERTIFICATE, &[0; MAX_FLIGHT])].concat());
        let many = [records(&clear), records(&message(22, &[0; 100])).repeat(2_000)].concat();
        for bytes in [
            b"HTTP/1.1 200 OK\r\n".to_vec(),
            vec![22, 2, 0, 0, 1, 2],
            [&[20, 3, 3, 0, 1, 1][..], &records(&clear)].concat(),
            vec![22, 3, 3, 0, 0],
            vec![22, 3, 3, 0x40, 1],
            records(&message(CERTIFICATE, &[0; 3])),
            records(&lying),
            records(&retry.repeat(2)),
            records(&clear.repeat(2)),
            [records(&clear[..20]), vec![21, 3, 3, 0, 2, 2, 40]].concat(),
            long,
            many,
        ] {
            for step in [1, 1 << 20] {
                assert!(read(&bytes, step).is_err(), "{:x?}", &bytes[..bytes.len().min(40)]);
            }
        }
    }

    #[test]
    fn a_chain_is_as_long_as_its_message_can_say() {
        let most = vec![0; (1 << 24) - 1 - 6];
        assert!(certificates([&most[..]].into_iter()).is_some());
        assert!(certificates([&most[..], &[0]].into_iter()).is_none());
    }
}
