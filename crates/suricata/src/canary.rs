//! A transaction that must be dropped: proof that rules, parser and verdicts work together.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};

use crate::error::Error;
use crate::flow::{Lane, Tuple};

/// The rule's sid; 4200000000 to 4200000009 are reserved for the engine's own checks.
pub(crate) const SID: u32 = 4_200_000_000;

/// Apart from all other lanes, and silent in EVE.
pub(crate) const LANE: Lane = Lane::OF_CANARY;

/// The ends of the check's connections (TEST-NET-1, RFC 5737): the rule applies to nothing else.
pub(crate) fn tuple(attempt: u16) -> Result<Tuple, Error> {
    let end = |host, port| SocketAddr::from((Ipv4Addr::new(192, 0, 2, host), port));
    Tuple::new(end(1, attempt), end(2, 80))
}

/// A check of one process: the word that must be dropped is secret, so nobody else can use it.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    word: String,
}

impl Canary {
    pub(crate) fn new() -> Self {
        let mut word = "meergate-canary-".to_owned();
        for part in 0..4_u8 {
            // Keyed from the operating system's random numbers.
            let _ = write!(word, "{:016x}", RandomState::new().hash_one(part));
        }
        Self { word }
    }

    /// The rule. `noalert` keeps it out of the operator's alerts.
    pub(crate) fn rule(&self) -> String {
        format!(
            "drop http 192.0.2.2 80 -> 192.0.2.1 any (msg:\"engine check\"; flow:established,to_client; file.data; \
             content:\"{}\"; noalert; sid:{SID}; rev:1;)\n",
            self.word
        )
    }

    pub(crate) fn request(&self) -> &'static [u8] {
        b"GET / HTTP/1.1\r\nHost: engine-check.invalid\r\n\r\n"
    }

    /// The response, cut where the word is half through.
    pub(crate) fn response(&self) -> [String; 2] {
        let (first, second) = self.word.split_at(self.word.len() / 2);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", self.word.len());
        [head + first, second.to_owned()]
    }
}
