//! DNS within HTTP (RFC 8484), shown to the engine as DNS too: as it would be over TCP, on a flow of its own between
//! the same ends. Rules for DNS decide over the transaction as those for HTTP do.

mod json;
mod message;
mod target;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use http_wire::{Field, RequestHead, ResponseHead};
use suricata::Direction;

use crate::inspection::claims::Claims;
use crate::inspection::dns::message::{LONGEST, Message};
use crate::inspection::halt::Halt;
use crate::inspection::metrics::Uninspected;
use crate::inspection::refusal::{DnsFault, Refusal};
use crate::inspection::worker_flows::{EventTags, WorkerFlows};
use crate::settings::Policy;

/// Content types of messages as they are; the second one is that of the drafts, which servers still take.
const TYPES: [&[u8]; 2] = [b"application/dns-message", b"application/dns-udpwireformat"];
/// The longest JSON that is read for a message.
const LONGEST_JSON: usize = 4 * LONGEST;

/// The DNS in one transaction.
pub(crate) struct DnsView<'a> {
    flows: &'a Rc<WorkerFlows>,
    claims: &'a Claims<'a>,
    tags: &'a Rc<EventTags>,
    /// Whoever asked understands an answer in DNS.
    speaks_dns: Cell<bool>,
    /// The message that was last seen.
    last: RefCell<Option<Message>>,
}

/// A body that is a message, as it comes.
pub(crate) struct DnsBody {
    direction: Direction,
    is_json: bool,
    bytes: Vec<u8>,
    /// It cannot be read, and may pass so.
    given_up: bool,
    malformed: Policy,
}

impl<'a> DnsView<'a> {
    /// Of a transaction with these ends.
    pub(crate) fn new(
        flows: &'a Rc<WorkerFlows>,
        claims: &'a Claims<'a>,
        tags: &'a Rc<EventTags>,
    ) -> Self {
        Self { flows, claims, tags, speaks_dns: Cell::default(), last: RefCell::default() }
    }

    /// Notes what a request says of DNS: whether its client would understand an answer in it.
    pub(crate) fn meet(&self, head: &RequestHead) {
        let speaks =
            head.all("Accept").any(|field| TYPES.iter().any(|name| contains(field.value, name)))
                || head.all("Content-Type").any(|field| is_type(&field, &TYPES));
        self.speaks_dns.set(speaks || self.speaks_dns.get());
    }

    /// Shows the engine what a request's target asks.
    ///
    /// # Errors
    /// A rule drops it, it was not inspected, or it cannot be read and the settings say no.
    pub(crate) fn show_target(&self, head: &RequestHead) -> Result<(), Halt> {
        let settings = &self.flows.state.settings;
        if !settings.dns.inspect {
            return Ok(());
        }
        let wants_json = head.all("Accept").any(|field| contains(field.value, json::TYPE));
        let asked = target::read(head.target(), wants_json);
        // Other services have parameters of these names as well, which are no DNS.
        if let Some(fault) = asked.fault
            && (wants_json || self.speaks_dns.get() || fault == DnsFault::Many)
        {
            let bytes = head.target().len() as u64;
            self.give_up(fault, settings.content.malformed, bytes)?;
        }
        for query in asked.queries {
            self.show(Direction::ToServer, query, Some(head))?;
        }
        Ok(())
    }

    /// The body of a request, if it is to be a query.
    pub(crate) fn request_body(&self, head: &RequestHead) -> Option<DnsBody> {
        let is_message = head.all("Content-Type").any(|field| is_type(&field, &TYPES));
        is_message.then(|| self.body(Direction::ToServer, false))?
    }

    /// The body of a response, if it is to be an answer.
    pub(crate) fn response_body(&self, head: &ResponseHead) -> Option<DnsBody> {
        let is_message = head.all("Content-Type").any(|field| is_type(&field, &TYPES));
        let is_json = head.all("Content-Type").any(|field| is_type(&field, &[json::TYPE]));
        if is_message {
            self.speaks_dns.set(true);
        }
        (is_message || is_json).then(|| self.body(Direction::ToClient, !is_message))?
    }

    fn body(&self, direction: Direction, is_json: bool) -> Option<DnsBody> {
        let settings = &self.flows.state.settings;
        let malformed = settings.content.malformed;
        let body = DnsBody { direction, is_json, bytes: Vec::new(), given_up: false, malformed };
        settings.dns.inspect.then_some(body)
    }

    /// Takes the next bytes of a body.
    ///
    /// # Errors
    /// It is longer than a message can be, and the settings say no.
    pub(crate) fn take(&self, body: &mut DnsBody, bytes: &[u8]) -> Result<(), Halt> {
        if body.given_up {
            self.flows.counters().uninspected(Uninspected::Dns, bytes.len() as u64);
            return Ok(());
        }
        let most = if body.is_json { LONGEST_JSON } else { LONGEST };
        if bytes.len() > most - body.bytes.len() {
            let length = body.bytes.len() + bytes.len();
            (body.bytes, body.given_up) = (Vec::new(), true);
            return self.give_up(DnsFault::Long, body.malformed, length as u64);
        }
        body.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Shows the engine a body that is complete.
    ///
    /// # Errors
    /// As for [`show_target`](Self::show_target).
    pub(crate) fn show_body(&self, body: DnsBody) -> Result<(), Halt> {
        if body.given_up {
            return Ok(());
        }
        let length = body.bytes.len() as u64;
        let read = match body.is_json {
            true => json::response(&body.bytes),
            false => Message::new(body.bytes, body.direction),
        };
        match read {
            Ok(message) => self.show(body.direction, message, None),
            Err(fault) => self.give_up(fault, body.malformed, length),
        }
    }

    fn show(
        &self,
        direction: Direction,
        message: Message,
        request: Option<&RequestHead>,
    ) -> Result<(), Halt> {
        let parts = [&message.length()[..], message.bytes()];
        self.flows.counters().dns_messages.one();
        let shown =
            self.flows.show_apart(self.claims, request, self.tags, "dns", direction, &parts);
        if matches!(shown, Err(Halt::Blocked(_))) {
            self.flows.counters().dns_blocked.one();
        }
        *self.last.borrow_mut() = Some(message);
        shown
    }

    fn give_up(&self, fault: DnsFault, malformed: Policy, bytes: u64) -> Result<(), Halt> {
        match malformed {
            Policy::Block => Err(Refusal::Dns(fault).into()),
            Policy::Pass => {
                self.flows.counters().uninspected(Uninspected::Dns, bytes);
                Ok(())
            }
        }
    }

    /// What a blocked client gets instead of a page, if it speaks DNS and has asked anything.
    pub(crate) fn denial(&self) -> Option<Vec<u8>> {
        let denial = self.flows.state.settings.dns.blocked;
        let last = self.last.borrow();
        last.as_ref().filter(|_| self.speaks_dns.get()).map(|message| message.denied(denial))
    }
}

impl DnsBody {
    /// Whether all of it is still wanted, so that none of it may leave.
    pub(crate) fn is_held(&self) -> bool {
        !self.given_up
    }
}

/// Whether one of the types that a Content-Type names is among these; clients and servers do not agree which of several
/// counts.
fn is_type(field: &Field<'_>, names: &[&[u8]]) -> bool {
    field.value.split(|&b| b == b',').any(|kind| {
        let kind = kind.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        names.iter().any(|name| kind.eq_ignore_ascii_case(name))
    })
}

fn contains(value: &[u8], name: &[u8]) -> bool {
    value.windows(name.len()).any(|part| part.eq_ignore_ascii_case(name))
}
