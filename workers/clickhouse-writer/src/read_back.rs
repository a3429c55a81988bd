//! Asks a table whether it holds all rows of an insert: the proof for answers that a proxy has taken the headers from.
//!
//! A row is compared by a hash of its RowBinary encoding, which ClickHouse makes with `formatRow`. So only a row that is
//! stored exactly as it was sent counts, whichever attempt has brought it. A row that the table has replaced in the
//! meantime by another one of the same key is not found; then the insert stays unacknowledged.

use std::collections::BTreeSet;

use xxhash_rust::xxh64::xxh64;

use crate::deliver::Destination;
use crate::tables::Kind;

/// Hashes in one question: some 100 KB, below the 256 KB that ClickHouse takes as a statement by default.
const MOST: usize = 5_000;
/// As text, with what separates them.
const HASH_BYTES: usize = 21;

/// What to ask: each text is the rest of a `SELECT` whose column `found` is the number of different rows that are there.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    /// Behind `SELECT …,`.
    pub select: String,
    /// What `found` has to be.
    pub expected: usize,
}

/// The questions for encoded rows. None is larger than `limit` bytes of hashes, since what refused the rows as too large
/// would refuse it, too.
pub fn questions<'a>(destination: &Destination, rows: impl Iterator<Item = &'a [u8]>, limit: usize) -> Vec<Question> {
    let mut hashes = BTreeSet::new();
    let leading = destination.table.columns.iter().take_while(|column| column.kind == Kind::Time).count();
    let mut ranges = vec![(i64::MAX, i64::MIN); leading];
    for row in rows {
        hashes.insert(xxh64(row, 0));
        for ((low, high), time) in ranges.iter_mut().zip(row.chunks_exact(8)) {
            let time = i64::from_le_bytes(time.try_into().unwrap_or_default());
            (*low, *high) = (time.min(*low), time.max(*high));
        }
    }
    // what the table is ordered by, so that not all of it is read
    let between: String = destination
        .table
        .columns
        .iter()
        .zip(&ranges)
        .map(|(column, (low, high))| {
            let at = |millis: i64| format!("fromUnixTimestamp64Milli(toInt64({millis}), 'UTC')");
            format!("{} BETWEEN {} AND {} AND ", column.name, at(*low), at(*high))
        })
        .collect();
    let columns: Vec<&str> = destination.table.columns.iter().map(|column| column.name).collect();
    let hashes: Vec<u64> = hashes.into_iter().collect();
    hashes
        .chunks((limit / HASH_BYTES).clamp(1, MOST))
        .map(|hashes| {
            let list = hashes.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
            let select = format!(
                "toString(uniqExact(hash)) AS found FROM \
                 (SELECT xxHash64(formatRow('RowBinary', {})) AS hash FROM {} WHERE {between}hash IN ({list}))",
                columns.join(", "),
                destination.name,
            );
            Question { select, expected: hashes.len() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::questions;
    use crate::deliver::Destination;
    use crate::tables::TABLES;

    #[test]
    fn each_different_row_is_asked_for_once_within_the_times_of_all() {
        let destination = Destination {
            table: TABLES[1],
            name: "recwatch.session_freshness".to_owned(),
            topic: String::new(),
            statement: String::new(),
            header: Vec::new(),
        };
        let row = |start: i64, end: i64| [start.to_le_bytes(), end.to_le_bytes()].concat();
        let rows = [row(5, 10), row(-1, 4), row(5, 10), row(2, 7)];
        let questions = questions(&destination, rows.iter().map(Vec::as_slice), 43);
        assert_eq!(questions.iter().map(|question| question.expected).collect::<Vec<_>>(), [2, 1]);
        for question in &questions {
            for part in [
                "window_start BETWEEN fromUnixTimestamp64Milli(toInt64(-1), 'UTC') AND fromUnixTimestamp64Milli(toInt64(5), 'UTC')",
                "window_end BETWEEN fromUnixTimestamp64Milli(toInt64(4), 'UTC') AND fromUnixTimestamp64Milli(toInt64(10), 'UTC')",
                "FROM recwatch.session_freshness WHERE",
            ] {
                assert!(question.select.contains(part), "{part} in {}", question.select);
            }
        }
    }
}
