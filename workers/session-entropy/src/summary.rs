//! A group's share of one window: what folds reduce their sessions to, and what merges add.

use grouping::{Group, Share, WriteRow};
use measures::{Band, Fixed, GRID_STEPS, GridCounts, Score};
use storage::wire::{self, Reader};
use streaming::operator::RestoreError;

use crate::rows::{ENTROPY_TOPIC, EntropyRow, GroupScores, RowEncoder};

const VERSION: u8 = 1;

/// Sums over a group's sessions; all of them integers, so adding and taking back in any order is exact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Sessions with an event in the window.
    pub sessions_total: u64,
    /// Events of all those sessions.
    pub events: u64,
    /// Sessions with enough events to be scored.
    pub sessions: u64,
    /// Sum of the scored sessions' entropies, in bits.
    pub entropy: Fixed,
    /// Sum of the scored sessions' freshness.
    pub freshness: Fixed,
    /// Scored sessions by band.
    pub bands: [u64; 3],
    /// Scored sessions by freshness in thousandths.
    pub grid: GridCounts,
    /// How many groups' shares were merged into this one because there were too many groups.
    pub overflowed: u64,
}

impl Summary {
    /// Adds a session with `events` events; `score` is `None` where they are too few to be scored.
    pub fn add(&mut self, events: u64, score: Option<Score>) {
        self.sessions_total += 1;
        self.events += events;
        if let Some(score) = score {
            let freshness = score.freshness();
            self.sessions += 1;
            self.entropy += Fixed::from_f64(score.entropy);
            self.freshness += Fixed::from_f64(freshness);
            self.bands[Band::of(score.normalised).index()] += 1;
            self.grid.add(GridCounts::point(freshness), 1);
        }
    }

    /// Takes back what [`add`](Self::add) has added with the same arguments.
    pub fn remove(&mut self, events: u64, score: Option<Score>) {
        self.sessions_total -= 1;
        self.events -= events;
        if let Some(score) = score {
            let freshness = score.freshness();
            self.sessions -= 1;
            self.entropy -= Fixed::from_f64(score.entropy);
            self.freshness -= Fixed::from_f64(freshness);
            self.bands[Band::of(score.normalised).index()] -= 1;
            self.grid.remove(GridCounts::point(freshness));
        }
    }
}

impl Share for Summary {
    fn merge(&mut self, other: &Self) {
        self.sessions_total += other.sessions_total;
        self.events += other.events;
        self.sessions += other.sessions;
        self.entropy += other.entropy;
        self.freshness += other.freshness;
        for (own, other) in self.bands.iter_mut().zip(other.bands) {
            *own += other;
        }
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
        self.sessions_total == 0
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.push(VERSION);
        for count in [self.sessions_total, self.events, self.sessions, self.overflowed] {
            wire::put_u64(into, count);
        }
        wire::put_signed(into, self.entropy.to_raw());
        wire::put_signed(into, self.freshness.to_raw());
        self.bands.iter().for_each(|count| wire::put_u64(into, *count));
        wire::put_points(into, self.grid.points());
    }
}

impl grouping::Summary for Summary {
    fn decode(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let mut summary = Self {
            sessions_total: reader.u64()?,
            events: reader.u64()?,
            sessions: reader.u64()?,
            overflowed: reader.u64()?,
            entropy: Fixed::from_raw(reader.signed()?),
            freshness: Fixed::from_raw(reader.signed()?),
            ..Self::default()
        };
        for count in &mut summary.bands {
            *count = reader.u64()?;
        }
        reader.points(GRID_STEPS, |point, count| summary.grid.add(point, count))?;
        reader.finish()?;
        Ok(summary)
    }
    fn values(&self) -> Vec<Option<f64>> {
        let counts = [self.sessions_total, self.events, self.sessions].map(|count| Some(count as f64));
        let scores = GroupScores::of(self);
        let score = |of: fn(&GroupScores) -> f64| scores.as_ref().map(of);
        let scores = [
            score(|scores| scores.mean_entropy),
            score(|scores| scores.mean_freshness),
            score(|scores| scores.freshness_quantiles[0]),
            score(|scores| scores.freshness_quantiles[1]),
            score(|scores| scores.freshness_quantiles[2]),
            score(|scores| scores.shares[0]),
            score(|scores| scores.shares[1]),
            score(|scores| scores.shares[2]),
        ];
        counts.into_iter().chain(scores).collect()
    }
}

impl<E: RowEncoder> WriteRow<E> for Summary {
    const TOPIC: u16 = ENTROPY_TOPIC;

    fn write_row(&self, group: &Group<'_>, encoder: &mut E, into: &mut Vec<u8>) {
        let row = EntropyRow {
            group,
            sessions_total: self.sessions_total,
            events: self.events,
            sessions: self.sessions,
            scores: GroupScores::of(self),
        };
        encoder.entropy(&row, into);
    }
}

#[cfg(test)]
mod tests {
    use grouping::Summary as _;
    use proptest::prelude::*;

    use super::*;

    type Session = (u64, Option<Score>);

    fn sessions() -> impl Strategy<Value = Vec<Session>> {
        let score = (0.0..3.4_f64, 0.0..=1.0_f64).prop_map(|(entropy, normalised)| Score { entropy, normalised });
        prop::collection::vec((1_u64..50, prop::option::of(score)), 0..60)
    }

    fn summary_of<'a>(sessions: impl IntoIterator<Item = &'a Session>) -> Summary {
        let mut summary = Summary::default();
        sessions.into_iter().for_each(|(events, score)| summary.add(*events, *score));
        summary
    }

    proptest! {
        #[test]
        fn shares_merge_to_the_whole_in_any_order_and_what_is_taken_back_leaves_no_trace(
            sessions in sessions(), gone in sessions(), cut in any::<prop::sample::Index>()
        ) {
            let whole = summary_of(&sessions);
            let cut = cut.index(sessions.len() + 1);
            let (left, right) = (summary_of(&sessions[..cut]), summary_of(&sessions[cut..]));
            let (mut one, mut other) = (left.clone(), right.clone());
            one.merge(&right);
            other.merge(&left);
            prop_assert_eq!(&one, &whole);
            prop_assert_eq!(&other, &whole);

            let mut visited = summary_of(gone.iter().chain(&sessions));
            gone.iter().rev().for_each(|(events, score)| visited.remove(*events, *score));
            prop_assert_eq!(&visited, &whole);
        }

        #[test]
        fn bytes_read_back_as_written(sessions in sessions(), overflowed: u64) {
            let mut summary = summary_of(&sessions);
            summary.overflowed = overflowed;
            let mut bytes = Vec::new();
            summary.encode(&mut bytes);
            prop_assert_eq!(Summary::decode(&bytes).unwrap(), summary);
            for cut in 0..bytes.len() {
                prop_assert!(Summary::decode(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_make_decoding_panic(bytes: Vec<u8>) {
            let _ = Summary::decode(&bytes);
        }
    }

    #[test]
    fn groups_merged_away_are_counted_once() {
        let one = summary_of(&[(2, None)]);
        let mut here = Summary::default();
        here.merge_overflow(&one);
        here.merge_overflow(&one);
        let mut there = Summary::default();
        there.merge_overflow(&one);
        there.merge_overflow(&here);
        assert_eq!((there.overflowed, there.sessions_total), (3, 3));
    }
}
