//! One sentence for people.

use crate::catalogue::RowKind;
use crate::config::Direction;
use crate::rule::{Bound, Comparison, Condition, Rule};
use crate::series::Judgement;
use crate::shorten::shortened;
use crate::transition::{Reason, Transition};

/// The sentence of a transition.
pub(crate) fn of(transition: &Transition<'_>, kind: &RowKind) -> String {
    let rule = transition.rule;
    let place = place(transition, kind);
    match transition.reason {
        Reason::Fired | Reason::Changed | Reason::Repeated => {
            format!("{}{place}{}", state(transition, kind), carried(transition))
        }
        Reason::Cleared => format!("{}{place}", cleared(transition, kind)),
        Reason::NoData => {
            let what = if rule.metric.is_empty() { kind.name } else { &rule.metric };
            format!("no more data for {what}{place}")
        }
        Reason::RuleRemoved => format!("the rule {} was removed or changed{place}", rule.name),
    }
}

fn state(transition: &Transition<'_>, kind: &RowKind) -> String {
    let rule = transition.rule;
    if let Condition::Absence { .. } = rule.condition {
        return format!("no rows of {} in {} evaluations in a row", kind.name, transition.seen.misses);
    }
    let (Some(value), Some(judgement)) = (transition.seen.value, transition.seen.judgement) else {
        return format!("{} fires", rule.name);
    };
    let compared = match unmet(transition, kind) {
        // of the value itself nothing is said: it may be where it was
        Some(unmet) => format!("and {unmet}"),
        None if judgement.breaches => beyond(rule, judgement),
        None => format!("for now no longer {}", beyond(rule, judgement)),
    };
    format!("{} is {}{}, {compared},", rule.metric, number(value), usual(transition))
}

/// Only a value that is compared with a number comes back. What is compared with its past may stay, and become the usual.
fn cleared(transition: &Transition<'_>, kind: &RowKind) -> String {
    let rule = transition.rule;
    let (Some(value), Some(judgement)) = (transition.seen.value, transition.seen.judgement) else {
        return "rows have come back".to_owned();
    };
    match rule.condition {
        _ if unmet(transition, kind).is_some() => state(transition, kind),
        Condition::Threshold { bound: Bound::Fixed(_), .. } => {
            format!("{} is back at {}", rule.metric, number(value))
        }
        _ => {
            format!("{} is {}, no longer {}{}", rule.metric, number(value), beyond(rule, judgement), usual(transition))
        }
    }
}

/// What the rule requires and the row does not have.
fn unmet(transition: &Transition<'_>, kind: &RowKind) -> Option<String> {
    let values = &transition.seen.row?.values;
    let falls_short = |(name, least): &(&String, &f64)| {
        kind.metric(name).is_some_and(|at| values[at].is_none_or(|value| value < **least))
    };
    let (name, least) = transition.rule.require.iter().find(falls_short)?;
    Some(format!("{name} is not at least {}", number(*least)))
}

/// Where a value is that breaches.
fn beyond(rule: &Rule, judgement: Judgement) -> String {
    let threshold = judgement.threshold.map(number).unwrap_or_default();
    match &rule.condition {
        Condition::Change { direction, .. } => {
            format!("shifted {}", if *direction == Direction::Up { "up" } else { "down" })
        }
        Condition::Deviation { direction: Direction::Up, .. } => format!("above {threshold}"),
        Condition::Deviation { direction: Direction::Down, .. } => format!("below {threshold}"),
        Condition::Threshold { comparison, .. } => match comparison {
            Comparison::Above => format!("above {threshold}"),
            Comparison::AtLeast => format!("at or above {threshold}"),
            Comparison::Below => format!("below {threshold}"),
            Comparison::AtMost => format!("at or below {threshold}"),
        },
        Condition::Absence { .. } => String::new(),
    }
}

fn usual(transition: &Transition<'_>) -> String {
    let baseline = transition.seen.judgement.and_then(|judgement| judgement.baseline);
    baseline.map(|baseline| format!(" (normally {})", number(baseline))).unwrap_or_default()
}

/// The group, without dimensions that it does not have.
fn place(transition: &Transition<'_>, kind: &RowKind) -> String {
    let named = kind.dimensions.iter().zip(transition.group).filter(|(_, value)| !value.is_empty());
    let named: Vec<String> = named.map(|(name, value)| format!("{name}={}", shortened(value))).collect();
    if named.is_empty() { " overall".to_owned() } else { format!(" in {}", named.join(", ")) }
}

fn carried(transition: &Transition<'_>) -> String {
    if transition.seen.judgement.is_some_and(|judgement| !judgement.breaches) {
        return String::new();
    }
    match transition.firing.attribution.first() {
        Some(strongest) if strongest.share > 0.0 => format!(
            "; {:.0} % of the excess lies in {} {}",
            100.0 * strongest.share,
            strongest.dimensions,
            strongest.values
        ),
        _ => String::new(),
    }
}

/// Three significant digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = match size {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases =
            [(0.687_5, "0.688"), (0.5, "0.5"), (0.0, "0"), (-12.345, "-12.3"), (1234.5, "1234"), (2.5e-7, "2.50e-7")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }
}
