//! One rule over the rows of one window.

use crate::attribution::{Attribution, attribute};
use crate::catalogue::{Group, Row, RowKind};
use crate::config::Direction;
use crate::evaluator::Counts;
use crate::live::LiveRule;
use crate::rule::{Condition, Requirement, Rule, Terms};
use crate::series::{Firing, Judgement, Series};
use crate::transition::{Reason, Seen, Transition};

/// A row and what is said of it.
struct Judged<'a> {
    row: &'a Row,
    value: f64,
    judgement: Judgement,
}

/// Evaluates, or only notes what will be the past of later rows, and shows transitions to `emit`.
pub(crate) fn evaluate(
    live: &mut LiveRule,
    (end, rows): (i64, &[Row]),
    kind: &RowKind,
    terms: Terms,
    counts: &mut Counts,
    emit: &mut dyn FnMut(&Transition<'_>),
) {
    let due = live.rule.is_due(end);
    let mut judged: Vec<Judged<'_>> = Vec::new();
    for row in rows {
        if !live.rule.matches(&row.group) {
            continue;
        }
        let Some(value) = usable(live, row) else { continue };
        let full = live.series.len() as u64 >= terms.max_series;
        if let Some(judgement) = judge(live, row, value, (end, due), full, counts) {
            judged.push(Judged { row, value, judgement });
        }
    }
    if due {
        counts.evaluations += judged.len() as u64;
        let attribution = strongest(live, kind, &judged, rows);
        for item in &judged {
            settle(live, item, (end, terms), &attribution, counts, emit);
        }
        miss(live, (end, terms), kind, counts, emit);
        live.evict(end);
    }
}

/// The value of a row that can be judged: of absence, that there is one.
fn usable(live: &LiveRule, row: &Row) -> Option<f64> {
    if live.rule.requirement(&row.values) == Requirement::TooFew {
        return None;
    }
    match live.rule.metric {
        None => Some(0.0),
        Some(metric) => row.values[metric].filter(|value| value.is_finite()),
    }
}

fn judge(
    live: &mut LiveRule,
    row: &Row,
    value: f64,
    (end, due): (i64, bool),
    full: bool,
    counts: &mut Counts,
) -> Option<Judgement> {
    let condition = &live.rule.rule.condition;
    let met = live.rule.requirement(&row.values) == Requirement::Met;
    let Some(empty) = condition.empty_past() else {
        let firing = live.series.get(&row.group).is_some_and(|series| series.firing.is_some());
        let mut judgement = condition.judge(&mut Default::default(), end, value, firing)?;
        judgement.breaches &= met;
        // a series is kept only while it breaches
        if judgement.breaches && !live.series.contains_key(&row.group) {
            if full {
                counts.overflowed += 1;
                return None;
            }
            live.series.insert(row.group.clone(), Series::default());
        }
        return Some(judgement);
    };
    if !live.series.contains_key(&row.group) {
        if full {
            counts.overflowed += u64::from(due);
            return None;
        }
        live.series.insert(row.group.clone(), Series { past: empty, last: end, ..Series::default() });
    }
    let series = live.series.get_mut(&row.group)?;
    if !due {
        condition.note(&mut series.past, end, value);
        series.last = end;
        return None;
    }
    if let Condition::Absence { .. } = condition {
        return Some(Judgement { breaches: false, threshold: None, baseline: None, direction: Direction::Down });
    }
    let firing = series.firing.is_some();
    let judgement = condition.judge(&mut series.past, end, value, firing);
    // a firing alert that cannot be judged any more is one without data: it must not stay for ever
    if judgement.is_some() || !firing {
        series.last = end;
    }
    let mut judgement = judgement?;
    judgement.breaches &= met;
    Some(judgement)
}

/// What carries the excess, where somebody may want to know.
fn strongest(live: &LiveRule, kind: &RowKind, judged: &[Judged<'_>], rows: &[Row]) -> Vec<Attribution> {
    if judged.iter().all(|item| !item.judgement.breaches) {
        return Vec::new();
    }
    let adds_up = live.rule.metric.is_some_and(|metric| kind.metrics[metric].adds_up);
    let weight = |row: &Row| if adds_up { 1.0 } else { row.values[kind.weight].unwrap_or(1.0) };
    let excess = |item: &Judged<'_>| item.judgement.excess(item.value) * weight(item.row);
    // groups that are not judged carry nothing, but show which values there are
    let others = rows.iter().filter(|row| live.rule.matches(&row.group)).map(|row| (&row.group, 0.0));
    let groups: Vec<(&Group, f64)> = judged.iter().map(|item| (&item.row.group, excess(item))).chain(others).collect();
    attribute(&kind.dimensions, &groups)
}

/// Takes a judgement in, and tells what follows.
fn settle(
    live: &mut LiveRule,
    item: &Judged<'_>,
    (end, terms): (i64, Terms),
    attribution: &[Attribution],
    counts: &mut Counts,
    emit: &mut dyn FnMut(&Transition<'_>),
) {
    let rule = &live.rule.rule;
    let Some(series) = live.series.get_mut(&item.row.group) else { return };
    series.last = end;
    series.misses = 0;
    if item.judgement.breaches {
        series.clears = 0;
        series.breaches = series.breaches.saturating_add(1);
    } else {
        series.breaches = 0;
        series.clears = series.clears.saturating_add(1);
    }
    let absent = matches!(rule.condition, Condition::Absence { .. });
    let reason = match &series.firing {
        None if item.judgement.breaches && series.breaches >= rule.fire_after => Reason::Fired,
        None => return,
        Some(_) if !item.judgement.breaches && (absent || series.clears >= rule.resolve_after) => Reason::Cleared,
        Some(firing) if item.judgement.breaches && firing.is_carried_by_others(attribution) => Reason::Changed,
        Some(firing) if end.saturating_sub(firing.sent_at) >= terms.repeat_interval => Reason::Repeated,
        Some(_) => return,
    };
    let current = if item.judgement.breaches { attribution } else { &[] };
    let value = (!absent).then_some(item.value);
    let seen = Seen { row: Some(item.row), value, judgement: Some(item.judgement), misses: 0 };
    send(rule, (&item.row.group, series), (end, reason), current, seen, counts, emit);
}

/// Counts evaluations without data, of those series that had none.
fn miss(
    live: &mut LiveRule,
    (end, terms): (i64, Terms),
    kind: &RowKind,
    counts: &mut Counts,
    emit: &mut dyn FnMut(&Transition<'_>),
) {
    let rule = &live.rule.rule;
    let carried = match rule.condition {
        Condition::Absence { windows, .. } => {
            let away = |series: &Series| series.last != end && series.misses + 1 >= windows;
            let groups: Vec<(&Group, f64)> =
                live.series.iter().map(|(group, series)| (group, f64::from(u8::from(away(series))))).collect();
            attribute(&kind.dimensions, &groups)
        }
        _ => Vec::new(),
    };
    for (group, series) in live.series.iter_mut().filter(|(_, series)| series.last != end) {
        series.misses = series.misses.saturating_add(1);
        series.breaches = 0;
        let gone = end.saturating_sub(series.last);
        let reason = match (&rule.condition, &series.firing) {
            (Condition::Absence { windows, .. }, None) if series.misses >= *windows => Reason::Fired,
            (Condition::Absence { history, .. }, Some(_)) if gone >= *history => Reason::NoData,
            (Condition::Absence { .. }, Some(firing)) if firing.is_carried_by_others(&carried) => Reason::Changed,
            (Condition::Absence { .. }, Some(firing)) if end - firing.sent_at >= terms.repeat_interval => {
                Reason::Repeated
            }
            (Condition::Absence { .. }, _) | (_, None) => continue,
            (_, Some(_)) if series.misses >= terms.no_data_windows => Reason::NoData,
            (_, Some(_)) => continue,
        };
        let current = if reason == Reason::NoData { &[][..] } else { &carried };
        let seen = Seen { row: None, value: None, judgement: None, misses: series.misses };
        send(rule, (group, series), (end, reason), current, seen, counts, emit);
    }
}

/// Tells a transition, and keeps what the next one needs to know.
fn send(
    rule: &Rule,
    (group, series): (&Group, &mut Series),
    (end, reason): (i64, Reason),
    attribution: &[Attribution],
    seen: Seen<'_>,
    counts: &mut Counts,
    emit: &mut dyn FnMut(&Transition<'_>),
) {
    let new = Firing { started_at: end, sequence: 0, sent_at: end, attribution: Vec::new() };
    let Some(mut firing) = series.firing.take().or_else(|| (reason == Reason::Fired).then_some(new)) else { return };
    firing.sequence += 1;
    firing.sent_at = end;
    if !attribution.is_empty() {
        firing.attribution = attribution.to_vec();
    }
    counts.transitions[reason as usize] += 1;
    emit(&Transition { rule, group, reason, end, firing: &firing, seen });
    if reason.is_firing() {
        series.firing = Some(firing);
    } else {
        (series.breaches, series.clears) = (0, 0);
    }
}
