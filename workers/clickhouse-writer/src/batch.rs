//! Rows of one table on their way into ClickHouse, from any of its topic's partitions.
//!
//! A batch keeps everything until ClickHouse has acknowledged: the encoded rows, so that a retry sends the same bytes,
//! and the records that they came from, so that a refused one can be handed on untouched.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, Instant};

use rdkafka::message::OwnedHeaders;

/// A record's partition and offset in its table's topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset of the record itself, not the next one.
    pub offset: i64,
}

/// A record as Kafka gave it.
#[derive(Debug, Clone, Default)]
pub struct Original {
    /// Key, where it has one.
    pub key: Option<Box<[u8]>>,
    /// Value, where it has one.
    pub value: Option<Box<[u8]>>,
    /// Headers, where it has any.
    pub headers: Option<OwnedHeaders>,
    /// The record's Kafka timestamp in epoch milliseconds.
    pub timestamp: Option<i64>,
}

impl Original {
    fn bytes(&self) -> usize {
        self.key.as_deref().map_or(0, <[u8]>::len) + self.value.as_deref().map_or(0, <[u8]>::len)
    }
}

/// One row.
#[derive(Debug)]
pub struct Row {
    /// Where it came from.
    pub place: Place,
    /// The month of its time: its table partition.
    pub month: i64,
    /// The record that it came from.
    pub original: Original,
    encoded: Range<usize>,
}

/// A record that will not be a row, and why.
#[derive(Debug)]
pub struct Refusal {
    /// Where it came from.
    pub place: Place,
    /// The record.
    pub original: Original,
    /// The stage that refused it: `decode` or `insert`.
    pub stage: &'static str,
    /// The reason, as counted.
    pub reason: &'static str,
    /// What was wrong, for a person to read.
    pub message: String,
}

/// When a batch is sent.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// With this many records at the latest.
    pub max_rows: usize,
    /// With this many bytes at the latest, encoded rows and original records together.
    pub max_bytes: usize,
    /// This long after its first record at the latest.
    pub max_wait: Duration,
}

/// Rows of one table. Records enter in the order of their offsets, partition by partition.
#[derive(Debug, Default)]
pub struct Batch {
    rows: Vec<Row>,
    refusals: Vec<Refusal>,
    encoded: Vec<u8>,
    bytes: usize,
    opened: Option<Instant>,
}

impl Batch {
    /// Takes a row; `encode` appends it to the buffer and returns its month, or refuses and leaves the buffer as it was.
    ///
    /// # Errors
    /// Those of `encode`; the batch is then as it was, and the record comes back.
    pub fn push<E>(
        &mut self,
        place: Place,
        original: Original,
        now: Instant,
        encode: impl FnOnce(&Original, &mut Vec<u8>) -> Result<i64, E>,
    ) -> Result<(), (E, Original)> {
        let start = self.encoded.len();
        match encode(&original, &mut self.encoded) {
            Ok(month) => {
                let encoded = start..self.encoded.len();
                self.bytes += encoded.len() + original.bytes();
                self.opened.get_or_insert(now);
                self.rows.push(Row { place, month, original, encoded });
                Ok(())
            }
            Err(error) => {
                self.encoded.truncate(start);
                Err((error, original))
            }
        }
    }

    /// Takes a record that will be handed on to the dead letters when the batch is delivered.
    pub fn refuse(&mut self, refusal: Refusal, now: Instant) {
        self.bytes += refusal.original.bytes();
        self.opened.get_or_insert(now);
        self.refusals.push(refusal);
    }

    /// The rows, in the order of [`sort`](Self::sort) once it was called.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The encoded bytes of a row.
    #[must_use]
    pub fn encoded(&self, row: &Row) -> &[u8] {
        &self.encoded[row.encoded.clone()]
    }

    /// Records that are handed on.
    #[must_use]
    pub fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    /// Records in the batch, refused ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len() + self.refusals.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the batch holds in memory, without bookkeeping.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether no further record should enter.
    #[must_use]
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.len() >= limits.max_rows || self.bytes >= limits.max_bytes
    }

    /// Whether it should be sent.
    #[must_use]
    pub fn is_due(&self, limits: &Limits, now: Instant) -> bool {
        self.is_full(limits)
            || self.opened.is_some_and(|opened| now.saturating_duration_since(opened) >= limits.max_wait)
    }

    /// Puts the rows in the order of partition and offset, so that equal rows make equal batches however the partitions
    /// were interleaved.
    pub fn sort(&mut self) {
        self.rows.sort_unstable_by_key(|row| row.place);
        self.refusals.sort_unstable_by_key(|refusal| refusal.place);
    }

    /// The first offset of each partition: nothing from there on may be committed while the batch is held.
    #[must_use]
    pub fn first_offsets(&self) -> BTreeMap<i32, i64> {
        let mut first = BTreeMap::new();
        let places = self.rows.iter().map(|row| row.place).chain(self.refusals.iter().map(|refusal| refusal.place));
        for place in places {
            let offset = first.entry(place.partition).or_insert(place.offset);
            *offset = place.offset.min(*offset);
        }
        first
    }

    /// Forgets the records of partitions that leave. They are not committed, so their next owner reads them again.
    pub fn drop_partitions(&mut self, partitions: &BTreeSet<i32>) {
        let stays = |place: &Place| !partitions.contains(&place.partition);
        let encoded = std::mem::take(&mut self.encoded);
        let rows = std::mem::take(&mut self.rows);
        self.refusals.retain(|refusal| stays(&refusal.place));
        self.bytes = self.refusals.iter().map(|refusal| refusal.original.bytes()).sum();
        for mut row in rows.into_iter().filter(|row| stays(&row.place)) {
            let start = self.encoded.len();
            self.encoded.extend_from_slice(&encoded[row.encoded]);
            row.encoded = start..self.encoded.len();
            self.bytes += row.encoded.len() + row.original.bytes();
            self.rows.push(row);
        }
        if self.is_empty() {
            self.opened = None;
        }
    }

    /// Moves rows to the refused records, by their indices, with reason and message.
    pub fn refuse_rows(&mut self, refused: &BTreeMap<usize, (&'static str, String)>) {
        let rows = std::mem::take(&mut self.rows);
        for (index, row) in rows.into_iter().enumerate() {
            match refused.get(&index) {
                None => self.rows.push(row),
                Some((reason, message)) => self.refusals.push(Refusal {
                    place: row.place,
                    original: row.original,
                    stage: "insert",
                    reason,
                    message: message.clone(),
                }),
            }
        }
    }
}

/// The reason of a row that ClickHouse refuses for good.
pub const REFUSED_BY_CLICKHOUSE: &str = "refused_by_clickhouse";
/// The reason of a row that is too large for ClickHouse, or for a proxy before it, even alone.
pub const TOO_LARGE: &str = "too_large";

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use super::{Batch, Limits, Original, Place, Refusal};

    /// A batch of rows (partition, offset, month), each encoded as one byte.
    pub(crate) fn batch(rows: &[(i32, i64, i64, u8)]) -> Batch {
        let mut batch = Batch::default();
        for &(partition, offset, month, byte) in rows {
            let original = Original { value: Some(Box::new([byte])), ..Original::default() };
            batch
                .push(Place { partition, offset }, original, Instant::now(), |_, into| {
                    into.push(byte);
                    Ok::<_, ()>(month)
                })
                .unwrap();
        }
        batch
    }

    const LIMITS: Limits = Limits { max_rows: 3, max_bytes: 100, max_wait: Duration::from_secs(1) };

    #[test]
    fn a_batch_is_due_by_rows_bytes_or_time() {
        let now = Instant::now();
        assert!(!Batch::default().is_due(&LIMITS, now + Duration::from_secs(60)), "an empty batch is never due");
        let two = batch(&[(0, 1, 201_401, 1), (0, 2, 201_401, 2)]);
        assert!(!two.is_due(&LIMITS, now));
        assert!(two.is_due(&LIMITS, Instant::now() + Duration::from_secs(1)));
        assert!(batch(&[(0, 1, 201_401, 1), (0, 2, 201_401, 2), (1, 7, 201_401, 3)]).is_due(&LIMITS, now));
        assert!(two.is_due(&Limits { max_bytes: 4, ..LIMITS }, now), "two bytes of rows and two of records");
    }

    #[test]
    fn the_rows_of_leaving_partitions_go_and_the_others_keep_their_bytes() {
        let mut batch = batch(&[(0, 1, 201_401, 10), (1, 5, 201_401, 11), (0, 2, 201_401, 12), (2, 9, 201_401, 13)]);
        batch.refuse(
            Refusal {
                place: Place { partition: 0, offset: 3 },
                original: Original::default(),
                stage: "decode",
                reason: "undecodable",
                message: String::new(),
            },
            Instant::now(),
        );
        batch.drop_partitions(&BTreeSet::from([0]));
        assert_eq!(batch.rows().iter().map(|row| batch.encoded(row)).collect::<Vec<_>>(), [&[11], &[13]]);
        assert!(batch.refusals().is_empty());
        assert_eq!(batch.first_offsets().into_iter().collect::<Vec<_>>(), [(1, 5), (2, 9)]);
        assert_eq!(batch.bytes(), 4);
        batch.drop_partitions(&BTreeSet::from([1, 2]));
        assert!(batch.is_empty() && !batch.is_due(&LIMITS, Instant::now() + Duration::from_secs(60)));
    }

    #[test]
    fn first_offsets_count_refused_records_too() {
        let mut batch = batch(&[(0, 4, 201_401, 1)]);
        let refusal = Refusal {
            place: Place { partition: 0, offset: 3 },
            original: Original::default(),
            stage: "decode",
            reason: "undecodable",
            message: String::new(),
        };
        batch.refuse(refusal, Instant::now());
        assert_eq!(batch.first_offsets()[&0], 3);
    }

    #[test]
    fn a_row_that_cannot_be_encoded_leaves_the_batch_as_it_was() {
        let mut batch = batch(&[(0, 1, 201_401, 1)]);
        let original = Original { value: Some(Box::new([9])), ..Original::default() };
        let result = batch.push(Place { partition: 0, offset: 2 }, original, Instant::now(), |_, into| {
            into.push(7);
            Err("no")
        });
        let (error, original) = result.unwrap_err();
        assert_eq!((error, original.value.as_deref()), ("no", Some(&[9][..])));
        assert_eq!((batch.len(), batch.bytes(), batch.encoded.len()), (1, 2, 1));
    }
}
