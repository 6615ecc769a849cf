//! Changes of a message that come too late for services earlier in the chain.
//!
//! Services are asked in order, so what a service makes of a message is not seen by those before it.
//! Where one of them is there to inspect, a later one could put anything past it.

use std::sync::Arc;

use http_wire::{Field, Fields, HeadEdit, RequestHead, ResponseHead};

use crate::comparison::{Comparison, Side};
use crate::course::Course;
use crate::head::Message;
use crate::incoming::Incoming;
use crate::{Did, LateChange, Service, TransactionInfo};

/// Delimits the content anew whenever that changes; what is sent is always true to the content.
const FRAMING: [&str; 2] = ["Content-Length", "Transfer-Encoding"];

/// Whoever passes a message on adds itself to it (RFC 9110 section 7.6.3), c-icap among them. That is
/// no reason to stop a message, so it goes on with what was there before.
const PASSED_ON_BY: &str = "Via";

/// A service that had its turn with a request.
struct Turn {
    service: Arc<Service>,
    /// True if the service was asked. False if `only`/`except` left it out; after a change those
    /// filters might let the request in.
    took_part: bool,
}

/// A message as a service gets it.
pub(crate) struct Before {
    message: Message,
    content: Option<Arc<Comparison>>,
}

impl Before {
    /// Of a message that other services may have seen.
    pub(crate) fn of(course: &mut Course) -> Self {
        let content = course.body.as_mut().map(|body| {
            let comparison = Arc::default();
            body.compare(Side::Given, &comparison);
            comparison
        });
        Self { message: course.message.clone(), content }
    }

    /// Whether a service gave the message's head another meaning. What it did beside that is taken back: there are rules
    /// for the order of fields, their case and the version, too.
    fn is_changed(&self, now: &mut Message) -> bool {
        match (&self.message, now) {
            (Message::Request(before), Message::Request(head)) => {
                let is_changed = is_changed(before, head);
                let mut edit = if is_changed { head.edit() } else { before.edit() };
                take_back(before.fields(), head.fields(), is_changed, &mut edit);
                is_changed | edit.build().map(|built| *head = built).is_err()
            }
            (
                Message::Response { response: before, .. },
                Message::Response { response: head, .. },
            ) => {
                let is_changed = is_other_response(before, head);
                let mut edit = if is_changed { head.edit() } else { before.edit() };
                take_back(before.fields(), head.fields(), is_changed, &mut edit);
                is_changed | edit.build().map(|built| *head = built).is_err()
            }
            _ => true,
        }
    }

    /// Tells, once the message is over, whether a service gave it another content.
    fn content(self, now: Option<&mut Incoming>) -> Option<Arc<Comparison>> {
        match (self.content, now) {
            (None, None) => None,
            (before, now) => {
                let comparison = before.unwrap_or_else(|| {
                    let nothing = Arc::<Comparison>::default();
                    nothing.end(Side::Given);
                    nothing
                });
                match now {
                    Some(body) => body.compare(Side::Returned, &comparison),
                    None => comparison.end(Side::Returned),
                }
                Some(comparison)
            }
        }
    }
}

/// The services that had their turn, in order.
#[derive(Default)]
pub(crate) struct Turns(Vec<Turn>);

impl Turns {
    /// The service's settings left it out.
    pub(crate) fn left_out(&mut self, service: &Arc<Service>) {
        self.0.push(Turn { service: service.clone(), took_part: false });
    }

    /// Whether no service had a turn.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Call after `service` was asked. `before` is the message as it got it; `None` if it was the
    /// first. If it changed the message, the trail notes an earlier service that did not see the
    /// change.
    pub(crate) fn asked(
        &mut self,
        service: &Arc<Service>,
        before: Option<Before>,
        steps: usize,
        course: &mut Course,
        info: &TransactionInfo,
    ) {
        let did = course.trail.steps.get(steps).map(|step| step.did);
        let unseen_by = self.0.iter().find(|turn| {
            !Arc::ptr_eq(&turn.service, service)
                && (turn.took_part || course.concerns(&turn.service, info))
        });
        if did == Some(Did::Adapted)
            && let (Some(before), Some(turn)) = (before, unseen_by)
        {
            let (by, unseen_by) = (service.name().clone(), turn.service.name().clone());
            if before.is_changed(&mut course.message) {
                course.trail.late = Some(LateChange { by, unseen_by });
            }
            course.trail.contents.extend(before.content(course.body.as_mut()));
        }
        if matches!(did, Some(Did::Adapted | Did::Ignored | Did::Passed)) {
            self.0.push(Turn { service: service.clone(), took_part: true });
        }
    }
}

/// Whether a service gave the head another meaning: another method, target or field. Framing does not
/// count, nor does Via, nor fields of a connection that were left out on the way to the service, nor
/// what is taken back: the order of fields, the case of their names, and the version.
fn is_changed(before: &RequestHead, after: &RequestHead) -> bool {
    before.bytes() != after.bytes()
        && (before.method() != after.method()
            || before.target() != after.target()
            || are_others(before.fields(), after.fields(), |name| before.is_hop_by_hop(name)))
}

/// The same of a response, by its status and reason phrase: there are rules for either.
fn is_other_response(before: &ResponseHead, after: &ResponseHead) -> bool {
    before.bytes() != after.bytes()
        && (before.status() != after.status()
            || before.reason() != after.reason()
            || are_others(before.fields(), after.fields(), |name| before.is_hop_by_hop(name)))
}

fn are_others(
    before: Fields<'_>,
    after: Fields<'_>,
    is_hop_by_hop: impl Fn(&[u8]) -> bool,
) -> bool {
    let is_routine =
        |field: &Field<'_>| FRAMING.iter().any(|name| field.is(name)) || field.is(PASSED_ON_BY);
    let sorted = |fields: Fields<'_>, keeps: &dyn Fn(&Field<'_>) -> bool| {
        let mut fields: Vec<(Vec<u8>, Vec<u8>)> = fields
            .filter(|field| !is_routine(field) && keeps(field))
            .map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec()))
            .collect();
        // Stable: the order of those with one name has a meaning.
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        fields
    };
    let now = sorted(after, &|_| true);
    now != sorted(before.clone(), &|_| true)
        && now != sorted(before, &|field| !is_hop_by_hop(field.name))
}

/// Of a changed head, which `edit` is then of, leaves of `Via` what there was before. Of one that is not changed `edit` is
/// of what was before, and gets the framing of what there is now. Fields of a connection stay left out.
fn take_back(before: Fields<'_>, after: Fields<'_>, is_changed: bool, edit: &mut HeadEdit) {
    if is_changed {
        return replace(PASSED_ON_BY, &after, &before, edit);
    }
    let is_there = |name: &[u8]| after.clone().any(|field| field.is(name));
    edit.remove_if(|name, _| {
        !name.eq_ignore_ascii_case(PASSED_ON_BY.as_bytes()) && !is_there(name)
    });
    for name in FRAMING {
        replace(name, &before, &after, edit);
    }
}

/// Gives the head that `edit` is of, which has fields `theirs`, what `others` have of that name.
fn replace(name: &str, theirs: &Fields<'_>, others: &Fields<'_>, edit: &mut HeadEdit) {
    let values = |fields: &Fields<'_>| {
        let fields = fields.clone().filter(|field| field.is(name));
        fields.map(|field| field.value.to_vec()).collect::<Vec<_>>()
    };
    let wanted = values(others);
    if wanted != values(theirs) {
        edit.remove(name);
        for value in wanted {
            edit.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_wire::Limits;

    fn head(text: &str) -> RequestHead {
        let text = format!("{}\r\n\r\n", text.replace('\n', "\r\n"));
        RequestHead::from_bytes(Bytes::from(text), &Limits::default()).unwrap()
    }

    #[test]
    fn only_what_changes_the_meaning_is_a_change() {
        let before =
            head("POST /a HTTP/1.1\nHost: a\nConnection: X\nX: 1\nContent-Length: 3\nB: 2\nB: 3");
        for (same, after) in [
            (true, "POST /a HTTP/1.1\nHost: a\nConnection: X\nX: 1\nContent-Length: 3\nB: 2\nB: 3"),
            (true, "POST /a HTTP/1.1\nhost:  a\nB: 2\nB: 3\nTransfer-Encoding: chunked"),
            (true, "POST /a HTTP/1.1\nB: 2\nB: 3\nHost: a"),
            (true, "POST /a HTTP/1.1\nHost: a\nB: 2\nB: 3\nVia: ICAP/1.0 scanner (C-ICAP/0.5.10)"),
            (false, "POST /b HTTP/1.1\nHost: a\nB: 2\nB: 3"),
            (false, "PUT /a HTTP/1.1\nHost: a\nB: 2\nB: 3"),
            (false, "POST /a HTTP/1.1\nHost: b\nB: 2\nB: 3"),
            (false, "POST /a HTTP/1.1\nHost: a\nB: 3\nB: 2"),
            (false, "POST /a HTTP/1.1\nHost: a\nB: 2"),
            (false, "POST /a HTTP/1.1\nHost: a\nB: 2\nB: 3\nUpgrade: x"),
            (false, "POST /a HTTP/1.1\nHost: a\nB: 2\nB: 3\nConnection: Y\nY: 1"),
        ] {
            assert_eq!(is_changed(&before, &head(after)), !same, "{after}");
        }
    }

    #[test]
    fn what_a_change_does_beside_the_meaning_is_taken_back() {
        let text =
            "POST /a HTTP/1.1\nHost: a\nConnection: X\nX: 1\nContent-Length: 3\nB:  2\nVia: 1.1 a";
        let before = Before { message: Message::Request(head(text)), content: None };
        for (after, kept) in [
            ("POST /a HTTP/1.0\nb: 2\nx: 1\nconnection: X\nhost: a\nContent-Length: 3", text),
            (
                "POST /a HTTP/1.1\nVia: evil\nB: 2\nHost: a\nTransfer-Encoding: chunked",
                "POST /a HTTP/1.1\nHost: a\nB:  2\nVia: 1.1 a\nTransfer-Encoding: chunked",
            ),
        ] {
            let mut now = Message::Request(head(after));
            assert!(!before.is_changed(&mut now), "{after}");
            let Message::Request(now) = now else { unreachable!() };
            assert_eq!(now.bytes(), head(kept).bytes(), "{after}");
        }
    }

    #[test]
    fn a_response_keeps_its_via_and_is_another_by_its_reason() {
        let response = |text: &str| {
            let text = format!("{}\r\n\r\n", text.replace('\n', "\r\n"));
            let response = ResponseHead::from_bytes(text.into(), &Limits::default()).unwrap();
            Message::Response { request: head("GET / HTTP/1.1\nHost: a"), response }
        };
        let before =
            Before { message: response("HTTP/1.1 200 OK\nVia: 1.1 a\nA: 1"), content: None };
        for (same, after) in [
            (true, "HTTP/1.1 200 OK\nA: 1\nVia: 1.1 a, ICAP/1.0 <b>evil</b>"),
            (true, "HTTP/1.1 200 OK\nA: 1"),
            (false, "HTTP/1.1 200 evil\nVia: 1.1 a\nA: 1"),
            (false, "HTTP/1.1 200 OK\nVia: 1.1 a\nA: 1\nTrailer: evil"),
        ] {
            let mut now = response(after);
            assert_eq!(before.is_changed(&mut now), !same, "{after}");
            let Message::Response { response, .. } = now else { unreachable!() };
            let via: Vec<_> = response.all("Via").map(|field| field.value.to_vec()).collect();
            assert_eq!(via, [b"1.1 a"], "{after}");
        }
    }
}
