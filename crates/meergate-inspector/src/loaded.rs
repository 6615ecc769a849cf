//! A rule set as it was loaded: how many rules, and whether any of them can stop anything.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A rule set, loaded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Loaded {
    /// Rules in force.
    pub(crate) rules: u32,
    /// Those of them that drop.
    pub(crate) dropping: u32,
    /// Rules that need what this engine lacks.
    pub(crate) skipped: u32,
    /// Rules that do not parse, and are done without.
    pub(crate) lost: u32,
    /// Grows with each set that the process loads.
    pub(crate) version: u64,
    /// How long it took.
    pub(crate) milliseconds: u64,
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rules, dropping, skipped, lost, .. } = self;
        write!(f, "{rules} rules, {dropping} of them can drop")?;
        if *skipped > 0 {
            write!(f, ", {skipped} skipped")?;
        }
        match lost {
            0 => Ok(()),
            lost => write!(f, ", {lost} lost since they do not parse"),
        }
    }
}

impl Loaded {
    /// What is the matter with a set that loads and yet stops nothing.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        (self.dropping == 0).then_some(
            "no rule can drop: nothing will be blocked: write `drop` in the place of `alert` where a match is to be \
             blocked, or give suricata-update a drop.conf (docs/inspector.md, Rules that drop)",
        )
    }
}
