//! Who a transaction belongs to, as far as the ICAP client says.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use icap::Headers;

use crate::settings::StandIns;

/// The flow that a transaction belongs to: 128 bits of keyed hash, so that nobody outside can
/// make two connections share a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey(u64, u64);

impl FlowKey {
    /// One of `n` places, evenly and stable while the program runs.
    pub(crate) fn bucket(self, n: usize) -> usize {
        (self.0 % n.max(1) as u64) as usize
    }
}

/// Makes [`FlowKey`]s; one for the whole process.
#[derive(Debug, Default)]
pub(crate) struct Keys(RandomState, RandomState);

impl Keys {
    fn key(&self, value: impl Hash) -> FlowKey {
        FlowKey(self.0.hash_one(&value), self.1.hash_one(&value))
    }
}

/// A map by flow.
pub(crate) type FlowMap<V> = HashMap<FlowKey, V, BuildHasherDefault<AsItIs>>;

/// Takes the second half of a [`FlowKey`] for its hash, which it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write_u64(&mut self, half: u64) {
        self.0 = half;
    }

    /// Not called for a key, which has numbers alone.
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |so_far, &b| so_far.rotate_left(8) ^ u64::from(b));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// How the parts of one flow are told from those of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Correlation {
    /// Only the client's address is known (Squid): request and response are joined by the request
    /// head, and everything of one client meets on one thread.
    Client(FlowKey),
    /// `X-Connection-Id`, or the full tuple: requests and responses in order on one flow.
    Connection(FlowKey),
    /// The same of one HTTP/2 or HTTP/3 stream: it has a flow to itself while it lasts.
    Stream {
        /// The stream.
        stream: FlowKey,
        /// Its connection, whose other streams may have the flow afterwards.
        connection: FlowKey,
    },
    /// Nothing is known: each transaction is a flow.
    #[default]
    None,
}

/// What an ICAP client says about the connection that a transaction came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claims<'a> {
    /// `X-Client-IP`.
    pub(crate) client_ip: Option<IpAddr>,
    /// `X-Client-Port`.
    pub(crate) client_port: Option<u16>,
    /// `X-Server-IP`.
    pub(crate) server_ip: Option<IpAddr>,
    /// `X-Server-Port`.
    pub(crate) server_port: Option<u16>,
    /// `X-Connection-Id`.
    pub(crate) connection: Option<&'a str>,
    /// `X-Stream-Id`: HTTP/2 or HTTP/3.
    pub(crate) stream: Option<u64>,
    /// `X-Transaction-Id`.
    pub(crate) transaction: Option<&'a str>,
    /// `X-Range-Overlap`: the message is a part of a resource that shows more than is delivered of
    /// it, so much that nothing is torn between two of them.
    pub(crate) overlap: Option<u64>,
    /// A header was there, but no address, port or number that means anything.
    pub(crate) absurd: bool,
    /// How to find the transaction's flow.
    pub(crate) correlation: Correlation,
}

/// The headers that say it.
const NAMES: [&[u8]; 8] = [
    b"X-Client-IP",
    b"X-Client-Port",
    b"X-Server-IP",
    b"X-Server-Port",
    b"X-Connection-Id",
    b"X-Stream-Id",
    b"X-Transaction-Id",
    b"X-Range-Overlap",
];

/// Longest identifier taken from a client, in bytes; a longer one counts as absurd.
const MAX_ID: usize = 128;

impl<'a> Claims<'a> {
    /// Reads the headers. Of several with one name the first counts.
    pub(crate) fn read(headers: &'a Headers, keys: &Keys) -> Self {
        let mut said = [None; NAMES.len()];
        for (name, value) in headers.iter().filter(|(name, _)| name.get(1) == Some(&b'-')) {
            if let Some(place) = NAMES.iter().position(|known| known.eq_ignore_ascii_case(name)) {
                said[place].get_or_insert(value);
            }
        }
        let [
            client_ip,
            client_port,
            server_ip,
            server_port,
            connection,
            stream,
            transaction,
            overlap,
        ] = said.map(|value| str::from_utf8(value?).ok());
        let mut absurd = false;
        let mut ip = |text| {
            let ip = parsed(text, &mut absurd, |text: &str| text.parse().ok().map(plain))?;
            (!ip.is_unspecified() && !ip.is_multicast()).then_some(ip).or_else(|| {
                absurd = true;
                None
            })
        };
        let (client_ip, server_ip) = (ip(client_ip), ip(server_ip));
        let mut port = |text| {
            parsed(text, &mut absurd, |text: &str| text.parse().ok().filter(|&port| port != 0))
        };
        let (client_port, server_port) = (port(client_port), port(server_port));
        let stream = parsed(stream, &mut absurd, |text: &str| text.parse().ok());
        let overlap = parsed(overlap, &mut absurd, |text: &str| text.parse().ok());
        let mut id = |text| parsed(text, &mut absurd, |text: &'a str| identifier(text));
        let (connection, transaction) = (id(connection), id(transaction));
        let mut claims = Self {
            client_ip,
            client_port,
            server_ip,
            server_port,
            connection,
            stream,
            transaction,
            overlap,
            absurd,
            correlation: Correlation::None,
        };
        claims.correlation = claims.correlate(keys);
        claims
    }

    /// An identifier is not trusted alone: two ICAP clients may count from one, so that the
    /// addresses are part of the key.
    pub(crate) fn correlate(&self, keys: &Keys) -> Correlation {
        let client = self.client_ip.zip(self.client_port);
        let server = self.server_ip.zip(self.server_port);
        match (self.connection, client, server) {
            (Some(id), client, _) => self.connection(keys, ("id", id, client)),
            (None, Some(client), Some(server)) => self.connection(keys, ("tuple", client, server)),
            _ => match self.client_ip {
                Some(ip) => Correlation::Client(keys.key(("client", ip))),
                None => Correlation::None,
            },
        }
    }

    fn connection(&self, keys: &Keys, connection: impl Hash) -> Correlation {
        match self.stream {
            None => Correlation::Connection(keys.key(connection)),
            Some(stream) => Correlation::Stream {
                stream: keys.key((&connection, stream)),
                connection: keys.key(&connection),
            },
        }
    }

    /// The key under which a request waits for its response when only the client is known.
    pub(crate) fn request_key(
        &self,
        keys: &Keys,
        method: &[u8],
        target: &[u8],
        host: &[u8],
    ) -> FlowKey {
        keys.key(("request", self.client_ip, method, target, host))
    }
}

fn parsed<'a, T>(
    text: Option<&'a str>,
    absurd: &mut bool,
    parse: impl FnOnce(&'a str) -> Option<T>,
) -> Option<T> {
    let text = text?.trim();
    // Squid and others write a dash for what they do not know: missing, not absurd.
    if text.is_empty() || text == "-" {
        return None;
    }
    let value = parse(text);
    *absurd |= value.is_none();
    value
}

/// An address as it would be on the wire: IPv4 inside IPv6 notation is IPv4.
fn plain(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// An id that a client gives something, if it is one.
pub(crate) fn identifier(text: &str) -> Option<&str> {
    (text.len() <= MAX_ID && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
}

/// First of the ports that stand in for an unknown client port (RFC 6335 dynamic range).
const FIRST_EPHEMERAL: u16 = 49152;

/// The addresses of a flow, and which of them had to be invented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Endpoints {
    /// The client's side.
    pub(crate) client: SocketAddr,
    /// The server's side.
    pub(crate) server: SocketAddr,
    /// At least one address or port is a stand-in.
    pub(crate) invented: bool,
    /// Client and server were of different families: the server has a stand-in of the client's,
    /// because rules are written for the networks that clients are in.
    pub(crate) mixed: bool,
}

impl Endpoints {
    /// Completes what is known. `host` is the request's host if it is a literal address;
    /// `port` what its URL says or implies; `spread` varies an unknown client port.
    pub(crate) fn complete(
        claims: &Claims<'_>,
        host: Option<IpAddr>,
        port: u16,
        spread: u64,
        stand_ins: &StandIns,
    ) -> Self {
        let server_ip = claims.server_ip.or(host);
        let mixed = matches!((claims.client_ip, server_ip), (Some(c), Some(s)) if c.is_ipv4() != s.is_ipv4());
        let v6 = claims.client_ip.or(server_ip).is_some_and(|ip| ip.is_ipv6());
        let stand_in = |v4: Ipv4Addr, v6_: Ipv6Addr| match v6 {
            true => IpAddr::V6(v6_),
            false => IpAddr::V4(v4),
        };
        let client_ip =
            claims.client_ip.unwrap_or_else(|| stand_in(stand_ins.client, stand_ins.client6));
        let server_ip = server_ip
            .filter(|_| !mixed)
            .unwrap_or_else(|| stand_in(stand_ins.server, stand_ins.server6));
        let span = u64::from(u16::MAX - FIRST_EPHEMERAL) + 1;
        let client_port =
            claims.client_port.unwrap_or_else(|| FIRST_EPHEMERAL + (spread % span) as u16);
        Self {
            client: SocketAddr::new(client_ip, client_port),
            server: SocketAddr::new(server_ip, claims.server_port.unwrap_or(port)),
            invented: mixed
                || claims.client_ip.is_none()
                || claims.client_port.is_none()
                || claims.server_ip.is_none()
                || claims.server_port.is_none(),
            mixed,
        }
    }
}
