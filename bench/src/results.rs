//! What a run gave: samples, and the medians and ratios of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::load::Sample;
use crate::plan::Who;

/// All that one run gave.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Results {
    /// When, where, what versions.
    pub facts: BTreeMap<String, String>,
    /// Each measurement in the order made.
    pub records: Vec<Record>,
    /// How cost grows.
    #[serde(default)]
    pub growth: Vec<Curve>,
}

/// One measurement.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Record {
    /// Which work.
    pub work: String,
    /// Who did it.
    pub who: Who,
    /// In which round.
    pub round: usize,
    /// What it gave.
    pub sample: Sample,
}

/// One figure against what grows.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Curve {
    /// What the plot is called.
    pub plot: String,
    /// What the line is called.
    pub line: String,
    /// Names of the axes.
    pub axes: (String, String),
    /// The points, in order.
    pub points: Vec<(f64, f64)>,
}

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The middle one.
    pub value: f64,
    /// The lowest.
    pub low: f64,
    /// The highest.
    pub high: f64,
}

impl Median {
    /// The median of `values`; none without values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let value = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { value, low, high })
    }
}

impl Results {
    /// The works in the order of the run.
    pub fn works(&self) -> Vec<&str> {
        let mut works: Vec<&str> = Vec::new();
        for record in &self.records {
            if !works.contains(&record.work.as_str()) {
                works.push(&record.work);
            }
        }
        works
    }

    /// Who did `work`, in the order of the run.
    pub fn who(&self, work: &str) -> Vec<Who> {
        let mut all = Vec::new();
        for record in self.records.iter().filter(|record| record.work == work) {
            if !all.contains(&record.who) {
                all.push(record.who);
            }
        }
        all
    }

    /// The samples of `who` in `work` by round.
    pub fn samples(&self, work: &str, who: Who) -> BTreeMap<usize, &Sample> {
        let mine = self.records.iter().filter(|r| r.work == work && r.who == who);
        mine.map(|record| (record.round, &record.sample)).collect()
    }

    /// `figure` of `who` in `work` over the rounds.
    pub fn median(&self, work: &str, who: Who, figure: impl Fn(&Sample) -> f64) -> Option<Median> {
        Median::of(self.samples(work, who).values().map(|sample| figure(sample)).collect())
    }

    /// `figure` of `one` as a multiple of `other`'s, each round by itself, over the rounds.
    pub fn ratio(
        &self,
        work: &str,
        one: Who,
        other: Who,
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<Median> {
        self.ratio_across((work, one), (work, other), figure)
    }

    /// As [`Results::ratio`], of two works.
    pub fn ratio_across(
        &self,
        one: (&str, Who),
        other: (&str, Who),
        figure: impl Fn(&Sample) -> f64,
    ) -> Option<Median> {
        let others = self.samples(other.0, other.1);
        let pairs = self
            .samples(one.0, one.1)
            .into_iter()
            .filter_map(|(round, sample)| Some(figure(sample) / figure(others.get(&round)?)));
        Median::of(pairs.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let median = Median::of(vec![9.0, 1.0, 5.0, f64::NAN]).expect("values");
        assert_eq!(median, Median { value: 5.0, low: 1.0, high: 9.0 });
        assert_eq!(Median::of(vec![1.0, 2.0]).map(|m| m.value), Some(1.5));
        assert_eq!(Median::of(vec![]), None);
    }

    #[test]
    fn ratios_pair_what_was_measured_in_one_round() {
        let record = |who, round, rate| Record {
            work: "w".into(),
            who,
            round,
            sample: Sample { rate, ..Sample::default() },
        };
        let mut results = Results::default();
        // A machine that halves its speed between the rounds changes no ratio.
        for (round, speed) in [(0, 1.0), (1, 0.5), (2, 2.0)] {
            results.records.push(record(Who::Meergate, round, 300.0 * speed));
            results.records.push(record(Who::Squid, round, 100.0 * speed));
        }
        let ratio = results.ratio("w", Who::Meergate, Who::Squid, |s| s.rate).expect("a ratio");
        assert_eq!(ratio, Median { value: 3.0, low: 3.0, high: 3.0 });
    }
}
