//! The final rows of ClickHouse tables as NDJSON files: the same rows give the same bytes.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Rows asked for at once, about.
const PAGE: u64 = 100_000;

/// When a row was inserted: the one column that differs between two runs on one input.
const NOT_EXPORTED: &str = "inserted_at";

/// A column, as ClickHouse describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// Empty for a column that is stored as it was inserted.
    default_kind: String,
    is_in_sorting_key: u8,
}

/// Writes all rows of `recwatch.<table>` to `file`, one JSON object a line, ordered by the table's key; how many. Times are
/// integers in ms. `query` runs one statement and returns its answer.
///
/// # Errors
/// ClickHouse refuses a statement, or the file cannot be written.
pub fn table(query: &dyn Fn(&str) -> Result<String>, table: &str, file: &Path) -> Result<u64> {
    write(query, table, Rows::Final, file)
}

/// The same of all rows that are stored, replaced ones included; equal ones once.
///
/// # Errors
/// As [`table`].
pub(crate) fn stored(query: &dyn Fn(&str) -> Result<String>, table: &str, file: &Path) -> Result<u64> {
    write(query, table, Rows::Stored, file)
}

/// Which rows of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// Of each key the newest.
    Final,
    /// All, equal ones once.
    Stored,
}

fn write(query: &dyn Fn(&str) -> Result<String>, table: &str, which: Rows, file: &Path) -> Result<u64> {
    let columns = columns(query, table)?;
    let unwritable = || format!("{} cannot be written", file.display());
    let mut rows = 0;
    let mut output = BufWriter::new(File::create(file).with_context(unwritable)?);
    let time = time_column(&columns);
    for (from, to) in pages(&times(query, table, time)?, PAGE) {
        let answer = query(&select(table, which, &columns, time, from, to))?;
        rows += answer.lines().count() as u64;
        output.write_all(answer.as_bytes()).with_context(unwritable)?;
    }
    output.flush().with_context(unwritable)?;
    Ok(rows)
}

fn columns(query: &dyn Fn(&str) -> Result<String>, table: &str) -> Result<Vec<Column>> {
    let answer = query(&format!(
        "SELECT name, type, default_kind, is_in_sorting_key FROM system.columns \
         WHERE database = 'recwatch' AND table = '{table}' ORDER BY position FORMAT JSONEachRow"
    ))?;
    let columns: Result<Vec<Column>, _> = answer.lines().map(serde_json::from_str).collect();
    let columns = columns.with_context(|| format!("the columns of {table} cannot be read: {answer}"))?;
    if columns.is_empty() {
        bail!("there is no table recwatch.{table}: was the DDL applied?");
    }
    Ok(columns)
}

/// The column by which rows are paged: the end of their window, or the time that they have instead.
fn time_column(columns: &[Column]) -> &'static str {
    if columns.iter().any(|column| column.name == "window_end") { "window_end" } else { "event_time" }
}

/// Values of the time column (ms) and their rows, ascending.
fn times(query: &dyn Fn(&str) -> Result<String>, table: &str, time: &str) -> Result<Vec<(i64, u64)>> {
    let answer = query(&format!(
        "SELECT toUnixTimestamp64Milli({time}) AS time, count() FROM recwatch.{table} FINAL \
         GROUP BY time ORDER BY time FORMAT TSV"
    ))?;
    answer
        .lines()
        .map(|line| {
            let (time, rows) = line.split_once('\t').with_context(|| format!("no time and count: {line:?}"))?;
            Ok((time.parse()?, rows.parse()?))
        })
        .collect()
}

/// Ranges of times, both included, of about `size` rows each.
fn pages(times: &[(i64, u64)], size: u64) -> Vec<(i64, i64)> {
    let mut pages: Vec<(i64, i64)> = Vec::new();
    let mut rows = u64::MAX;
    for &(time, count) in times {
        match pages.last_mut() {
            Some((_, to)) if rows.saturating_add(count) <= size => {
                *to = time;
                rows += count;
            }
            _ => {
                pages.push((time, time));
                rows = count;
            }
        }
    }
    pages
}

fn select(table: &str, which: Rows, columns: &[Column], time: &str, from: i64, to: i64) -> String {
    let stored = columns.iter().filter(|column| !matches!(column.default_kind.as_str(), "ALIAS" | "EPHEMERAL"));
    let expression = |column: &Column| {
        let name = &column.name;
        if column.kind.starts_with("DateTime64") {
            format!("toUnixTimestamp64Milli({name}) AS {name}")
        } else {
            name.clone()
        }
    };
    let shown: Vec<String> = stored.filter(|column| column.name != NOT_EXPORTED).map(expression).collect();
    // By time first, so that pages follow each other, then by the rest of the key.
    let mut key = vec![time];
    key.extend(columns.iter().filter(|column| column.is_in_sorting_key == 1).map(|column| column.name.as_str()));
    let (distinct, newest) = if which == Rows::Final { ("", " FINAL") } else { ("DISTINCT ", "") };
    format!(
        "SELECT {distinct}{} FROM recwatch.{table}{newest} \
         WHERE {time} BETWEEN fromUnixTimestamp64Milli({from}, 'UTC') AND fromUnixTimestamp64Milli({to}, 'UTC') \
         ORDER BY {} FORMAT JSONEachRow SETTINGS prefer_column_name_to_alias = 1, \
         output_format_json_quote_64bit_integers = 0, output_format_json_escape_forward_slashes = 0",
        shown.join(", "),
        key.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_cover_every_time_once_and_hold_about_as_many_rows_as_asked() {
        let times = [(10, 4), (20, 4), (30, 4), (40, 20), (50, 1)];
        assert_eq!(pages(&times, 8), [(10, 20), (30, 30), (40, 40), (50, 50)]);
        assert_eq!(pages(&times, 1_000), [(10, 50)]);
        assert_eq!(pages(&[], 8), []);
    }

    #[test]
    fn a_statement_has_times_in_ms_the_key_as_order_and_no_time_of_insertion() {
        let column = |name: &str, kind: &str, is_in_sorting_key| Column {
            name: name.to_owned(),
            kind: kind.to_owned(),
            default_kind: String::new(),
            is_in_sorting_key,
        };
        let columns = [
            column("window_end", "DateTime64(3, 'UTC')", 1),
            column("domain", "LowCardinality(String)", 1),
            column("entropy", "Float64", 0),
            column("inserted_at", "DateTime64(3, 'UTC')", 0),
        ];
        let statement = select("rows", Rows::Final, &columns, time_column(&columns), 10, 20);
        assert!(statement.starts_with(
            "SELECT toUnixTimestamp64Milli(window_end) AS window_end, domain, entropy FROM recwatch.rows FINAL "
        ));
        assert!(statement.contains("ORDER BY window_end, window_end, domain FORMAT"));
    }

    #[test]
    fn rows_without_a_window_are_paged_by_their_own_time() {
        let columns = [Column {
            name: "event_time".to_owned(),
            kind: "DateTime64(3, 'UTC')".to_owned(),
            default_kind: String::new(),
            is_in_sorting_key: 1,
        }];
        let statement = select("rows", Rows::Final, &columns, time_column(&columns), 10, 20);
        assert!(statement.contains("WHERE event_time BETWEEN fromUnixTimestamp64Milli(10, 'UTC') AND"));
        assert!(!statement.contains("window"), "{statement}");
    }

    #[test]
    fn pages_are_written_one_behind_the_other() {
        let asked = |statement: &str| -> Result<String> {
            Ok(match statement {
                s if s.contains("system.columns") => {
                    r#"{"name":"window_end","type":"DateTime64(3)","default_kind":"","is_in_sorting_key":1}"#.to_owned()
                }
                s if s.contains("GROUP BY") => "10\t100000\n20\t1\n".to_owned(),
                s if s.contains("fromUnixTimestamp64Milli(10, ") => "{\"window_end\":10}\n".to_owned(),
                _ => "{\"window_end\":20}\n".to_owned(),
            })
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.ndjson");
        assert_eq!(table(&asked, "rows", &file).unwrap(), 2);
        assert_eq!(std::fs::read_to_string(file).unwrap(), "{\"window_end\":10}\n{\"window_end\":20}\n");
    }
}
