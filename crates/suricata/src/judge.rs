//! What the engine did with a packet, and what that means for the flow.

use suricata_sys::{Outcome, flag};

use crate::flow::{Expect, Flow, State};
use crate::verdict::{Alert, DropReason, Dropped, Verdict};

/// What a packet's way through the engine amounts to.
pub(crate) enum Finding {
    Dropped,
    Excused,
    Inspected,
}

/// Anything but a drop, an excuse by rule, or inspection to the end is an error: never a pass.
pub(crate) fn judge(outcome: &Outcome, flow: &State, has_data: bool) -> Result<Finding, String> {
    if !outcome.has(flag::RELEASED) {
        return Err("the engine did not give a packet back".to_owned());
    }
    if outcome.has(flag::DROPPED) {
        return Ok(Finding::Dropped);
    }
    if !outcome.has(flag::INSPECTED | flag::HAS_FLOW) {
        return Err("a packet did not go through detection".to_owned());
    }
    if flow.id != 0 && outcome.flow_id != flow.id {
        return Err("the engine lost the flow and began another".to_owned());
    }
    if outcome.event_count > 0 {
        return Err(format!("the stream is broken: {}", suricata_sys::event_name(outcome.event)));
    }
    let excused =
        [flag::PASSED, flag::NO_PAYLOAD, flag::BYPASSED].iter().any(|flag| outcome.has(*flag));
    if !has_data {
        return Ok(Finding::Inspected);
    }
    if excused {
        return Ok(Finding::Excused);
    }
    if !outcome.has(flag::ADDED) {
        return Err("payload was not taken into the stream".to_owned());
    }
    if outcome.has(flag::APP_DISABLED) && flow.expect != Expect::Any {
        return Err("the engine gave up parsing the protocol".to_owned());
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
