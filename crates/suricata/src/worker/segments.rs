//! The segments of a flow that a worker makes up: the handshake, data, acknowledgements, the end; each goes through the
//! engine, and what that says of it is judged.

use std::mem;

use suricata_sys::{Note, flag};

use super::{NEW_RULES, Worker};
use crate::config::Mode;
use crate::error::Error;
use crate::flow::{Condition, Direction, Ends, Expect, Flow, State};
use crate::judge::{Finding, dropped, judge};
use crate::packet::{Gather, Segment};

/// In inline mode a verdict needs no acknowledgement, but the engine keeps what was not acknowledged, and the room that
/// it once took for that as long as the flow lives. So this is what an idle flow costs: at 16 packets more than 1 MB.
const PACKETS_PER_ACK: u32 = 2;

impl Worker {
    /// Ends the handshake. Put off until the first data, so that the engine can be told what to expect in it.
    pub(super) fn greet(&mut self, flow: &mut Flow) -> Result<(), Error> {
        if flow.state.greeted || flow.state.condition != Condition::Open {
            return Ok(());
        }
        flow.state.greeted = true;
        let note = match flow.state.expect {
            Expect::Any => Note::None,
            Expect::Http1 => Note::Http1,
            Expect::Protocol(name) => {
                let number = suricata_sys::app_protocol_number(name);
                let unknown = || Error::inspection(format!("the engine knows no protocol {name}"));
                match number.ok_or_else(unknown) {
                    Ok(number) => Note::Expect(number),
                    Err(error) => return Err(self.fail(flow, error)),
                }
            }
        };
        self.transmit(flow, Direction::ToServer, Segment::Acknowledge, &mut Gather::new(&[]), note)
    }

    pub(super) fn finish(&mut self, flow: &mut Flow) -> Result<(), Error> {
        let result = match flow.state.condition {
            Condition::Open => self.finish_in_order(flow),
            Condition::Bypassed | Condition::Condemned | Condition::Failed => self.reset(flow),
            Condition::Closed => Ok(()),
        };
        flow.state.condition = Condition::Closed;
        // Whatever it was, no parser has made anything of it.
        self.stats.unneeded_bytes += mem::take(&mut flow.state.unread).iter().sum::<u64>();
        result
    }

    /// Both ends finish, and what the engine held back is decided. The last acknowledgement is left out: by then the
    /// engine may have forgotten the flow, and would begin another with it.
    fn finish_in_order(&mut self, flow: &mut Flow) -> Result<(), Error> {
        if flow.state.ends != Ends::None {
            return self.finish_ended(flow);
        }
        let client = self.greet(flow).and_then(|()| {
            self.transmit(
                flow,
                Direction::ToServer,
                Segment::Finish,
                &mut Gather::new(&[]),
                Note::End,
            )
        });
        if client.is_err() || flow.state.condition != Condition::Open {
            self.reset(flow)?;
            return client;
        }
        self.transmit(
            flow,
            Direction::ToClient,
            Segment::Finish,
            &mut Gather::new(&[]),
            Note::Last,
        )?;
        if flow.state.condition == Condition::Open {
            self.lanes.give_back(flow.state.tuple, flow.state.lane);
        }
        Ok(())
    }

    /// Lets the engine see the end of one direction. With the second, what was held back is decided before the engine
    /// sees its sender finish: after that it may have forgotten the flow.
    pub(super) fn end_direction(
        &mut self,
        flow: &mut Flow,
        direction: Direction,
    ) -> Result<(), Error> {
        let (ends, segment, note) = match flow.state.ends {
            Ends::None => (Ends::One(direction), Segment::Finish, Note::None),
            _ => (Ends::Both(direction), Segment::Acknowledge, Note::End),
        };
        flow.state.ends = ends;
        self.transmit(flow, direction, segment, &mut Gather::new(&[]), note)
    }

    /// Finishes a flow of which a direction, or both, ended before.
    fn finish_ended(&mut self, flow: &mut Flow) -> Result<(), Error> {
        if let Ends::One(ended) = flow.state.ends {
            let result = self.end_direction(flow, ended.opposite());
            if result.is_err() || flow.state.condition != Condition::Open {
                self.reset(flow)?;
                return result;
            }
        }
        if let Ends::Both(last) = flow.state.ends {
            self.transmit(flow, last, Segment::Finish, &mut Gather::new(&[]), Note::Last)?;
        }
        if flow.state.condition == Condition::Open {
            self.lanes.give_back(flow.state.tuple, flow.state.lane);
        }
        Ok(())
    }

    /// Lets the engine forget a flow that did not end in order. What it says to that changes nothing any more.
    fn reset(&mut self, flow: &mut Flow) -> Result<(), Error> {
        let State { lane, id, .. } = flow.state;
        let buffer = &mut self.buffer;
        let len = flow.state.stream.write(
            buffer,
            Direction::ToServer,
            Segment::Reset,
            &mut Gather::new(&[]),
        );
        self.stats.packets += 1;
        let Some(raw) = &mut self.raw else { return Err(Error::stopped()) };
        let _ = raw.packet(&mut buffer[..len], lane.bits(), id, Note::Last);
        Ok(())
    }

    /// The window in a SYN/ACK is not scaled (RFC 7323 section 2.2), so until the server has said anything else, only
    /// that much may go to it.
    pub(super) fn open_window(
        &mut self,
        flow: &mut Flow,
        to: Direction,
        bytes: usize,
    ) -> Result<(), Error> {
        let sent = flow.state.fed[to as usize] + bytes as u64;
        if to == Direction::ToClient {
            flow.state.server_window_open = true;
        } else if !flow.state.server_window_open && sent > u64::from(u16::MAX) {
            flow.state.server_window_open = true;
            self.send(flow, Direction::ToClient, Segment::Acknowledge)?;
        }
        Ok(())
    }

    pub(super) fn acknowledge(
        &mut self,
        flow: &mut Flow,
        sent: Direction,
        bytes: usize,
    ) -> Result<(), Error> {
        let due = &mut flow.state.unacknowledged[sent as usize];
        let window = match self.shared.mode {
            Mode::Ids { ack_window } => {
                *due = due.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
                ack_window.max(1)
            }
            Mode::Ips => {
                *due += 1;
                PACKETS_PER_ACK
            }
        };
        // A packet of the other direction acknowledges too.
        let due = *due;
        if self.shared.mode == Mode::Ips {
            flow.state.unacknowledged[sent.opposite() as usize] = 0;
        }
        if due < window || flow.state.condition != Condition::Open {
            return Ok(());
        }
        flow.state.unacknowledged[sent as usize] = 0;
        self.send(flow, sent.opposite(), Segment::Acknowledge)
    }

    /// A segment without data through the engine.
    pub(super) fn send(
        &mut self,
        flow: &mut Flow,
        direction: Direction,
        segment: Segment,
    ) -> Result<(), Error> {
        self.transmit(flow, direction, segment, &mut Gather::new(&[]), Note::None)
    }

    /// One segment through the engine, with as much of `data` as fits. On a drop the flow is condemned; on an error it
    /// has failed.
    pub(super) fn transmit(
        &mut self,
        flow: &mut Flow,
        direction: Direction,
        segment: Segment,
        data: &mut Gather<'_>,
        note: Note,
    ) -> Result<(), Error> {
        if flow.state.condition != Condition::Open {
            return Ok(());
        }
        let State { lane, id, .. } = flow.state;
        let seam = data.seam();
        let before = data.len();
        let len = flow.state.stream.write(&mut self.buffer, direction, segment, data);
        let fed = before - data.len();
        self.stats.packets += 1;
        let Some(raw) = &mut self.raw else { return Err(Error::stopped()) };
        let before = raw.outcome();
        let (told, untold) = (before.alerts().len(), before.alerts_lost);
        let packet = &mut self.buffer[..len];
        let joined = seam.map_or(Ok(()), |seam| raw.join(seam));
        if let Err(failure) = joined.and_then(|()| raw.packet(packet, lane.bits(), id, note)) {
            let reason = format!("the engine did not process a packet: {failure}");
            return Err(self.fail(flow, Error::inspection(reason).with_source(failure)));
        }
        let outcome = raw.outcome();
        let (told, untold) = (outcome.alerts().len() - told, outcome.alerts_lost - untold);
        self.stats.alerts += told as u64 + u64::from(untold);
        self.stats.alerts_lost += u64::from(untold);
        match judge(outcome, &flow.state, fed > 0) {
            Ok(Finding::Dropped) => {
                flow.dropped = Some(dropped(outcome));
                flow.state.condition = Condition::Condemned;
                self.stats.drops += 1;
                self.stats.inspected_bytes += fed as u64;
                Ok(())
            }
            Ok(finding) => {
                flow.state.id = outcome.flow_id;
                flow.state.app_protocol = outcome.app_protocol;
                let [requests, responses] = outcome.content;
                flow.state.content_kept[Direction::ToServer as usize] += requests;
                flow.state.content_kept[Direction::ToClient as usize] += responses;
                flow.state.reads_mail = outcome.has(flag::READS_MAIL);
                let (parsed, unread) = (outcome.has(flag::PARSED), outcome.has(flag::UNREAD));
                let waiting = &mut flow.state.unread;
                if parsed {
                    self.stats.inspected_bytes += mem::take(waiting).iter().sum::<u64>();
                }
                match finding {
                    Finding::Inspected if unread => waiting[direction as usize] += fed as u64,
                    Finding::Dropped | Finding::Inspected => {
                        let before = mem::take(&mut waiting[direction as usize]);
                        self.stats.inspected_bytes += before + fed as u64;
                    }
                    Finding::Unneeded if flow.state.begun_by != self.proven_rules => {
                        // Those with which it began had no use for it, but these may have.
                        return Err(self.fail(flow, Error::inspection(NEW_RULES)));
                    }
                    Finding::Unneeded => {
                        let before = mem::take(&mut waiting[direction as usize]);
                        flow.state.unneeded_by = Some(self.proven_rules);
                        self.stats.unneeded_bytes += before + fed as u64;
                    }
                    Finding::Excused => {
                        flow.state.excused = true;
                        self.stats.excused_bytes += fed as u64;
                    }
                }
                if outcome.has(flag::BYPASSED) {
                    flow.state.condition = Condition::Bypassed;
                }
                Ok(())
            }
            Err(error) => Err(self.fail(flow, error)),
        }
    }

    pub(super) fn fail(&mut self, flow: &mut Flow, error: Error) -> Error {
        flow.state.condition = Condition::Failed;
        self.stats.failures += 1;
        if error.loss().is_some() {
            self.stats.losses += 1;
        }
        error
    }
}
