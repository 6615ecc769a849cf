//! A transaction that must be dropped: proof that rules, parser and verdicts work together.

use std::fmt::Write as _;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use crate::error::Error;
use crate::flow::{Direction, Expect, Lane, Tuple};
use crate::verdict::{Dropped, Verdict};
use crate::worker::Worker;

/// The rule's sid; 4200000000 to 4200000009 are reserved for the engine's own checks.
pub(crate) const SID: u32 = 4_200_000_000;

/// Apart from all other lanes, and silent in EVE.
pub(crate) const LANE: Lane = Lane::OF_CANARY;

/// The ends of the check's connections (TEST-NET-1, RFC 5737): the rule applies to nothing else.
pub(crate) fn tuple(attempt: u16) -> Result<Tuple, Error> {
    let end = |host, port| SocketAddr::from((Ipv4Addr::new(192, 0, 2, host), port));
    Tuple::new(end(1, attempt), end(2, 80))
}

/// What the rule is looked up by. The same in each process, so that compiled patterns are, too.
const SIGN: &str = "meergate-canary-";

/// A check of one process: what must be dropped ends in a secret, so nobody else can use it.
#[derive(Debug, Clone)]
pub(crate) struct Canary {
    secret: String,
}

impl Canary {
    pub(crate) fn new() -> Self {
        let mut secret = String::new();
        for part in 0..4_u8 {
            // Keyed from the operating system's random numbers.
            let _ = write!(secret, "{:016x}", RandomState::new().hash_one(part));
        }
        Self { secret }
    }

    /// The rule. `noalert` keeps it out of the operator's alerts.
    pub(crate) fn rule(&self) -> String {
        format!(
            "drop http 192.0.2.2 80 -> 192.0.2.1 any (msg:\"engine check\"; flow:established,to_client; file.data; \
             content:\"{SIGN}\"; fast_pattern; content:\"{}\"; distance:0; noalert; sid:{SID}; rev:1;)\n",
            self.secret
        )
    }

    pub(crate) fn request(&self) -> &'static [u8] {
        b"GET / HTTP/1.1\r\nHost: engine-check.invalid\r\n\r\n"
    }

    /// The response, cut where the secret is half through.
    pub(crate) fn response(&self) -> [String; 2] {
        let (first, second) = self.secret.split_at(self.secret.len() / 2);
        let length = SIGN.len() + self.secret.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{SIGN}");
        [head + first, second.to_owned()]
    }
}

impl Worker {
    /// Runs a transaction that must be dropped through the engine, the way that traffic goes. Done by itself when the
    /// worker is attached and before the first flow after a reload.
    ///
    /// # Errors
    /// [`ErrorKind::InspectionFailed`](crate::ErrorKind::InspectionFailed) if it passed.
    pub fn canary(&mut self) -> Result<(), Error> {
        let version = self.shared.rules_version.load(Ordering::SeqCst);
        let check = self.shared.canary.clone();
        let before = self.stats;
        let verdict = self.run_canary(&check);
        self.stats = before;
        match verdict? {
            Verdict::Drop(Dropped { signature: Some(signature), .. }) if signature.sid == SID => {
                self.proven_rules = version;
                Ok(())
            }
            // A rule for everything was first. That the engine drops is proved all the same, and what it drops does not
            // pass unseen.
            Verdict::Drop(dropped) if dropped.reason.is_rule() => {
                if self.proven_rules == 0 {
                    tracing::warn!(
                        "a rule drops the engine's check before its own does: {dropped}"
                    );
                }
                self.proven_rules = version;
                Ok(())
            }
            Verdict::Drop(drop) => Err(Error::inspection(format!(
                "the engine's check was dropped for another reason than its own: {drop}"
            ))),
            Verdict::Pass => Err(Error::inspection(
                "the engine's check passed, so nothing is inspected: look for pass rules, and for settings that turn \
                 HTTP off",
            )),
        }
    }

    fn run_canary(&mut self, check: &Canary) -> Result<Verdict, Error> {
        let mut flow = self.open_unproven(self.shared.canary_tuple()?, Some(LANE))?;
        flow.expect(Expect::Http1);
        let mut verdict = self.feed(&mut flow, Direction::ToServer, check.request())?;
        for part in check.response() {
            if verdict.is_drop() {
                break;
            }
            verdict = self.feed(&mut flow, Direction::ToClient, part.as_bytes())?;
        }
        let at_the_end = self.close(flow)?;
        Ok(if verdict.is_drop() { verdict } else { at_the_end })
    }
}
