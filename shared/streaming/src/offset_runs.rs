//! Ascending runs of offsets in few bits: what a flood of refused records leaves in a log of decisions.
//!
//! A run is written as the distance to the one before it and its length, both in Elias' gamma code (a number of `k + 1`
//! binary digits is `k` zeros and these digits): two bits for a run of one record between two others, about four for
//! records that are refused by chance. A decoder allocates nothing and takes two bits a run at least, so a claimed number
//! of runs costs no more than the bytes that are there.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// Packed runs of offsets, ascending and apart.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct OffsetRuns {
    /// The first offset of the first run.
    first: i64,
    /// Number of runs.
    runs: u64,
    /// Length of the first run; then distance and length of each further one.
    bits: Vec<u8>,
}

/// The bytes are no runs of offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not ascending runs of offsets")]
pub(crate) struct MalformedRuns;

/// Packs offsets that come in ascending order.
#[derive(Debug, Clone, Default)]
pub(crate) struct RunsBuilder {
    packed: OffsetRuns,
    /// Bits written; the last byte's lower ones are free.
    written: usize,
    /// The last offset of the last run that is packed.
    packed_to: Option<i64>,
    open: Option<(i64, i64)>,
}

impl RunsBuilder {
    /// Adds an offset above all others; `extends` says that what lies between the last one and it belongs to the run too.
    pub(crate) fn push(&mut self, offset: i64, extends: bool) {
        match &mut self.open {
            Some((_, last)) if extends => *last = offset,
            open => {
                let closed = open.replace((offset, offset));
                self.pack(closed);
            }
        }
    }

    /// The last offset added.
    pub(crate) fn last(&self) -> Option<i64> {
        self.open.map(|(_, last)| last)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.packed.bits.len()
    }

    /// What was added.
    pub(crate) fn finish(mut self) -> OffsetRuns {
        let open = self.open.take();
        self.pack(open);
        self.packed
    }

    fn pack(&mut self, run: Option<(i64, i64)>) {
        let Some((first, last)) = run else { return };
        match self.packed_to {
            None => self.packed.first = first,
            Some(before) => self.write(first.abs_diff(before)),
        }
        self.write(last.abs_diff(first).saturating_add(1));
        self.packed.runs += 1;
        self.packed_to = Some(last);
    }

    /// Appends a number above 0 in gamma code.
    fn write(&mut self, number: u64) {
        let digits = 64 - number.leading_zeros();
        (1..digits).for_each(|_| self.write_bit(0));
        (0..digits).rev().for_each(|digit| self.write_bit((number >> digit & 1) as u8));
    }

    fn write_bit(&mut self, bit: u8) {
        let at = self.written % 8;
        if at == 0 {
            self.packed.bits.push(0);
        }
        if let Some(byte) = self.packed.bits.last_mut() {
            *byte |= bit << (7 - at);
        }
        self.written += 1;
    }
}

impl OffsetRuns {
    /// Reads the runs from the first one on.
    pub(crate) fn reader(self) -> RunsReader {
        RunsReader { left: self.runs, runs: self, read: 0, to: None }
    }

    /// Checks all of them.
    ///
    /// # Errors
    /// Where they are none, or do not ascend.
    pub(crate) fn check(&self) -> Result<(), MalformedRuns> {
        let mut reader = self.clone().reader();
        while reader.next()?.is_some() {}
        Ok(())
    }
}

/// Where in packed runs a reader is.
#[derive(Debug)]
pub(crate) struct RunsReader {
    runs: OffsetRuns,
    left: u64,
    /// Bits read.
    read: usize,
    /// The last offset read.
    to: Option<i64>,
}

impl RunsReader {
    /// The next run; `None` behind the last one.
    ///
    /// # Errors
    /// Where the bits are no run above the one before.
    pub(crate) fn next(&mut self) -> Result<Option<RangeInclusive<i64>>, MalformedRuns> {
        if self.left == 0 {
            return Ok(None);
        }
        let first = match self.to {
            None => self.runs.first,
            Some(to) => to.checked_add_unsigned(self.number()?).ok_or(MalformedRuns)?,
        };
        let last = first.checked_add_unsigned(self.number()? - 1).ok_or(MalformedRuns)?;
        self.left -= 1;
        self.to = Some(last);
        Ok(Some(first..=last))
    }

    /// A number above 0.
    fn number(&mut self) -> Result<u64, MalformedRuns> {
        let mut zeros = 0;
        while self.bit()? == 0 {
            zeros += 1;
            if zeros == u64::BITS {
                return Err(MalformedRuns);
            }
        }
        let mut number = 1;
        for _ in 0..zeros {
            number = number << 1 | u64::from(self.bit()?);
        }
        Ok(number)
    }

    fn bit(&mut self) -> Result<u8, MalformedRuns> {
        let byte = self.runs.bits.get(self.read / 8).ok_or(MalformedRuns)?;
        let bit = byte >> (7 - self.read % 8) & 1;
        self.read += 1;
        Ok(bit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(runs: OffsetRuns) -> Result<Vec<RangeInclusive<i64>>, MalformedRuns> {
        let mut reader = runs.reader();
        let mut read = Vec::new();
        while let Some(run) = reader.next()? {
            read.push(run);
        }
        Ok(read)
    }

    #[test]
    fn runs_apart_take_two_bits_each_where_each_is_one_record_between_two_others() {
        let mut builder = RunsBuilder::default();
        for offset in 0..1_000 {
            builder.push(2 * offset, false);
        }
        // the distance 2 has two digits, the length 1 has one
        assert_eq!(builder.finish().bits.len(), (1 + 999 * 4_usize).div_ceil(8));
    }

    #[test]
    fn the_ends_of_all_offsets_can_be_runs() {
        let mut builder = RunsBuilder::default();
        builder.push(i64::MIN, false);
        builder.push(i64::MAX - 1, true);
        builder.push(i64::MAX, false);
        assert_eq!(read(builder.finish()).unwrap(), [i64::MIN..=i64::MAX - 1, i64::MAX..=i64::MAX]);
    }

    proptest! {
        #[test]
        fn runs_read_back_as_they_were_added(
            start in -1_000_i64..1_000_000_000_000,
            runs in prop::collection::vec((1_u64..1 << 40, 0_u64..1 << 40), 1..200),
        ) {
            let (mut builder, mut expected, mut at) = (RunsBuilder::default(), Vec::new(), start);
            for (distance, length) in runs {
                let first = at.saturating_add_unsigned(distance);
                let last = first.saturating_add_unsigned(length);
                builder.push(first, false);
                builder.push(last, true);
                expected.push(first..=last);
                at = last;
            }
            prop_assert_eq!(builder.last(), Some(at));
            let packed = builder.finish();
            prop_assert_eq!(packed.check(), Ok(()));
            prop_assert_eq!(read(packed).unwrap(), expected);
        }

        /// A hostile record claims what it likes.
        #[test]
        fn whatever_the_bits_are_reading_ends_after_half_as_many_runs_at_most(
            first: i64, runs: u64, bits in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let most = bits.len() * 8 / 2 + 1;
            let mut reader = OffsetRuns { first, runs, bits }.reader();
            let (mut count, mut before) = (0, None);
            while let Ok(Some(run)) = reader.next() {
                prop_assert!(before.is_none_or(|before| before < *run.start()) && run.start() <= run.end());
                before = Some(*run.end());
                count += 1;
            }
            prop_assert!(count <= most, "{} runs of {} at most", count, most);
        }
    }
}
