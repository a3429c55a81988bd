//! A group's share of one window's pairs.

use grouping::{Group, Share, Summary, WriteRow};
use measures::{Fixed, Quantile, SignedGridCounts};
use storage::wire::{self, Reader};
use streaming::operator::RestoreError;

use crate::rows::{PAIRS_TOPIC, PairScores, PairsRow, RowEncoder};
use crate::summary::Sliding;

const VERSION: u8 = 1;

/// Sums over a group's pairs; all of them integers, so adding and taking back in any order is exact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PairSummary {
    /// Pairs whose vectors were both there.
    pub pairs: u64,
    /// Pairs with a vector missing.
    pub missing: u64,
    /// Sum of the pairs' cosines.
    pub cosine: Fixed,
    /// Sum of the decayed ones.
    pub decayed: Fixed,
    /// Sum of the times between the two events of a pair, ms.
    pub millis: u64,
    /// Pairs by decayed similarity in thousandths.
    pub grid: SignedGridCounts,
    /// How many groups' shares were merged into this one because there were too many groups.
    pub overflowed: u64,
}

impl PairSummary {
    /// Adds a pair whose events lie `millis` apart.
    pub fn add(&mut self, cosine: f64, decayed: f64, millis: i64) {
        self.pairs += 1;
        self.cosine += Fixed::from_f64(cosine);
        self.decayed += Fixed::from_f64(decayed);
        self.millis += millis.unsigned_abs();
        self.grid.add(SignedGridCounts::point(decayed), 1);
    }

    fn scores(&self) -> Option<PairScores> {
        let [low, median, high] = [Quantile::P05, Quantile::P50, Quantile::P95].map(|q| self.grid.quantile(q));
        Some(PairScores {
            mean_cosine: self.cosine.mean(self.pairs)?,
            mean_decayed: self.decayed.mean(self.pairs)?,
            decayed_quantiles: [low?, median?, high?],
            mean_dt_seconds: self.millis as f64 / 1000.0 / self.pairs as f64,
        })
    }
}

impl Share for PairSummary {
    fn merge(&mut self, other: &Self) {
        self.pairs += other.pairs;
        self.missing += other.missing;
        self.cosine += other.cosine;
        self.decayed += other.decayed;
        self.millis += other.millis;
        self.grid.merge(&other.grid);
        self.overflowed += other.overflowed;
    }

    fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn count_overflow(&mut self) {
        self.overflowed += 1;
    }

    fn is_empty(&self) -> bool {
        self.pairs + self.missing == 0
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.push(VERSION);
        for count in [self.pairs, self.missing, self.millis, self.overflowed] {
            wire::put_u64(into, count);
        }
        wire::put_signed(into, self.cosine.to_raw());
        wire::put_signed(into, self.decayed.to_raw());
        wire::put_points(into, self.grid.points());
    }
}

impl Sliding for PairSummary {
    fn subtract(&mut self, other: &Self) {
        self.pairs -= other.pairs;
        self.missing -= other.missing;
        self.cosine -= other.cosine;
        self.decayed -= other.decayed;
        self.millis -= other.millis;
        self.grid.subtract(&other.grid);
        self.overflowed -= other.overflowed;
    }
}

impl Summary for PairSummary {
    fn decode(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let mut summary = Self {
            pairs: reader.u64()?,
            missing: reader.u64()?,
            millis: reader.u64()?,
            overflowed: reader.u64()?,
            cosine: Fixed::from_raw(reader.signed()?),
            decayed: Fixed::from_raw(reader.signed()?),
            grid: SignedGridCounts::default(),
        };
        reader.points(SignedGridCounts::HIGHEST, |point, count| summary.grid.add(point, count))?;
        reader.finish()?;
        Ok(summary)
    }

    fn values(&self) -> Vec<Option<f64>> {
        let scores = self.scores();
        let score = |of: fn(&PairScores) -> f64| scores.as_ref().map(of);
        vec![
            Some(self.pairs as f64),
            Some(self.missing as f64),
            score(|scores| scores.mean_cosine),
            score(|scores| scores.mean_decayed),
            score(|scores| scores.decayed_quantiles[0]),
            score(|scores| scores.decayed_quantiles[1]),
            score(|scores| scores.decayed_quantiles[2]),
            score(|scores| scores.mean_dt_seconds),
        ]
    }
}

impl<E: RowEncoder> WriteRow<E> for PairSummary {
    const TOPIC: u16 = PAIRS_TOPIC;

    fn write_row(&self, group: &Group<'_>, encoder: &mut E, into: &mut Vec<u8>) {
        let row = PairsRow { group, pairs: self.pairs, missing: self.missing, scores: self.scores() };
        encoder.pairs(&row, into);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Pair = Option<(f64, f64, i64)>;

    fn pairs() -> impl Strategy<Value = Vec<Pair>> {
        prop::collection::vec(prop::option::of((-1.0..=1.0, -1.0..=1.0, 0_i64..1_800_000)), 0..60)
    }

    fn summary_of(pairs: &[Pair]) -> PairSummary {
        let mut summary = PairSummary::default();
        for pair in pairs {
            match pair {
                Some((cosine, decayed, millis)) => summary.add(*cosine, *decayed, *millis),
                None => summary.missing += 1,
            }
        }
        summary
    }

    proptest! {
        #[test]
        fn shares_merge_to_the_whole_in_any_order_and_what_is_taken_back_leaves_no_trace(
            pairs in pairs(), cut in any::<prop::sample::Index>()
        ) {
            let whole = summary_of(&pairs);
            let (left, right) = pairs.split_at(cut.index(pairs.len() + 1));
            let (left, right) = (summary_of(left), summary_of(right));
            let (mut one, mut other) = (left.clone(), right.clone());
            one.merge(&right);
            other.merge(&left);
            prop_assert_eq!(&one, &whole);
            prop_assert_eq!(&other, &whole);
            one.subtract(&left);
            prop_assert_eq!(&one, &right);
        }

        #[test]
        fn bytes_read_back_as_written(pairs in pairs(), overflowed: u64) {
            let mut summary = summary_of(&pairs);
            summary.overflowed = overflowed;
            let mut bytes = Vec::new();
            summary.encode(&mut bytes);
            prop_assert_eq!(PairSummary::decode(&bytes).unwrap(), summary);
            for cut in 0..bytes.len() {
                prop_assert!(PairSummary::decode(&bytes[..cut]).is_err());
            }
        }
    }
}
