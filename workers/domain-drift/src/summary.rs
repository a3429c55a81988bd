//! A domain's share of one window: what folds reduce their users to, and what merges add.

use grouping::{Example, WithExample, write_example};
use measures::{Histogram, Moments};
use storage::wire::{self, Reader, damaged};
use streaming::operator::RestoreError;

const VERSION: u8 = 1;

/// How large a summary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Number of directions, `K`.
    pub directions: usize,
    /// Number of bins, `Q`.
    pub bins: u32,
    /// Components of a vector.
    pub dimensions: usize,
    /// Users in a sample; 0 where none is taken.
    pub sample: usize,
}

/// The projections of a domain's users on one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectionSums {
    /// How many lie in which bin.
    pub histogram: Histogram,
    /// Sums of their places and of the squares.
    pub moments: Moments,
}

/// A user of the sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// `xxh64` of the domain, a 0 byte and the user: those with the smallest are the sample.
    pub hash: u64,
    /// The user's vector, as it came.
    pub vector: Box<[f32]>,
}

/// Sums over the newest vectors of a domain's users; all of them integers, so adding in any order is exact.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Number of users.
    pub users: u64,
    /// Projections outside of the range.
    pub out_of_range: u64,
    /// How many domains' shares were merged into this one because there were too many domains.
    pub overflowed: u64,
    /// One for each direction.
    pub directions: Vec<DirectionSums>,
    /// The users with the smallest hashes, in the order of these, and of the vectors' bits where they are equal.
    pub sample: Vec<Sampled>,
    /// The example among its events.
    pub example: Option<Example>,
}

impl Summary {
    /// The summary of no users.
    #[must_use]
    pub fn empty(shape: &Shape) -> Self {
        let directions = vec![DirectionSums::default(); shape.directions];
        Self { users: 0, out_of_range: 0, overflowed: 0, directions, sample: Vec::new(), example: None }
    }

    /// Adds another share of the same shape.
    pub fn merge(&mut self, other: &Self, shape: &Shape) {
        self.users += other.users;
        self.out_of_range += other.out_of_range;
        self.overflowed += other.overflowed;
        for (own, other) in self.directions.iter_mut().zip(&other.directions) {
            own.histogram.merge(&other.histogram);
            own.moments.merge(other.moments);
        }
        if !other.sample.is_empty() {
            self.sample.extend(other.sample.iter().cloned());
            self.order_sample(shape.sample);
        }
        Example::keep_least(&mut self.example, other.example.as_ref());
    }

    /// Adds the share of a domain that is one too many.
    pub fn merge_overflow(&mut self, other: &Self, shape: &Shape) {
        self.merge(other, shape);
        // what arrives merged already has been counted where that was done
        self.overflowed += u64::from(other.overflowed == 0);
    }

    /// Leaves the `size` first of the sample, in order.
    pub(crate) fn order_sample(&mut self, size: usize) {
        fn bits(sampled: &Sampled) -> impl Iterator<Item = u32> + '_ {
            sampled.vector.iter().map(|component| component.to_bits())
        }
        self.sample.sort_by(|one, other| one.hash.cmp(&other.hash).then_with(|| bits(one).cmp(bits(other))));
        self.sample.truncate(size);
    }

    /// Appends its bytes: some three for each bin that is not empty.
    pub fn encode(&self, into: &mut Vec<u8>) {
        write_example(self.example.as_ref(), into);
        into.push(VERSION);
        for count in [self.users, self.out_of_range, self.overflowed, self.directions.len() as u64] {
            wire::put_u64(into, count);
        }
        for DirectionSums { histogram, moments } in &self.directions {
            wire::put_signed(into, i128::from(moments.sum));
            wire::put_signed(into, moments.squares);
            wire::put_u64(into, histogram.bins().len() as u64);
            let mut before = 0;
            for (bin, count) in histogram.bins() {
                wire::put_u64(into, u64::from(bin - before));
                wire::put_u64(into, u64::from(*count));
                before = *bin;
            }
        }
        wire::put_u64(into, self.sample.len() as u64);
        for sampled in &self.sample {
            into.extend_from_slice(&sampled.hash.to_le_bytes());
            sampled.vector.iter().for_each(|component| into.extend_from_slice(&component.to_le_bytes()));
        }
    }

    /// Reads what [`encode`](Self::encode) has written.
    ///
    /// # Errors
    /// Where the bytes are none of it, of another version, or of another shape.
    pub fn decode(bytes: &[u8], shape: &Shape) -> Result<Self, RestoreError> {
        let WithExample { share, example } = WithExample::decode(bytes, |bytes| Self::decode_sums(bytes, shape))?;
        Ok(Self { example, ..share })
    }

    fn decode_sums(bytes: &[u8], shape: &Shape) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let mut summary =
            Self { users: reader.u64()?, out_of_range: reader.u64()?, overflowed: reader.u64()?, ..Self::empty(shape) };
        if reader.u64()? != shape.directions as u64 {
            return Err(damaged("another number of directions"));
        }
        for sums in &mut summary.directions {
            let sum = reader.i64()?;
            sums.moments = Moments { sum, squares: reader.signed()? };
            sums.histogram = histogram(&mut reader, shape.bins)?;
            if sums.histogram.total() != summary.users {
                return Err(damaged("a histogram of another number of users"));
            }
        }
        for _ in 0..reader.u64()? {
            let hash = u64::from_le_bytes(reader.array()?);
            let vector = (0..shape.dimensions).map(|_| Ok(f32::from_le_bytes(reader.array()?)));
            summary.sample.push(Sampled { hash, vector: vector.collect::<Result<_, RestoreError>>()? });
        }
        if summary.sample.len() > shape.sample {
            return Err(damaged("a sample that is too large"));
        }
        reader.finish()?;
        Ok(summary)
    }
}

fn histogram(reader: &mut Reader<'_>, bins: u32) -> Result<Histogram, RestoreError> {
    let mut histogram = Histogram::default();
    let mut bin = 0_u32;
    for at in 0..reader.u64()? {
        let step = reader.u32()?;
        bin = bin.checked_add(step).filter(|bin| *bin < bins).ok_or_else(|| damaged("a bin that there is not"))?;
        let count = reader.u32()?;
        if count == 0 || (step == 0 && at > 0) {
            return Err(damaged("a bin without a count, or with two"));
        }
        histogram.push(bin, count);
    }
    Ok(histogram)
}

#[cfg(test)]
mod tests {
    use measures::Scale;
    use proptest::prelude::*;

    use super::*;
    use crate::totals::Totals;

    const SHAPE: Shape = Shape { directions: 3, bins: 16, dimensions: 2, sample: 4 };

    type User = ([i32; 3], u64, [f32; 2]);

    fn users() -> impl Strategy<Value = Vec<User>> {
        let place = -(1_i32 << 29)..1_i32 << 30;
        prop::collection::vec(([place.clone(), place.clone(), place], 0_u64..30, [-2.0_f32..2.0, -2.0_f32..2.0]), 0..40)
    }

    fn summary_of<'a>(users: impl IntoIterator<Item = &'a User>) -> Summary {
        let scale = Scale::new(-1.0, 1.0, SHAPE.bins).unwrap();
        let mut totals = Totals::new(SHAPE.directions);
        let mut sample = Vec::new();
        for (places, hash, vector) in users {
            totals.add(places, &scale);
            sample.push(Sampled { hash: *hash, vector: Box::new(*vector) });
        }
        let mut summary = totals.summary(&scale);
        summary.sample = sample;
        summary.order_sample(SHAPE.sample);
        summary
    }

    fn sum(shares: &[&Summary]) -> Summary {
        let mut sum = Summary::empty(&SHAPE);
        shares.iter().for_each(|share| sum.merge(share, &SHAPE));
        sum
    }

    proptest! {
        #[test]
        fn shares_merge_to_the_whole_in_any_order_and_grouping(one in users(), two in users(), three in users()) {
            let whole = summary_of(one.iter().chain(&two).chain(&three));
            let [one, two, three] = [&one, &two, &three].map(summary_of);
            prop_assert_eq!(&sum(&[&one, &two, &three]), &whole);
            prop_assert_eq!(&sum(&[&three, &sum(&[&two, &one])]), &whole);
            prop_assert_eq!(&sum(&[&sum(&[&one, &three]), &two]), &whole);
        }

        #[test]
        fn what_is_taken_back_leaves_no_trace(staying in users(), gone in users()) {
            let scale = Scale::new(-1.0, 1.0, SHAPE.bins).unwrap();
            let mut totals = Totals::new(SHAPE.directions);
            gone.iter().chain(&staying).for_each(|(places, ..)| totals.add(places, &scale));
            gone.iter().rev().for_each(|(places, ..)| totals.remove(places, &scale));
            let mut never = Totals::new(SHAPE.directions);
            staying.iter().for_each(|(places, ..)| never.add(places, &scale));
            prop_assert_eq!(totals.summary(&scale), never.summary(&scale));
        }

        #[test]
        fn bytes_read_back_as_written(users in users(), overflowed: u64) {
            let summary = Summary { overflowed, ..summary_of(&users) };
            let mut bytes = Vec::new();
            summary.encode(&mut bytes);
            prop_assert_eq!(&Summary::decode(&bytes, &SHAPE).unwrap(), &summary);
            for cut in 0..bytes.len() {
                prop_assert!(Summary::decode(&bytes[..cut], &SHAPE).is_err());
            }
            let other = Shape { directions: 4, ..SHAPE };
            prop_assert!(Summary::decode(&bytes, &other).is_err());
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = Summary::decode(&bytes, &SHAPE);
            let _ = Summary::decode(&[&[VERSION, 1, 0, 0, 3], &bytes[..]].concat(), &SHAPE);
        }
    }

    #[test]
    fn domains_merged_away_are_counted_once() {
        let one = summary_of(&[([0; 3], 1, [1.0; 2])]);
        let mut here = Summary::empty(&SHAPE);
        here.merge_overflow(&one, &SHAPE);
        here.merge_overflow(&one, &SHAPE);
        let mut there = Summary::empty(&SHAPE);
        there.merge_overflow(&one, &SHAPE);
        there.merge_overflow(&here, &SHAPE);
        assert_eq!((there.overflowed, there.users), (3, 3));
    }
}
