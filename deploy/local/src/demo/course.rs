//! The courses of what the demo plots, asked of ClickHouse.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::terminal::plot::Series;

/// More panels than these do not fit a screen.
const PANELS: usize = 4;

#[derive(Deserialize)]
struct Point {
    name: String,
    time: i64,
    value: f64,
}

/// What sessions are told apart by, and the mean freshness of its most frequent values over time: domain and segment, or the
/// domain where sessions have no segment.
pub(super) fn freshness(query: &dyn Fn(&str) -> Result<String>) -> Result<(&'static str, Vec<Series>)> {
    const BOTH: &str = "if(user_segment = '', '', concat(domain, ', ', user_segment))";
    let mut found = ("", Vec::new());
    for (dimension, expression) in [("domain and segment", BOTH), ("domain", "domain")] {
        let series = courses(&query(&statement(expression))?)?;
        let has_values = series.keys().any(|name| !name.is_empty());
        found = (
            dimension,
            series.into_iter().map(|(name, points)| Series { name: title(&name, &points), points }).collect(),
        );
        if has_values {
            break;
        }
    }
    Ok(found)
}

/// How far the domains lie from each other over time, by pairs.
pub(super) fn drift(query: &dyn Fn(&str) -> Result<String>) -> Result<Vec<Series>> {
    const STATEMENT: &str = "SELECT concat(sources, ' from ', target) AS name, \
        toUnixTimestamp64Milli(window_end) AS time, w1_scaled AS value \
        FROM recwatch.domain_drift FINAL WHERE kind = 'pair' AND gamma IS NOT NULL ORDER BY name, time LIMIT 100000 \
        FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0";
    Ok(with_highest(courses(&query(STATEMENT)?)?))
}

/// How fast items' vectors change over time, by domain.
pub(super) fn decay(query: &dyn Fn(&str) -> Result<String>) -> Result<Vec<Series>> {
    const STATEMENT: &str = "SELECT domain AS name, toUnixTimestamp64Milli(window_end) AS time, lambda_hat AS value \
        FROM recwatch.decay_rate FINAL ORDER BY name, time LIMIT 100000 \
        FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0";
    Ok(with_highest(courses(&query(STATEMENT)?)?))
}

fn with_highest(courses: BTreeMap<String, Vec<(i64, f64)>>) -> Vec<Series> {
    let series = courses.into_iter().take(PANELS).map(|(name, points)| {
        let highest = points.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
        Series { name: format!("{name}: mean {:.2}, highest {highest:.2}", mean(&points)), points }
    });
    series.collect()
}

fn courses(answer: &str) -> Result<BTreeMap<String, Vec<(i64, f64)>>> {
    let mut series: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
    for line in answer.lines() {
        let point: Point = serde_json::from_str(line).with_context(|| format!("no point of a course: {line}"))?;
        series.entry(point.name).or_default().push((point.time, point.value));
    }
    Ok(series)
}

fn mean(points: &[(i64, f64)]) -> f64 {
    points.iter().map(|point| point.1).sum::<f64>() / points.len().max(1) as f64
}

fn statement(expression: &str) -> String {
    format!(
        "SELECT {expression} AS name, toUnixTimestamp64Milli(window_end) AS time, \
         sum(mean_freshness * sessions) / sum(sessions) AS value \
         FROM recwatch.session_entropy FINAL WHERE sessions > 0 AND {expression} IN ( \
         SELECT {expression} AS name FROM recwatch.session_entropy FINAL GROUP BY name \
         ORDER BY sum(events) DESC, name LIMIT {PANELS}) \
         GROUP BY name, window_end ORDER BY name, window_end \
         FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0"
    )
}

/// The name with the mean and the lowest value.
fn title(name: &str, points: &[(i64, f64)]) -> String {
    let name = if name.is_empty() { "(none)" } else { name };
    let lowest = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
    format!("{name}: mean {:.2}, lowest {lowest:.2}", mean(points))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_one_name_are_one_series_with_mean_and_lowest() {
        let answer = |_: &str| -> Result<String> {
            Ok([("a", 1, 0.5), ("a", 2, 0.7), ("b", 1, 0.25)]
                .map(|(name, time, value)| format!(r#"{{"name":"{name}","time":{time},"value":{value}}}"#))
                .join("\n"))
        };
        let (dimension, series) = freshness(&answer).unwrap();
        assert_eq!(dimension, "domain and segment");
        assert_eq!(
            series[0],
            Series { name: "a: mean 0.60, lowest 0.50".to_owned(), points: vec![(1, 0.5), (2, 0.7)] }
        );
        assert_eq!(series[1].name, "b: mean 0.25, lowest 0.25");
    }

    #[test]
    fn pairs_of_domains_are_a_series_each_with_mean_and_highest() {
        let answer = |_: &str| -> Result<String> {
            Ok([("a from b", 1, 0.5), ("a from b", 2, 0.7)]
                .map(|(name, time, value)| format!(r#"{{"name":"{name}","time":{time},"value":{value}}}"#))
                .join("\n"))
        };
        let series = drift(&answer).unwrap();
        let name = "a from b: mean 0.60, highest 0.70".to_owned();
        assert_eq!(series, [Series { name, points: vec![(1, 0.5), (2, 0.7)] }]);
    }

    #[test]
    fn without_segments_the_course_goes_by_domain() {
        let answer = |statement: &str| -> Result<String> {
            let name = if statement.starts_with("SELECT if(user_segment") { "" } else { "books" };
            Ok(format!(r#"{{"name":"{name}","time":1,"value":0.5}}"#))
        };
        let (dimension, series) = freshness(&answer).unwrap();
        assert_eq!((dimension, series.len()), ("domain", 1));
        assert!(series[0].name.starts_with("books"));
    }
}
