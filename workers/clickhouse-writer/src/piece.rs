//! A piece of a batch: what one INSERT carries. Usually the whole batch; smaller after a split.
//!
//! Pieces are cut by the batch's content alone, so that a retry sends the same piece under the same token.

use xxhash_rust::xxh3::Xxh3;

use crate::batch::Batch;

/// Rows of a batch, as ascending indices into its sorted rows; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece(Vec<usize>);

/// Longer lists of ranges are cut in the token, which travels in the URL; the hash behind them tells them apart.
const MAX_RANGES_BYTES: usize = 512;

impl Piece {
    /// The pieces of a sorted batch: one, or as many as it takes for none to span more than `max_months` months, each
    /// of which is a table partition. Months stay together; `max_months` is at least 1.
    #[must_use]
    pub fn all_of(batch: &Batch, max_months: usize) -> Vec<Self> {
        let all = Self((0..batch.rows().len()).collect());
        if all.0.is_empty() {
            return Vec::new();
        }
        let months = all.months(batch);
        if months.len() <= max_months {
            return vec![all];
        }
        months.chunks(max_months).map(|months| all.of_months(batch, months)).collect()
    }

    /// Two smaller pieces: by months while there are several, else by rows. `None` for a single row.
    #[must_use]
    pub fn split(&self, batch: &Batch) -> Option<[Self; 2]> {
        let months = self.months(batch);
        if months.len() > 1 {
            let (early, late) = months.split_at(months.len() / 2);
            return Some([self.of_months(batch, early), self.of_months(batch, late)]);
        }
        self.halves()
    }

    /// The first and the second half of the rows. `None` for a single row.
    #[must_use]
    pub fn halves(&self) -> Option<[Self; 2]> {
        if self.0.len() < 2 {
            return None;
        }
        let (first, second) = self.0.split_at(self.0.len() / 2);
        Some([Self(first.to_vec()), Self(second.to_vec())])
    }

    /// The rows' indices.
    #[must_use]
    pub fn rows(&self) -> &[usize] {
        &self.0
    }

    /// `header`, then the rows.
    #[must_use]
    pub fn body(&self, batch: &Batch, header: &[u8]) -> Vec<u8> {
        let mut body = header.to_vec();
        for &index in &self.0 {
            body.extend_from_slice(batch.encoded(&batch.rows()[index]));
        }
        body
    }

    /// The `insert_deduplication_token`: the offset ranges, sorted, first to last offset, and a hash of offsets and rows.
    ///
    /// ClickHouse drops an insert whose token it knows *whatever its rows are*, and reports success. The ranges alone
    /// would name different rows alike: a piece split by months and the whole of its batch can have the same first and
    /// last offset, and a topic that was deleted and created counts from 0 again. With the hash, equal tokens mean equal
    /// rows.
    #[must_use]
    pub fn token(&self, batch: &Batch, topic: &str) -> String {
        let mut hash = Xxh3::new();
        let mut ranges: Vec<(i32, i64, i64)> = Vec::new();
        for &index in &self.0 {
            let row = &batch.rows()[index];
            hash.update(&row.place.partition.to_le_bytes());
            hash.update(&row.place.offset.to_le_bytes());
            hash.update(batch.encoded(row));
            match ranges.last_mut() {
                Some((partition, _, last)) if *partition == row.place.partition => *last = row.place.offset,
                _ => ranges.push((row.place.partition, row.place.offset, row.place.offset)),
            }
        }
        let mut token = ranges
            .iter()
            .map(|(partition, first, last)| format!("{topic}-{partition}:{first}-{last}"))
            .collect::<Vec<_>>()
            .join(",");
        token.truncate(token.floor_char_boundary(MAX_RANGES_BYTES));
        token.push_str(&format!("#{:032x}", hash.digest128()));
        token
    }

    fn months(&self, batch: &Batch) -> Vec<i64> {
        let mut months: Vec<i64> = self.0.iter().map(|&index| batch.rows()[index].month).collect();
        months.sort_unstable();
        months.dedup();
        months
    }

    fn of_months(&self, batch: &Batch, months: &[i64]) -> Self {
        Self(self.0.iter().copied().filter(|&index| months.contains(&batch.rows()[index].month)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{MAX_RANGES_BYTES, Piece};
    use crate::batch::Batch;
    use crate::batch::tests::batch;

    fn sorted(rows: &[(i32, i64, i64, u8)]) -> Batch {
        let mut batch = batch(rows);
        batch.sort();
        batch
    }

    fn whole(batch: &Batch) -> Piece {
        Piece::all_of(batch, usize::MAX).remove(0)
    }

    #[test]
    fn the_token_lists_first_and_last_offset_of_each_partition_in_order() {
        let batch = sorted(&[(1, 7, 201_401, 1), (0, 3, 201_401, 2), (1, 9, 201_401, 3), (0, 4, 201_401, 4)]);
        let token = whole(&batch).token(&batch, "rows");
        assert!(token.starts_with("rows-0:3-4,rows-1:7-9#"), "{token}");
    }

    #[test]
    fn the_same_rows_have_the_same_token_however_their_partitions_were_interleaved() {
        let one = sorted(&[(0, 3, 201_401, 2), (1, 7, 201_401, 1), (0, 4, 201_401, 4)]);
        let other = sorted(&[(1, 7, 201_401, 1), (0, 3, 201_401, 2), (0, 4, 201_401, 4)]);
        assert_eq!(whole(&one).token(&one, "rows"), whole(&other).token(&other, "rows"));
        assert_eq!(whole(&one).body(&one, b"h"), [b'h', 2, 4, 1]);
    }

    #[test]
    fn a_piece_with_the_same_first_and_last_offset_as_its_batch_has_another_token() {
        let batch = sorted(&[(0, 0, 201_401, 1), (0, 1, 201_402, 2), (0, 2, 201_401, 3)]);
        let pieces = Piece::all_of(&batch, 1);
        assert_eq!(pieces[0].rows(), [0, 2]);
        assert_ne!(pieces[0].token(&batch, "rows"), whole(&batch).token(&batch, "rows"));
    }

    #[test]
    fn the_same_offsets_with_other_rows_have_another_token() {
        let (one, other) = (sorted(&[(0, 0, 201_401, 1)]), sorted(&[(0, 0, 201_401, 2)]));
        assert_ne!(whole(&one).token(&one, "rows"), whole(&other).token(&other, "rows"));
    }

    #[test]
    fn a_token_of_many_partitions_stays_short() {
        let rows: Vec<_> = (0..200).map(|partition| (partition, 1, 201_401, 1)).collect();
        let batch = sorted(&rows);
        assert!(whole(&batch).token(&batch, "recwatch.session-freshness.v1").len() <= MAX_RANGES_BYTES + 33);
    }

    #[test]
    fn a_single_row_cannot_be_split() {
        let batch = sorted(&[(0, 0, 201_401, 1)]);
        assert_eq!(whole(&batch).split(&batch), None);
        assert_eq!(whole(&batch).halves(), None);
    }

    proptest! {
        #[test]
        fn pieces_cover_each_row_once_and_span_few_months(
            months in prop::collection::vec(201_401_i64..201_413, 0..60),
            max_months in 1_usize..5,
        ) {
            let rows: Vec<_> = months.iter().zip(0..).map(|(&month, offset)| (0, offset, month, 0)).collect();
            let batch = sorted(&rows);
            let pieces = Piece::all_of(&batch, max_months);
            let mut seen: Vec<usize> = pieces.iter().flat_map(|piece| piece.rows().to_vec()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..months.len()).collect::<Vec<_>>());
            for piece in &pieces {
                let months: BTreeSet<_> = piece.rows().iter().map(|&index| batch.rows()[index].month).collect();
                prop_assert!(!months.is_empty() && months.len() <= max_months);
            }
        }

        #[test]
        fn splitting_ends_at_single_rows_and_loses_none(months in prop::collection::vec(201_401_i64..201_405, 1..40)) {
            let rows: Vec<_> = months.iter().zip(0..).map(|(&month, offset)| (0, offset, month, 0)).collect();
            let batch = sorted(&rows);
            let (mut open, mut single) = (Piece::all_of(&batch, 2), Vec::new());
            while let Some(piece) = open.pop() {
                match piece.split(&batch) {
                    Some(parts) => open.extend(parts),
                    None => single.push(piece.rows()[0]),
                }
            }
            single.sort_unstable();
            prop_assert_eq!(single, (0..months.len()).collect::<Vec<_>>());
        }
    }
}
