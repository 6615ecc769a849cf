//! A strict reader for the ClientHello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2), without IO.
//!
//! It reads what decisions need, before anything is answered; the handshake itself is rustls'.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::words::Target;

/// The most bytes that a ClientHello may take, record headers included. Those of today's
/// browsers with post-quantum key shares and grease take about 2 KiB.
pub const MAX_HELLO: usize = 32 * 1024;

const RECORD_HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_SIGNATURE_ALGORITHMS: u16 = 13;
const EXTENSION_ALPN: u16 = 16;
const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;
const EXTENSION_ECH: u16 = 0xfe0d;

const TLS_1_3: u16 = 0x0304;
/// RFC 8446 section 4.2.3: the only scheme of P-256 keys.
const ECDSA_SECP256R1_SHA256: u16 = 0x0403;
/// RFC 8446 section 4.2.3: those of RSA keys; the last three do in TLS 1.3 too.
const RSA_SCHEMES: [u16; 6] = [0x0401, 0x0501, 0x0601, 0x0804, 0x0805, 0x0806];
/// The suites of TLS 1.2 that are spoken here, for ECDSA and for RSA: with AES of 128 and of 256 bits and with
/// ChaCha20 (RFC 5289, RFC 7905).
const ECDSA_SUITES: [u16; 3] = [0xc02b, 0xc02c, 0xcca9];
const RSA_SUITES: [u16; 3] = [0xc02f, 0xc030, 0xcca8];

/// What a client said in its ClientHello.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name asked for, lower case. Addresses, which RFC 6066 section 3 does not allow,
    /// are left out.
    pub server_name: Option<Arc<str>>,
    /// The application protocols offered, most wanted first; `None` without the extension.
    pub alpn: Option<Vec<Box<[u8]>>>,
    /// Whether TLS 1.2 or 1.3 is among the versions offered.
    pub modern: bool,
    /// Whether it can agree with us on a certificate that has an RSA key, and on none with P-256.
    pub rsa_only: bool,
    /// Whether an Encrypted ClientHello (or grease that looks like one) is there.
    pub encrypted: bool,
    /// How many bytes its records take.
    pub length: usize,
}

/// Bytes that are no acceptable ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelloError(&'static str);

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an acceptable ClientHello: {}", self.0)
    }
}

impl std::error::Error for HelloError {}

/// Whether a connection that begins with `first` is TLS.
pub fn looks_like_tls(first: u8) -> bool {
    first == RECORD_HANDSHAKE
}

impl ClientHello {
    /// Reads the ClientHello at the start of `bytes`; `None` while it is not complete.
    ///
    /// # Errors
    /// It can never become an acceptable ClientHello, or is longer than [`MAX_HELLO`].
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, HelloError> {
        let Some((message, length)) = join_records(bytes)? else { return Ok(None) };
        let mut message = Reader(&message);
        message.u8()?;
        let mut hello = Reader(message.vector24()?);
        Self::read_body(&mut hello).map(|read| Some(Self { length, ..read }))
    }

    /// Whether it may follow `first` after a HelloRetryRequest: in what rules and signatures look at it
    /// must be the same (RFC 8446 section 4.1.2).
    pub fn repeats(&self, first: &Self) -> bool {
        *self == Self { length: self.length, ..first.clone() }
    }

    fn read_body(hello: &mut Reader<'_>) -> Result<Self, HelloError> {
        let legacy_version = hello.u16()?;
        hello.take(32)?;
        if hello.vector8()?.len() > 32 {
            return Err(HelloError("session id too long"));
        }
        let suites = numbers(hello.vector16()?).ok_or(HelloError("cipher suites"))?;
        if hello.vector8()?.is_empty() {
            return Err(HelloError("no compression method"));
        }
        let mut read = Self { modern: legacy_version >= 0x0303, ..Self::default() };
        if hello.0.is_empty() {
            return Ok(read);
        }
        let mut extensions = Reader(hello.vector16()?);
        if !hello.0.is_empty() {
            return Err(HelloError("bytes after the extensions"));
        }
        let (mut versions, mut schemes) = (Vec::new(), Vec::new());
        let mut seen = Vec::new();
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let mut body = Reader(extensions.vector16()?);
            if seen.contains(&kind) {
                return Err(HelloError("an extension twice"));
            }
            seen.push(kind);
            if seen.len() > 256 {
                return Err(HelloError("too many extensions"));
            }
            match kind {
                EXTENSION_SERVER_NAME => read.server_name = read_server_name(&mut body)?,
                EXTENSION_ALPN => read.alpn = Some(read_alpn(&mut body)?),
                EXTENSION_SIGNATURE_ALGORITHMS => {
                    schemes = read_numbers(body.vector16()?, &body, "signature algorithms")?;
                }
                EXTENSION_SUPPORTED_VERSIONS => {
                    versions = read_numbers(body.vector8()?, &body, "supported versions")?;
                    read.modern = versions.iter().any(|v| matches!(v, 0x0303 | &TLS_1_3));
                }
                EXTENSION_ECH => read.encrypted = true,
                _ => {}
            }
        }
        read.rsa_only = is_rsa_only(&versions, &suites, &schemes);
        Ok(read)
    }
}

/// The handshake message that the records at the start of `bytes` carry, and how long these are.
fn join_records(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, HelloError> {
    let mut records = Reader(bytes);
    let mut message = Vec::new();
    loop {
        if bytes.len() - records.0.len() > MAX_HELLO {
            return Err(HelloError("too long"));
        }
        let header = records.0;
        if header.first().is_some_and(|kind| *kind != RECORD_HANDSHAKE) {
            return Err(HelloError("another record inside"));
        }
        if header.get(1).is_some_and(|major| *major != 3) {
            return Err(HelloError("record version"));
        }
        if header.len() < 5 {
            return Ok(None);
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > 1 << 14 {
            return Err(HelloError("record length"));
        }
        let arrived = &header[5..header.len().min(5 + length)];
        message.extend_from_slice(arrived);
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(HelloError("another message"));
        }
        if let [_, a, b, c, ..] = message[..] {
            let body = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if 4 + body > MAX_HELLO {
                return Err(HelloError("too long"));
            }
            // What the record announces counts, not what has come of it: the answer must not depend
            // on how the network cuts it.
            if message.len() - arrived.len() + length > 4 + body {
                return Err(HelloError("more than one message"));
            }
            if message.len() == 4 + body {
                return Ok(Some((message, bytes.len() - records.0.len() + 5 + length)));
            }
        }
        if arrived.len() < length {
            return Ok(None);
        }
        records.take(5 + length)?;
    }
}

fn read_server_name(body: &mut Reader<'_>) -> Result<Option<Arc<str>>, HelloError> {
    let mut names = Reader(body.vector16()?);
    if !body.0.is_empty() {
        return Err(HelloError("server name"));
    }
    let mut found = None;
    while !names.0.is_empty() {
        let kind = names.u8()?;
        let name = names.vector16()?;
        if kind != 0 {
            return Err(HelloError("server name type"));
        }
        if found.is_some() {
            return Err(HelloError("two server names"));
        }
        let name = str::from_utf8(name).map_err(|_| HelloError("server name"))?;
        found = Some(name);
    }
    let name = found.ok_or(HelloError("no server name in its extension"))?;
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let target = Target::new(name, 443).map_err(|_| HelloError("server name"))?;
    Ok(Some(target.host))
}

fn read_alpn(body: &mut Reader<'_>) -> Result<Vec<Box<[u8]>>, HelloError> {
    let mut names = Reader(body.vector16()?);
    if !body.0.is_empty() || names.0.is_empty() {
        return Err(HelloError("application protocols"));
    }
    let mut protocols = Vec::new();
    while !names.0.is_empty() {
        let name = names.vector8()?;
        if name.is_empty() || protocols.len() == 64 {
            return Err(HelloError("application protocols"));
        }
        protocols.push(name.into());
    }
    Ok(protocols)
}

/// The numbers in `list`, where `rest` of the extension is empty.
fn read_numbers(
    list: &[u8],
    rest: &Reader<'_>,
    what: &'static str,
) -> Result<Vec<u16>, HelloError> {
    numbers(list).filter(|_| rest.0.is_empty()).ok_or(HelloError(what))
}

/// One or more numbers of two bytes; `None` if `list` is none of these.
fn numbers(list: &[u8]) -> Option<Vec<u16>> {
    let (pairs, []) = list.as_chunks() else { return None };
    (!pairs.is_empty()).then(|| pairs.iter().copied().map(u16::from_be_bytes).collect())
}

/// Whether a client that offers these agrees with us on RSA and not on P-256: in TLS 1.3 by the signature
/// schemes alone, before it by the cipher suites too (RFC 8422 section 2).
fn is_rsa_only(versions: &[u16], suites: &[u16], schemes: &[u16]) -> bool {
    let takes = |known: &[u16], offered: &[u16]| known.iter().any(|one| offered.contains(one));
    let ecdsa = schemes.contains(&ECDSA_SECP256R1_SHA256);
    if versions.contains(&TLS_1_3) {
        return !ecdsa && takes(&RSA_SCHEMES[3..], schemes);
    }
    let ecdsa = ecdsa && takes(&ECDSA_SUITES, suites);
    !ecdsa && takes(&RSA_SCHEMES, schemes) && takes(&RSA_SUITES, suites)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], HelloError> {
        let (taken, rest) =
            self.0.split_at_checked(length).ok_or(HelloError("a length past the end"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.u8()?;
        self.take(length.into())
    }

    fn vector16(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn vector24(&mut self) -> Result<&'a [u8], HelloError> {
        let bytes = self.take(3)?;
        let length =
            usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        self.take(length)
    }
}

#[cfg(test)]
mod tests;
