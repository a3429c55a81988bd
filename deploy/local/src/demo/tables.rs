//! Tables for the terminal.

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Deserialize;

use crate::replay::Summary;
use crate::terminal::thousands;

/// What became of the records of each worker's topics.
pub(super) fn counts(summary: &Summary) -> String {
    let mut table = table(&["worker", "topic", "read", "applied", "late", "dead-lettered"], 2);
    for (worker, of) in &summary.workers {
        for (topic, counts) in &of.topics {
            let numbers = [counts.read, counts.applied, counts.late, counts.dead_lettered].map(thousands);
            table.add_row([worker.clone(), topic.clone()].into_iter().chain(numbers));
        }
    }
    table.to_string()
}

#[derive(Deserialize)]
struct Group {
    window: String,
    domain: String,
    user_segment: String,
    rec_strategy: String,
    ab_group: String,
    sessions: u64,
    events: u64,
    mean_freshness: Option<f64>,
    freshness_p05: Option<f64>,
    freshness_p95: Option<f64>,
}

/// The newest window's largest groups.
pub(super) fn newest(query: &dyn Fn(&str) -> Result<String>) -> Result<String> {
    const STATEMENT: &str = "SELECT formatDateTime(window_end, '%H:%i:%S') AS window, domain, user_segment, rec_strategy, \
        ab_group, sessions_total AS sessions, events, mean_freshness, freshness_p05, freshness_p95 \
        FROM recwatch.session_entropy FINAL \
        WHERE window_end = (SELECT max(window_end) FROM recwatch.session_entropy) \
        ORDER BY sessions DESC, domain, user_segment, rec_strategy, ab_group LIMIT 12 \
        FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0";
    let answer = query(STATEMENT)?;
    let header = ["until", "domain", "segment", "strategy", "group", "sessions", "events", "freshness", "p05", "p95"];
    let mut table = table(&header, 5);
    for line in answer.lines() {
        let group: Group = serde_json::from_str(line).with_context(|| format!("no aggregate: {line}"))?;
        let share = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.2}"));
        table.add_row([
            group.window,
            group.domain,
            group.user_segment,
            group.rec_strategy,
            group.ab_group,
            thousands(group.sessions),
            thousands(group.events),
            share(group.mean_freshness),
            share(group.freshness_p05),
            share(group.freshness_p95),
        ]);
    }
    Ok(table.to_string())
}

/// A table whose columns are texts at first and numbers from `numbers` on.
fn table(header: &[&str], numbers: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(header);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::{TopicSummary, Usage, WorkerSummary};

    #[test]
    fn every_topic_of_every_worker_has_its_row() {
        let topic =
            TopicSummary { read: 26_066, applied: 26_060, late: 4, dead_lettered: 2, ..TopicSummary::default() };
        let topics = [("recsys.interactions.v1".to_owned(), topic)].into();
        let mut summary = Summary::default();
        let worker = WorkerSummary::new(topics, 0, 0.0, Usage::default());
        summary.workers.insert("session-entropy".to_owned(), worker);
        let text = counts(&summary);
        let row = text.lines().find(|line| line.contains("session-entropy")).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(cells, ["session-entropy", "recsys.interactions.v1", "26,066", "26,060", "4", "2"]);
    }

    #[test]
    fn a_group_without_enough_events_has_no_freshness() {
        let answer = |_: &str| -> Result<String> {
            Ok(r#"{"window":"10:00:00","domain":"books","user_segment":"new","rec_strategy":"","ab_group":"a","sessions":1,"events":1,"mean_freshness":null,"freshness_p05":null,"freshness_p95":null}"#.to_owned())
        };
        let text = newest(&answer).unwrap();
        let row = text.lines().find(|line| line.contains("books")).unwrap();
        assert_eq!(row.split_whitespace().collect::<Vec<_>>(), ["10:00:00", "books", "new", "a", "1", "1"]);
    }
}
