//! How the engine is shown a stream: as those read it who speak on it.

use std::mem;

use icap_stream::{Mark, Way};
use suricata::{Direction, Expect, Tuple};

use super::frames::Frames;
use super::ftp::Ftp;
use super::mail::{Mail, Part};
use super::proxy::ProxyHeaders;
use super::queries::{Queries, Query};
use super::said::Said;
use super::turns::{Found, Turns};
use crate::inspection::halt::Halt;
use crate::inspection::metrics::Uninspected;
use crate::inspection::refusal::{Hidden, MailFault, Refusal};
use crate::inspection::worker_flows::StreamFlow;
use crate::settings::Policy;

/// Suricata's names for HTTP. Codings of contents are undone in messages (`decoding`), not in streams.
const HTTP: [&str; 3] = ["http", "http2", "doh2"];
/// Its names for what may have HTTP at the beginning of a turn without being it: files, and what is encrypted.
const OPAQUE: [&str; 3] = ["ftp-data", "ssh", "tls"];

/// The engine's flow of a stream, and what is known of what is spoken there.
pub(super) struct View {
    pub(super) flow: StreamFlow,
    said: Said,
    turns: Turns,
    queries: Queries,
    ftp: Ftp,
    headers: ProxyHeaders,
    mail: Mail,
    /// There if it is WebSocket, and nothing else.
    frames: Option<Frames>,
    /// Mail is not looked at any more, and what its client says is counted.
    is_mail_given_up: bool,
    /// What becomes of mail that the engine does not see.
    policy: Policy,
    /// The engine says at once what it makes of bytes.
    is_inline: bool,
}

impl View {
    pub(super) fn new(flow: StreamFlow, said: Said, policy: Policy, is_inline: bool) -> Self {
        Self {
            flow,
            said,
            turns: Turns::default(),
            queries: Queries::default(),
            ftp: Ftp::default(),
            headers: ProxyHeaders::default(),
            mail: Mail::new(),
            frames: frames(said),
            is_mail_given_up: false,
            policy,
            is_inline,
        }
    }

    /// Begins another flow, on which nothing was said; it is what the gateway `said`.
    ///
    /// # Errors
    /// The engine could not open it.
    pub(super) fn renew(&mut self, tuple: Option<Tuple>, said: Said) -> Result<(), Halt> {
        self.said = said;
        self.turns = Turns::default();
        self.queries = Queries::default();
        self.ftp = Ftp::default();
        self.headers = ProxyHeaders::default();
        self.mail = Mail::new();
        self.frames = frames(said);
        self.is_mail_given_up = false;
        Ok(self.flow.renew(tuple, said.expected())?)
    }

    /// How many bytes of a direction wait for more before the engine is shown them.
    pub(super) fn kept(&self, way: Way) -> usize {
        if way == Way::ToServer { self.mail.kept() } else { 0 }
    }

    /// Shows the engine what was read, and its end.
    ///
    /// # Errors
    /// A rule drops it, it was not inspected, or it is not what the engine would see.
    pub(super) fn show(&mut self, way: Way, bytes: &[u8], mark: Mark) -> Result<(), Halt> {
        if let Some(frames) = &mut self.frames {
            let seen = frames.look(way, bytes);
            seen.map_err(|fault| Refusal::Hidden(Hidden::Frames(fault)))?;
            self.flow.feed(direction(way), &[bytes])?;
            return match mark.end {
                true => self.flow.end(direction(way)),
                false => Ok(()),
            };
        }
        let mut rest = bytes;
        while way == Way::ToServer
            && let Some(length) = self.headers.look(rest)
        {
            let (header, behind) = rest.split_at(length);
            self.flow.feed(Direction::ToServer, &[header])?;
            if self.headers.are_too_many() {
                return Err(Refusal::Hidden(Hidden::Headers).into());
            }
            self.begin_anew()?;
            self.turns = Turns::default();
            self.queries = Queries::default();
            self.mail = Mail::new();
            rest = behind;
        }
        self.show_behind(way, rest, mark)
    }

    /// The same of bytes that are no part of the stream now, so that none can be kept.
    ///
    /// # Errors
    /// As for [`show`](Self::show); they end within a line of a mail.
    pub(super) fn show_again(&mut self, way: Way, bytes: &[u8]) -> Result<(), Halt> {
        self.show(way, bytes, Mark::NONE)?;
        match self.kept(way) {
            0 => Ok(()),
            _ => Err(Refusal::Hidden(Hidden::Mail(MailFault::Line)).into()),
        }
    }

    fn show_behind(&mut self, way: Way, bytes: &[u8], mark: Mark) -> Result<(), Halt> {
        let found = self.turns.look(way, bytes);
        let query = self.queries.look(way, bytes).filter(|_| self.said == Said::Other);
        let protocol = self.flow.protocol();
        if protocol == Some("ftp") && self.ftp.hides(way, bytes) {
            return Err(Refusal::Hidden(Hidden::Ftp).into());
        }
        let direction = direction(way);
        let fed = match found {
            Some(Found::Hello) if self.flow.is_used() && protocol != Some("tls") => {
                // Parsers look for it at the beginning only.
                self.begin_anew()?;
                // A server of mail may refuse the hello as a line, and go on.
                self.mail = Mail::new();
                self.flow.feed(direction, &[self.turns.before(), bytes])
            }
            _ => match query {
                Some(query) if protocol.is_none() => self.ask(&query, bytes),
                _ => self.feed(way, bytes),
            },
        };
        let hidden = match found {
            Some(Found::Http) if protocol.is_none_or(|name| !OPAQUE.contains(&name)) => {
                Some(Hidden::Http)
            }
            Some(Found::ServersHello) => Some(Hidden::Roles),
            _ => None,
        };
        match (fed, hidden) {
            // Whatever else the engine makes of it.
            (Ok(()) | Err(Halt::GaveUp(_) | Halt::Engine(_)), Some(hidden)) => {
                return Err(Refusal::Hidden(hidden).into());
            }
            (fed, _) => fed?,
        }
        if mark.end {
            if way == Way::ToServer {
                self.flush()?;
            }
            self.flow.end(direction)?;
        }
        if self.flow.protocol().is_some_and(|name| HTTP.contains(&name)) {
            return Err(Refusal::Hidden(Hidden::Http).into());
        }
        Ok(())
    }

    fn feed(&mut self, way: Way, mut bytes: &[u8]) -> Result<(), Halt> {
        if self.is_mail_given_up && way == Way::ToServer {
            self.flow.count(Uninspected::Mail, bytes.len());
        }
        if way == Way::ToClient {
            let read = self.mail.server(bytes);
            self.or_refuse(read)?;
            self.flow.feed(Direction::ToClient, &[bytes])?;
            return self.compare();
        }
        while !bytes.is_empty() {
            let part = match self.mail.client(&mut bytes) {
                Ok(part) => part,
                Err(fault) => {
                    self.or_refuse(Err(fault))?;
                    self.flow.count(Uninspected::Mail, bytes.len());
                    Part { kept: Vec::new(), bytes: mem::take(&mut bytes) }
                }
            };
            if !part.kept.is_empty() || !part.bytes.is_empty() {
                self.flow.feed(Direction::ToServer, &[&part.kept, part.bytes])?;
                self.compare()?;
            }
        }
        Ok(())
    }

    /// Shows the engine a DNS query, and all that follows, as what it is.
    fn ask(&mut self, query: &Query, bytes: &[u8]) -> Result<(), Halt> {
        let (others, bytes) = bytes.split_at(query.at);
        self.feed(Way::ToServer, others)?;
        self.flush()?;
        // A server of mail may refuse the query as a line, and go on.
        self.mail = Mail::new();
        self.flow.close()?;
        self.flow.renew(None, Expect::Protocol("dns"))?;
        self.flow.feed(Direction::ToServer, &[&query.before, bytes])
    }

    /// Shows the engine what waits for the end of its line.
    fn flush(&mut self) -> Result<(), Halt> {
        let kept = self.mail.give_up();
        match kept.is_empty() {
            true => Ok(()),
            false => self.flow.feed(Direction::ToServer, &[&kept]),
        }
    }

    /// Whether the engine takes for a mail what the server does.
    fn compare(&mut self) -> Result<(), Halt> {
        if !self.is_inline {
            return Ok(());
        }
        let agreed = self.mail.agree(self.flow.protocol(), self.flow.reads_mail());
        self.or_refuse(agreed)
    }

    /// What becomes of mail that the engine does not see as the server does.
    fn or_refuse(&mut self, read: Result<(), MailFault>) -> Result<(), Halt> {
        match (read, self.policy) {
            (Ok(()), _) => Ok(()),
            (Err(fault), Policy::Block) => Err(Refusal::Hidden(Hidden::Mail(fault)).into()),
            (Err(_), Policy::Pass) => {
                self.is_mail_given_up = true;
                self.flow.count(Uninspected::Mail, self.mail.kept());
                self.flush()
            }
        }
    }

    /// What follows is read by somebody who reads nothing of what was before.
    fn begin_anew(&mut self) -> Result<(), Halt> {
        self.flow.close()?;
        Ok(self.flow.renew(None, Expect::Any)?)
    }
}

fn frames(said: Said) -> Option<Frames> {
    (said == Said::WebSocket).then(Frames::default)
}

fn direction(way: Way) -> Direction {
    match way {
        Way::ToClient => Direction::ToClient,
        Way::ToServer => Direction::ToServer,
    }
}
