//! What passes without inspection, for messages and relays. Trailers that a service never saw are counted in
//! `metrics`, streams in `stream`.
//!
//! A message counts as seen by nobody until somebody says that a service has seen it.

use std::sync::Arc;

use icap_client::{Comparison, Did, Trail};

use crate::io::{Direction, RelayEnd, Stream, Turn, relay};
use crate::session::Arrival;
use crate::words::{Towards, Unseen};

/// One of a transaction's two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Request,
    Response,
}

/// What of a transaction was sent on, and what of that nobody has looked into.
#[derive(Debug, Default)]
pub(super) struct Account {
    request: Entry,
    response: Entry,
    /// Bytes of the heads of interim responses.
    interim: u64,
    /// Bytes of the head with which another protocol begins.
    switched: u64,
}

/// One message.
#[derive(Debug)]
struct Entry {
    sight: Sight,
    /// Why its content can't be looked into, whoever sees it.
    opaque: Option<Unseen>,
    /// Bytes of its head, in HTTP/1.1 form, as it was sent on.
    head: u64,
    /// Whether services made another content of its content after others had seen that.
    compared: Vec<Arc<Comparison>>,
}

/// Who has seen a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// It is a page of ours, and needs no inspection.
    Ours,
    /// Services.
    Services,
    /// None.
    Nobody(Unseen),
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            sight: Sight::Nobody(Unseen::NoService),
            opaque: None,
            head: 0,
            compared: Vec::new(),
        }
    }
}

impl Account {
    /// No service is shown `message`.
    pub(super) fn skipped(&mut self, message: Message, why: Unseen) {
        self.entry(message).sight = Sight::Nobody(why);
    }

    /// Services are shown `message`, and `trail` says how far they looked.
    pub(super) fn shown(&mut self, message: Message, trail: &Trail) {
        let entry = self.entry(message);
        entry.sight = match unseen(trail) {
            None => Sight::Services,
            Some(why) => Sight::Nobody(why),
        };
        entry.compared.clone_from(&trail.contents);
    }

    /// The response is a service's page: no part of anything, and not coded.
    pub(super) fn service_page(&mut self) {
        self.response.opaque = None;
    }

    /// A service has made the response itself, and there is no other one to see it.
    pub(super) fn answered_alone(&mut self) {
        self.response.sight = Sight::Services;
    }

    /// Services can't look into the content of `message`.
    pub(super) fn opaque(&mut self, message: Message, why: Unseen) {
        self.entry(message).opaque = Some(why);
    }

    /// What the client gets is a page of ours.
    pub(super) fn own_page(&mut self) {
        self.response.sight = Sight::Ours;
    }

    /// The head of `message` goes out with so many bytes.
    pub(super) fn sent_head(&mut self, message: Message, bytes: usize) {
        self.entry(message).head = bytes as u64;
    }

    /// The head of the response goes out with so many bytes, with which another protocol begins. What is said in that
    /// is not counted here.
    pub(super) fn switched(&mut self, bytes: usize) {
        self.response.sight = Sight::Services;
        self.switched = bytes as u64;
    }

    /// The head of an interim response goes out.
    pub(super) fn sent_interim(&mut self, bytes: usize) {
        self.interim += bytes as u64;
    }

    /// Counts what nobody has looked into, with contents and trailers of so many bytes; returns the
    /// reasons. Services see a message's head even where they can't look into its content.
    pub(super) fn settle(
        &self,
        to_server: u64,
        to_client: u64,
        mut count: impl FnMut(Unseen, Towards, u64),
    ) -> Vec<Unseen> {
        let mut reasons = Vec::new();
        let mut note = |reason, towards, bytes| {
            if bytes == 0 {
                return;
            }
            count(reason, towards, bytes);
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        for (towards, entry, content) in [
            (Towards::Server, &self.request, to_server),
            (Towards::Client, &self.response, to_client),
        ] {
            let unseen = match entry.sight {
                Sight::Ours => continue,
                Sight::Services => {
                    let changed = entry.compared.iter().any(|contents| contents.differs());
                    changed.then_some(Unseen::LateChange)
                }
                Sight::Nobody(why) => Some(why),
            };
            if let Some(why) = unseen {
                note(why, towards, entry.head);
            }
            if let Some(why) = entry.opaque.or(unseen) {
                note(why, towards, content);
            }
        }
        note(Unseen::Interim, Towards::Client, self.interim);
        note(Unseen::Upgrade, Towards::Client, self.switched);
        reasons
    }

    fn entry(&mut self, message: Message) -> &mut Entry {
        match message {
            Message::Request => &mut self.request,
            Message::Response => &mut self.response,
        }
    }
}

/// Why no service saw a message that went through the services, if none did.
fn unseen(trail: &Trail) -> Option<Unseen> {
    if trail.bypassed().next().is_some() {
        return Some(Unseen::ServiceBypassed);
    }
    if trail.late.is_some() {
        return Some(Unseen::LateChange);
    }
    if trail.is_inspected() {
        return None;
    }
    match trail.steps.iter().any(|step| step.did == Did::Ignored) {
        true => Some(Unseen::ServiceIgnored),
        false => Some(Unseen::NoService),
    }
}

/// Relays between the ends of a connection what nobody looks into, and counts it.
pub(crate) async fn relay_unseen<C: Stream + ?Sized, S: Stream + ?Sized>(
    arrival: &Arrival,
    client: &mut C,
    origin: &mut S,
    why: Unseen,
) -> RelayEnd {
    let idle = arrival.settings.config.limits.relay_timeout.0;
    let turn = Turn::of(arrival.party());
    relay(client, origin, idle, turn, |direction, length| {
        count_relayed(arrival, why, direction, length);
    })
    .await
}

/// Counts what was passed on between the ends of a connection and nobody looks into.
pub(crate) fn count_relayed(arrival: &Arrival, why: Unseen, direction: Direction, length: usize) {
    let bytes = length as u64;
    let towards = match direction {
        Direction::ToServer => {
            arrival.totals.add_from_client(bytes);
            Towards::Server
        }
        Direction::ToClient => {
            arrival.totals.add_from_server(bytes);
            Towards::Client
        }
    };
    arrival.shared.metrics.uninspected(why, towards, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What counts of a request of 10 + 100 bytes and a response of 20 + 200.
    fn counted(of: impl FnOnce(&mut Account)) -> Vec<(Unseen, Towards, u64)> {
        let mut account = Account::default();
        account.sent_head(Message::Request, 10);
        account.sent_head(Message::Response, 20);
        of(&mut account);
        let mut counted = Vec::new();
        let reasons = account.settle(100, 200, |why, to, bytes| counted.push((why, to, bytes)));
        assert!(counted.iter().all(|(why, ..)| reasons.contains(why)), "{reasons:?}");
        counted
    }

    fn both_seen(account: &mut Account) {
        account.request.sight = Sight::Services;
        account.response.sight = Sight::Services;
    }

    #[test]
    fn what_nobody_spoke_of_counts_as_seen_by_nobody() {
        let all =
            [(Unseen::NoService, Towards::Server, 10), (Unseen::NoService, Towards::Server, 100)];
        let counted = counted(|_| {});
        assert_eq!(counted[..2], all);
        assert_eq!(counted[2..].iter().map(|(.., bytes)| bytes).sum::<u64>(), 220);
    }

    #[test]
    fn what_services_have_seen_does_not_count() {
        assert_eq!(counted(both_seen), []);
        let one = counted(|account| {
            both_seen(account);
            account.opaque(Message::Response, Unseen::Coding);
            account.sent_interim(7);
            account.sent_interim(8);
        });
        let coding = (Unseen::Coding, Towards::Client, 200);
        assert_eq!(one, [coding, (Unseen::Interim, Towards::Client, 15)]);
    }

    #[test]
    fn a_page_of_ours_needs_no_inspection_and_its_request_does() {
        let counted = counted(|account| {
            account.skipped(Message::Request, Unseen::Bypass);
            account.own_page();
        });
        assert_eq!(counted.len(), 2);
        assert!(
            counted.iter().all(|(why, to, _)| (*why, *to) == (Unseen::Bypass, Towards::Server))
        );
    }

    #[test]
    fn of_an_upgrade_that_is_seen_the_head_of_the_response_counts() {
        let counted = counted(|account| {
            both_seen(account);
            account.switched(21);
        });
        assert_eq!(counted, [(Unseen::Upgrade, Towards::Client, 21)]);
    }

    #[test]
    fn after_an_upgrade_all_but_the_requests_head_counts() {
        let counted = counted(|account| {
            both_seen(account);
            account.opaque(Message::Request, Unseen::Upgrade);
            account.skipped(Message::Response, Unseen::Upgrade);
        });
        assert!(counted.iter().all(|(why, ..)| *why == Unseen::Upgrade));
        assert_eq!(counted.iter().map(|(.., bytes)| bytes).sum::<u64>(), 100 + 220);
    }
}
