//! Hears what libsuricata says by itself, and decides about rule sets.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use suricata_sys::{Level, RuleCounts, Sink};
use tracing::{debug, error, info, warn};

use crate::rules::{BadRule, RuleStats};
use crate::stats::EngineStats;

const COMPLAINTS_KEPT: usize = 16;
const BAD_RULES_KEPT: usize = 100;

/// What a rule set must be like to be taken into use.
#[derive(Debug, Default)]
pub(crate) struct RulePolicy {
    pub(crate) tolerate_bad: bool,
    /// Rules of our own among the good ones.
    pub(crate) own: u32,
}

/// What the last rule set was like.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadedRules {
    pub(crate) stats: RuleStats,
    /// Why it was refused, if it was.
    pub(crate) refused: Option<String>,
}

#[derive(Default)]
pub(crate) struct Monitor {
    policy: RulePolicy,
    complaints: Mutex<VecDeque<String>>,
    bad_rules: Mutex<Vec<BadRule>>,
    /// Errors about the rules that are being read, until it is known which rule they are about.
    rule_errors: Mutex<Vec<String>>,
    /// Errors about all of them.
    rules_errors: Mutex<Vec<String>>,
    loaded: Mutex<Option<LoadedRules>>,
    round: Mutex<BTreeMap<String, u64>>,
    stats: Mutex<EngineStats>,
}

impl Monitor {
    pub(crate) fn new(policy: RulePolicy) -> Arc<Self> {
        Arc::new(Self { policy, ..Self::default() })
    }

    /// Suricata's errors since this was last called, oldest first, as one line.
    pub(crate) fn complaints(&self) -> String {
        let complaints = lock(&self.complaints).drain(..).collect::<Vec<_>>();
        complaints.join("; ")
    }

    /// The rule set that was read since this was last called.
    pub(crate) fn take_rules(&self) -> Option<LoadedRules> {
        lock(&self.loaded).take()
    }

    pub(crate) fn stats(&self) -> EngineStats {
        EngineStats { lines_lost: suricata_sys::lines_lost(), ..lock(&self.stats).clone() }
    }

    fn complain(&self, message: &str) {
        let mut complaints = lock(&self.complaints);
        if complaints.len() == COMPLAINTS_KEPT {
            complaints.pop_front();
        }
        complaints.push_back(message.to_owned());
    }

    fn judge(
        &self,
        counts: RuleCounts,
        bad_rules: &[BadRule],
        errors: &[String],
    ) -> Option<String> {
        if counts.bad_files > 0 {
            let about_files = lock(&self.complaints)
                .iter()
                .chain(errors)
                .filter(|complaint| complaint.contains("rule file"))
                .cloned()
                .collect::<Vec<_>>();
            return Some(format!(
                "{} rule file(s) cannot be read: {}",
                counts.bad_files,
                about_files.join("; ")
            ));
        }
        if counts.bad > 0 && !self.policy.tolerate_bad {
            let told: Vec<_> = bad_rules.iter().map(ToString::to_string).collect();
            let left = (counts.bad as usize).saturating_sub(told.len());
            let rest = if left > 0 { format!("; and {left} more") } else { String::new() };
            let what = match counts.bad {
                1 => "a rule does not parse".to_owned(),
                bad => format!("{bad} rules do not parse"),
            };
            return Some(format!("{what}: {}{rest}", told.join("; ")));
        }
        let errors = errors.join("; ");
        if !errors.is_empty() && !self.policy.tolerate_bad {
            return Some(format!("the rules were not read without errors: {errors}"));
        }
        if counts.failed {
            return Some(format!("Suricata made no set of the rules: {errors}"));
        }
        if counts.good <= self.policy.own {
            return Some("the rule files hold no rule".to_owned());
        }
        None
    }
}

/// The sink that libsuricata talks to: one for the life of the process.
pub(crate) struct MonitorSink(pub(crate) Arc<Monitor>);

impl Sink for MonitorSink {
    fn log(&self, level: Level, message: &str) {
        match level {
            Level::Error => {
                error!(target: "suricata", "{message}");
                self.0.complain(message);
            }
            Level::Warning => {
                warn!(target: "suricata", "{message}");
                // A missing rule file is only worth a warning to Suricata.
                if message.contains("rule file") {
                    self.0.complain(message);
                }
            }
            Level::Notice => info!(target: "suricata", "{message}"),
            Level::Info | Level::Config => debug!(target: "suricata", "{message}"),
        }
    }

    fn rule_error(&self, message: &str) {
        keep(&mut lock(&self.0.rule_errors), message);
    }

    fn rules_error(&self, message: &str) {
        keep(&mut lock(&self.0.rules_errors), message);
    }

    fn bad_rule(&self, file: &str, line: u32, rule: &str) {
        // The first complaint is the cause, later ones are its echo.
        let reason = mem::take(&mut *lock(&self.0.rule_errors)).into_iter().next();
        let mut bad_rules = lock(&self.0.bad_rules);
        if bad_rules.len() < BAD_RULES_KEPT {
            bad_rules.push(BadRule {
                file: PathBuf::from(file),
                line,
                reason: reason.unwrap_or_default(),
                rule: rule.to_owned(),
            });
        }
    }

    fn accept_rules(&self, counts: RuleCounts) -> bool {
        let bad_rules = mem::take(&mut *lock(&self.0.bad_rules));
        let mut errors = mem::take(&mut *lock(&self.0.rules_errors));
        // There was no bad rule that they would have been about.
        for error in mem::take(&mut *lock(&self.0.rule_errors)) {
            keep(&mut errors, &error);
        }
        for error in &errors {
            error!(target: "suricata", "{error}");
        }
        let refused = self.0.judge(counts, &bad_rules, &errors);
        let accepted = refused.is_none();
        let stats = RuleStats {
            good: counts.good.saturating_sub(self.0.policy.own),
            // The engine's own check drops.
            dropping: counts.dropping.saturating_sub(self.0.policy.own),
            bad: counts.bad,
            skipped: counts.skipped,
            bad_rules,
            errors,
            ..RuleStats::default()
        };
        *lock(&self.0.loaded) = Some(LoadedRules { stats, refused });
        accepted
    }

    fn counter(&self, name: &str, value: u64) {
        let mut round = lock(&self.0.round);
        match round.get_mut(name) {
            Some(counter) => *counter = value,
            None => {
                round.insert(name.to_owned(), value);
            }
        }
    }

    fn counters_done(&self) {
        let counters = lock(&self.0.round).clone();
        let mut stats = lock(&self.0.stats);
        stats.counters = counters;
        stats.rounds += 1;
    }
}

fn keep(errors: &mut Vec<String>, message: &str) {
    if errors.len() < COMPLAINTS_KEPT {
        errors.push(message.to_owned());
    }
}

/// Locks a mutex whose data stays valid even if a holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
