//! Inhibition: while one alert fires, nobody is told of others.

use hashbrown::HashMap;

use crate::labels::Labels;
use crate::matcher::Matcher;

/// While an alert fires that fulfils `source`, firing ones that fulfil `target` and have the same values of the labels
/// `equal` are not told.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Those that inhibit.
    pub source: Vec<Matcher>,
    /// Those that are inhibited.
    pub target: Vec<Matcher>,
    /// Must be the same in both; absent in both is the same.
    pub equal: Vec<String>,
}

/// Firing sources with the same values of `equal`.
#[derive(Debug, Clone, Copy, Default)]
struct Sources {
    all: u32,
    /// Of these, those that are targets too. As in Alertmanager they do not inhibit others of both sides, so that no two
    /// alerts inhibit each other, and none itself.
    also_targets: u32,
}

/// The rules, and which sources fire.
#[derive(Debug, Clone, Default)]
pub struct Inhibitions {
    rules: Vec<(Rule, HashMap<u128, Sources>)>,
}

impl Inhibitions {
    /// Nothing fires yet.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        Self { rules: rules.into_iter().map(|rule| (rule, HashMap::new())).collect() }
    }

    /// The rules.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|(rule, _)| rule)
    }

    /// An alert begins to fire, or ends to.
    pub fn note(&mut self, labels: &Labels<'_>, fires: bool) {
        for (rule, sources) in &mut self.rules {
            if !labels.fulfil(&rule.source) {
                continue;
            }
            let key = labels.hash_of(&rule.equal);
            let also_target = u32::from(labels.fulfil(&rule.target));
            let found = sources.entry(key).or_default();
            if fires {
                found.all += 1;
                found.also_targets += also_target;
            } else {
                found.all = found.all.saturating_sub(1);
                found.also_targets = found.also_targets.saturating_sub(also_target);
                if found.all == 0 {
                    sources.remove(&key);
                }
            }
        }
    }

    /// The number of the first rule that inhibits a firing alert with these labels.
    #[must_use]
    pub fn inhibiting(&self, labels: &Labels<'_>) -> Option<usize> {
        self.rules.iter().position(|(rule, sources)| {
            if sources.is_empty() || !labels.fulfil(&rule.target) {
                return false;
            }
            let Some(found) = sources.get(&labels.hash_of(&rule.equal)) else { return false };
            if labels.fulfil(&rule.source) { found.all > found.also_targets } else { found.all > 0 }
        })
    }
}

#[cfg(test)]
mod tests {
    use records::Alert;

    use super::{Inhibitions, Rule};
    use crate::labels::Labels;
    use crate::matcher::Matcher;

    fn alert(severity: &'static str, domain: &'static str) -> Alert<'static> {
        crate::core::tests::alert(1, "rule", severity, domain)
    }

    fn rule(source: &str, target: &str, equal: &[&str]) -> Rule {
        Rule {
            source: vec![Matcher::parse(source).unwrap()],
            target: vec![Matcher::parse(target).unwrap()],
            equal: equal.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_firing_source_inhibits_targets_with_equal_labels_until_it_ends() {
        let mut inhibitions = Inhibitions::new(vec![rule("severity=critical", "severity=warning", &["domain"])]);
        let (critical, same, other) =
            (alert("critical", "books"), alert("warning", "books"), alert("warning", "films"));
        assert_eq!(inhibitions.inhibiting(&Labels::of(&same)), None);
        inhibitions.note(&Labels::of(&critical), true);
        assert_eq!(inhibitions.inhibiting(&Labels::of(&same)), Some(0));
        assert_eq!(inhibitions.inhibiting(&Labels::of(&other)), None);
        assert_eq!(inhibitions.inhibiting(&Labels::of(&critical)), None, "no target");
        inhibitions.note(&Labels::of(&critical), false);
        assert_eq!(inhibitions.inhibiting(&Labels::of(&same)), None);
    }

    #[test]
    fn alerts_of_both_sides_do_not_inhibit_each_other() {
        let mut inhibitions = Inhibitions::new(vec![rule("severity=~\".+\"", "severity=warning", &[])]);
        let (one, two, critical) = (alert("warning", "a"), alert("warning", "b"), alert("critical", "c"));
        inhibitions.note(&Labels::of(&one), true);
        inhibitions.note(&Labels::of(&two), true);
        assert_eq!(inhibitions.inhibiting(&Labels::of(&one)), None);
        inhibitions.note(&Labels::of(&critical), true);
        assert_eq!(inhibitions.inhibiting(&Labels::of(&one)), Some(0));
    }
}
