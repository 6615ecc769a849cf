//! Counters.

use std::collections::BTreeMap;

/// Suricata's own counters, by their dotted names, as of the last time it told them (every `stats.interval` seconds).
/// Empty before the first time, and if the user's YAML turns them off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Such as `detect.alert` or `flow.memuse`.
    pub counters: BTreeMap<String, u64>,
    /// How often they were told.
    pub rounds: u64,
    /// Lines of its log files, EVE's among them, that could not be written: now, not when counters were told last.
    pub lines_lost: u64,
}

/// What a worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerStats {
    /// Flows opened, without those of canaries.
    pub flows: u64,
    /// Packets made, of any kind.
    pub packets: u64,
    /// Payload bytes that went through detection.
    pub inspected_bytes: u64,
    /// Payload bytes that a rule took out of inspection (`bypass`, `pass`).
    pub excused_bytes: u64,
    /// Payload bytes of flows into which neither a rule nor a parser looks: rules for single packets saw them.
    pub unneeded_bytes: u64,
    /// Flows condemned.
    pub drops: u64,
    /// Rules that matched.
    pub alerts: u64,
    /// Those of them that [`Worker::alerts`](crate::Worker::alerts) had no room for.
    pub alerts_lost: u64,
    /// Flows on which inspection failed.
    pub failures: u64,
    /// Those of them on which the engine went on without looking: see [`Loss`](crate::Loss).
    pub losses: u64,
    /// Flows that their owner dropped instead of closing.
    pub orphans: u64,
}
