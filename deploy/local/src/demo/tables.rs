//! Tables for the terminal.

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, ColumnConstraint, LineStyle, Table, TableStyle};
use serde::Deserialize;

use crate::replay::Summary;
use crate::terminal::thousands;

/// What became of the records of each topic, and why some were not applied.
pub(super) fn counts(summary: &Summary) -> String {
    let mut table = table(&["topic", "read", "applied", "late", "dead-lettered"], 1);
    let mut reasons = String::new();
    for of in summary.workers.values() {
        for (topic, counts) in &of.topics {
            let numbers = [counts.read, counts.applied, counts.late, counts.dead_lettered].map(thousands);
            table.add_row([topic.clone()].into_iter().chain(numbers));
            for (reason, count) in &counts.dead_lettered_by_reason {
                reasons += &format!("\nDead-lettered from {topic} as {reason}: {}", thousands(*count));
            }
        }
    }
    table.trim_fmt() + &reasons
}

#[derive(Deserialize)]
struct Group {
    until: String,
    domain: String,
    user_segment: String,
    rec_strategy: String,
    ab_group: String,
    sessions: u64,
    mean_freshness: Option<f64>,
    freshness_p05: Option<f64>,
    freshness_p95: Option<f64>,
}

/// The end of the newest window (UTC), and its largest groups.
pub(super) fn newest(query: &dyn Fn(&str) -> Result<String>) -> Result<(String, String)> {
    const STATEMENT: &str = "SELECT formatDateTime(window_end, '%Y-%m-%d %H:%i:%S') AS until, domain, user_segment, \
        rec_strategy, ab_group, sessions_total AS sessions, mean_freshness, freshness_p05, freshness_p95 \
        FROM recwatch.session_entropy FINAL \
        WHERE window_end = (SELECT max(window_end) FROM recwatch.session_entropy) \
        ORDER BY sessions DESC, domain, user_segment, rec_strategy, ab_group LIMIT 12 \
        FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0";
    let answer = query(STATEMENT)?;
    let mut end = String::new();
    let mut filled = [false; 4];
    let mut table = table(&["domain", "segment", "strategy", "group", "sessions", "freshness", "p05", "p95"], 4);
    for line in answer.lines() {
        let group: Group = serde_json::from_str(line).with_context(|| format!("no aggregate: {line}"))?;
        let share = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        end = group.until;
        let dimensions = [&group.domain, &group.user_segment, &group.rec_strategy, &group.ab_group];
        filled.iter_mut().zip(dimensions).for_each(|(filled, value)| *filled |= !value.is_empty());
        table.add_row([
            group.domain,
            group.user_segment,
            group.rec_strategy,
            group.ab_group,
            thousands(group.sessions),
            share(group.mean_freshness),
            share(group.freshness_p05),
            share(group.freshness_p95),
        ]);
    }
    // sessions are not told apart by what none of them has
    for (index, _) in filled.iter().enumerate().filter(|(_, filled)| !**filled) {
        if let Some(column) = table.column_mut(index) {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    Ok((end, table.trim_fmt()))
}

#[derive(Deserialize)]
struct Transition {
    at: String,
    state: String,
    severity: String,
    rule: String,
    summary: String,
}

/// All alerts as they came, a line each; the first ones where there are many.
pub(super) fn alerts(query: &dyn Fn(&str) -> Result<String>) -> Result<String> {
    const STATEMENT: &str = "SELECT formatDateTime(window_end, '%H:%i:%S') AS at, state, severity, rule, summary \
        FROM recwatch.alerts FINAL ORDER BY window_end, rule, fingerprint, sequence LIMIT 40 FORMAT JSONEachRow";
    let mut lines = String::new();
    for line in query(STATEMENT)?.lines() {
        let Transition { at, state, severity, rule, summary } =
            serde_json::from_str(line).with_context(|| format!("no alert: {line}"))?;
        lines += &format!("{at}  {state:<8}  {severity}, {rule}: {summary}\n");
    }
    Ok(if lines.is_empty() { "none\n".to_owned() } else { lines })
}

/// A table whose columns are texts at first and numbers from `numbers` on; it fits 80 columns.
fn table(header: &[&str], numbers: usize) -> Table {
    let line = LineStyle::none().fill('─').junction('─');
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(line));
    table.set_header(header);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 1));
        if index >= numbers {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::{TopicSummary, Usage, WorkerSummary};

    #[test]
    fn every_topic_has_its_row_and_every_reason_its_line() {
        let dead_lettered_by_reason = [("empty_key".to_owned(), 2)].into();
        let topic = TopicSummary {
            read: 26_066,
            applied: 26_060,
            late: 4,
            dead_lettered: 2,
            dead_lettered_by_reason,
            ..TopicSummary::default()
        };
        let topics = [("recsys.interactions.v1".to_owned(), topic)].into();
        let mut summary = Summary::default();
        let worker = WorkerSummary::new(topics, 0, 0.0, Usage::default());
        summary.workers.insert("session-entropy".to_owned(), worker);
        let text = counts(&summary);
        let cells: Vec<&str> = text.lines().nth(2).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["recsys.interactions.v1", "26,066", "26,060", "4", "2"]);
        assert!(text.ends_with("Dead-lettered from recsys.interactions.v1 as empty_key: 2"), "{text}");
    }

    #[test]
    fn alerts_are_told_in_a_line_each() {
        let answer = |_: &str| -> Result<String> {
            Ok(r#"{"at":"10:05:00","state":"FIRING","severity":"warning","rule":"r","summary":"too much"}"#.to_owned())
        };
        assert_eq!(alerts(&answer).unwrap(), "10:05:00  FIRING    warning, r: too much\n");
        assert_eq!(alerts(&|_| Ok(String::new())).unwrap(), "none\n");
    }

    #[test]
    fn a_group_without_enough_events_has_no_freshness() {
        let answer = |_: &str| -> Result<String> {
            Ok(r#"{"until":"2026-01-05 10:00:00","domain":"books","user_segment":"new","rec_strategy":"","ab_group":"a","sessions":1,"mean_freshness":null,"freshness_p05":null,"freshness_p95":null}"#.to_owned())
        };
        let (until, text) = newest(&answer).unwrap();
        assert_eq!(until, "2026-01-05 10:00:00");
        let row = text.lines().find(|line| line.contains("books")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["books", "new", "a", "1"]);
        assert!(text.contains("segment") && !text.contains("strategy"), "{text}");
    }
}
