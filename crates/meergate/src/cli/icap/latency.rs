//! How long things took, in a fixed amount of memory.

use std::time::Duration;

/// Steps that each doubling is divided into: a quantile is right within 1 %.
const STEPS: u32 = 128;
/// Doublings above [`STEPS`] microseconds: about 75 hours.
const DOUBLINGS: u32 = 31;

/// A histogram of times from one microsecond up.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        let counts = vec![0; (STEPS * (DOUBLINGS + 1)) as usize];
        Self { counts, total: 0, longest: Duration::ZERO }
    }
}

impl Latency {
    /// Notes one.
    pub(super) fn add(&mut self, took: Duration) {
        let last = self.counts.len() - 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.counts[place(micros).min(last)] += 1;
        self.total += 1;
        self.longest = self.longest.max(took);
    }

    /// Adds those of another.
    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(a, b)| *a += b);
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.total
    }

    /// The longest.
    pub(super) fn longest(&self) -> Duration {
        self.longest
    }

    /// The time that `share` (0 to 1) of them did not exceed.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(upper(at)).min(self.longest);
            }
        }
        self.longest
    }
}

/// Times below `STEPS` have a place each; above, each doubling has `STEPS` of them.
fn place(micros: u64) -> usize {
    let steps = u64::from(STEPS);
    if micros < steps {
        return micros as usize;
    }
    let doubling = micros.ilog2() - STEPS.ilog2();
    (steps * u64::from(doubling + 1) + (micros >> doubling) - steps) as usize
}

/// The longest time that has this place.
fn upper(place: usize) -> u64 {
    let (steps, place) = (u64::from(STEPS), place as u64);
    match (place / steps).checked_sub(1) {
        None => place,
        Some(doubling) => ((place % steps + steps + 1) << doubling) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_hold_what_they_say() {
        for micros in (0..5000).chain([65_535, 65_536, 1_000_000, 86_400_000_000]) {
            let at = place(micros);
            assert!(micros <= upper(at), "{micros}");
            assert!(at == 0 || micros > upper(at - 1), "{micros}");
            assert!((upper(at) - micros) as f64 <= micros as f64 * 0.01, "{micros}");
        }
    }

    #[test]
    fn quantiles_are_found() {
        let mut latency = Latency::default();
        (1..=1000).for_each(|n| latency.add(Duration::from_micros(n)));
        let mut other = Latency::default();
        other.add(Duration::from_secs(1 << 20));
        latency.merge(&other);
        assert_eq!(latency.count(), 1001);
        for (share, micros) in [(0.5, 501.0), (0.99, 991.0)] {
            let found = latency.quantile(share).as_micros() as f64;
            assert!((found - micros).abs() <= micros * 0.01, "{share}: {found}");
        }
        assert_eq!(latency.quantile(1.0), Duration::from_micros(upper(latency.counts.len() - 1)));
        assert_eq!(latency.longest(), Duration::from_secs(1 << 20));
        assert_eq!(Latency::default().quantile(0.5), Duration::ZERO);
    }
}
