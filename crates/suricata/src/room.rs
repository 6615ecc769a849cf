//! Memory caps of the engine that follow from what may be under way at once.

use suricata_sys::Configured;

use crate::config::{EngineConfig, Override};
use crate::error::Error;
use crate::settings::{Applied, force};

const WHY: &str = "what may be under way at once needs so much";

/// So much may be under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) bodies: u64,
    pub(crate) flows: u64,
}

/// Bytes of a memory cap of Suricata's.
struct Need {
    name: &'static str,
    /// At least, whatever may be under way: also what has ended and is not forgotten yet.
    base: u64,
    /// For each body under way.
    body: u64,
    /// For each open flow, with or without a body.
    flow: u64,
    /// Whether 0 means that there is no limit.
    zero_is_none: bool,
}

/// Measured by `tests/room.rs`, and doubled.
const NEEDS: [Need; 4] = [
    Need {
        name: "app-layer.protocols.http.memcap",
        base: 256 << 20,
        body: 1 << 20,
        flow: 16 << 10,
        zero_is_none: true,
    },
    Need { name: "flow.memcap", base: 512 << 20, body: 0, flow: 2 << 10, zero_is_none: false },
    Need { name: "stream.memcap", base: 512 << 20, body: 0, flow: 2 << 10, zero_is_none: true },
    Need {
        name: "stream.reassembly.memcap",
        base: 256 << 20,
        body: 1 << 20,
        flow: 512 << 10,
        zero_is_none: true,
    },
];

impl Need {
    fn bytes(&self, room: Room) -> u64 {
        let of = |each: u64, count: u64| each.saturating_mul(count);
        self.base
            .saturating_add(of(self.body, room.bodies))
            .saturating_add(of(self.flow, room.flows))
            // Suricata reads them as signed in places.
            .min(i64::MAX as u64)
    }
}

/// Raises the caps that are too low, but for those that the caller has set by name.
pub(crate) fn make(
    main: &mut Configured,
    config: &EngineConfig,
    applied: &mut Applied,
) -> Result<(), Error> {
    let Some(room) = config.room else { return Ok(()) };
    for need in &NEEDS {
        if config.overrides.iter().any(|(name, _)| name == need.name) {
            continue;
        }
        let bytes = need.bytes(room);
        let was = main.setting(need.name);
        let fits = match was.as_deref().map(size) {
            Some(Some(0)) => need.zero_is_none,
            Some(Some(cap)) => cap >= bytes,
            // Suricata says what is wrong with it.
            Some(None) => true,
            None => false,
        };
        if fits {
            continue;
        }
        let (name, now) = (need.name.to_owned(), bytes.to_string());
        force(main, &name, &now)?;
        applied.forced.push((name.clone(), now.clone()));
        if let Some(was) = was.filter(|_| config.yaml.is_some()) {
            applied.overrides.push(Override { name, was, now, why: WHY });
        }
    }
    Ok(())
}

/// A size as Suricata writes it (`ParseSizeStringU64`): `64mb`.
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1_u64,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        _ => return None,
    };
    let number: f64 = digits.trim().parse().ok().filter(|number| *number >= 0.0)?;
    Some((number * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_suricata_reads_them() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("64mb", Some(64 << 20)),
            (" 1.5 GB ", Some(3 << 29)),
            ("32KiB", None),
            ("a lot", None),
            ("-1", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }

    #[test]
    fn no_number_is_too_large() {
        let room = Room { bodies: u64::MAX, flows: u64::MAX };
        assert!(NEEDS.iter().all(|need| need.bytes(room) == i64::MAX as u64));
    }
}
