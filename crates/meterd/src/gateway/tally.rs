//! What each rule has decided, for the metrics. The number of rules bounds the number of series.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The most series that `detailed_metric` adds, over all rules; a value beyond is counted with its rule.
const DETAILS: usize = 1000;

/// The result of one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Allowed,
    Refused,
    Shadow,
    Error,
}

const OUTCOMES: [&str; 4] = ["allowed", "refused", "shadow", "error"];

/// The counts of one rule.
#[derive(Debug, Default)]
pub struct Tally([AtomicU64; OUTCOMES.len()]);

impl Tally {
    pub(super) fn add(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// The tallies of all rules, present and past: counters outlive a reload.
#[derive(Debug, Default)]
pub struct Tallies(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    rules: BTreeMap<(String, String), Arc<Tally>>,
    details: usize,
}

impl Tallies {
    /// That of a rule.
    pub(super) fn of(&self, domain: &str, rule: &str) -> Arc<Tally> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.rules.entry((domain.to_owned(), rule.to_owned())).or_default().clone()
    }

    /// That of a value of a rule, while there is room for one more.
    pub(super) fn detail(&self, domain: &str, rule: &str, value: &str) -> Option<Arc<Tally>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (domain.to_owned(), format!("{rule}={value}"));
        if let Some(tally) = all.rules.get(&name) {
            return Some(tally.clone());
        }
        if all.details == DETAILS {
            return None;
        }
        all.details += 1;
        Some(all.rules.entry(name).or_default().clone())
    }

    /// In Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.rules.is_empty() {
            return String::new();
        }
        let name = "meterd_limit_checks_total";
        let mut text =
            format!("# HELP {name} Descriptors that were checked, by rule and result.\n# TYPE {name} counter\n");
        for ((domain, rule), tally) in &all.rules {
            for (outcome, count) in OUTCOMES.iter().zip(&tally.0) {
                let (domain, rule, count) = (escaped(domain), escaped(rule), count.load(Ordering::Relaxed));
                let _ = writeln!(text, "{name}{{domain=\"{domain}\",rule=\"{rule}\",result=\"{outcome}\"}} {count}");
            }
        }
        text
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
