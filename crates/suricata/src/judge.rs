//! What the engine did with a packet, and what that means for the flow.

use suricata_sys::{Outcome, flag};

use crate::error::Error;
use crate::flow::{Expect, Flow, State};
use crate::loss::Loss;
use crate::verdict::{Alert, DropReason, Dropped, Verdict};

/// What a packet's way through the engine amounts to.
pub(crate) enum Finding {
    Dropped,
    Excused,
    Inspected,
    /// Rules for packets saw it. No others have use for such a stream, and no parser.
    Unneeded,
}

/// Anything but a drop, an excuse by rule, or inspection to the end is an error: never a pass.
pub(crate) fn judge(outcome: &Outcome, flow: &State, has_data: bool) -> Result<Finding, Error> {
    let fail = |reason: &str| Err(Error::inspection(reason));
    if !outcome.has(flag::RELEASED) {
        return fail("the engine did not give a packet back");
    }
    let dropped = outcome.has(flag::DROPPED);
    let excused =
        [flag::PASSED, flag::NO_PAYLOAD, flag::BYPASSED].iter().any(|flag| outcome.has(*flag));
    match Loss::new(outcome.loss) {
        // A rule was enough to say what becomes of it.
        _ if dropped && DropReason::new(outcome.drop_reason).is_rule() => {
            return Ok(Finding::Dropped);
        }
        Some(loss) if dropped || !excused => return Err(Error::lost(loss)),
        _ if dropped => return Ok(Finding::Dropped),
        _ => {}
    }
    if !outcome.has(flag::INSPECTED | flag::HAS_FLOW) {
        return fail("a packet did not go through detection");
    }
    if flow.id != 0 && outcome.flow_id != flow.id {
        return fail("the engine lost the flow and began another");
    }
    if outcome.event_count > 0 {
        let event = suricata_sys::event_name(outcome.event);
        return Err(Error::inspection(format!("the stream is broken: {event}")));
    }
    if !has_data {
        return Ok(Finding::Inspected);
    }
    if excused {
        return Ok(Finding::Excused);
    }
    if !outcome.has(flag::ADDED) {
        // Of HTTP the parser wants all.
        return match outcome.has(flag::UNNEEDED) && flow.expect == Expect::Any {
            true => Ok(Finding::Unneeded),
            false => fail("payload was not taken into the stream"),
        };
    }
    if outcome.has(flag::APP_DISABLED) && flow.expect != Expect::Any {
        return fail("the engine gave up parsing the protocol");
    }
    Ok(Finding::Inspected)
}

pub(crate) fn dropped(outcome: &Outcome) -> Dropped {
    let decider = outcome
        .alerts()
        .iter()
        .find(|alert| alert.decided())
        .or_else(|| outcome.alerts().iter().find(|alert| alert.drops()));
    Dropped {
        signature: decider.map(|alert| Alert::new(alert).signature()),
        reason: DropReason::new(outcome.drop_reason),
    }
}

pub(crate) fn verdict(flow: &Flow) -> Verdict {
    match &flow.dropped {
        Some(dropped) => Verdict::Drop(dropped.clone()),
        None => Verdict::Pass,
    }
}
