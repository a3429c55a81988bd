//! What the users of a domain in the window add up to in one partition, kept up while they come and go.

use std::collections::{BTreeMap, BTreeSet};

use measures::{Histogram, Moments, Scale};

use crate::summary::{DirectionSums, Summary};

/// With up to so many users a domain keeps the bins that are not empty only: it would cost 256 KiB otherwise, and the input
/// names as many domains as it likes.
const FEW_USERS: u64 = 32;

/// How many vectors lie in each bin, by direction, then by bin.
#[derive(Debug)]
enum Counts {
    Sparse(BTreeMap<u32, u32>),
    Dense(Box<[u32]>),
}

impl Default for Counts {
    fn default() -> Self {
        Self::Sparse(BTreeMap::new())
    }
}

impl Counts {
    fn make_dense(&mut self, length: usize) {
        let Self::Sparse(counts) = self else { return };
        let mut dense = vec![0; length].into_boxed_slice();
        for (at, count) in counts {
            dense[*at as usize] = *count;
        }
        *self = Self::Dense(dense);
    }

    /// Counts a vector more, or one less, by its bin in each direction.
    fn count(&mut self, found: impl Iterator<Item = u32>, bins: u32, is_more: bool) {
        match self {
            Self::Dense(counts) => {
                for (bin, counts) in found.zip(counts.chunks_exact_mut(bins as usize)) {
                    let count = &mut counts[bin as usize];
                    *count = if is_more { *count + 1 } else { *count - 1 };
                }
            }
            Self::Sparse(counts) => {
                for (direction, bin) in (0..).zip(found) {
                    let at: u32 = direction * bins + bin;
                    let count = counts.entry(at).or_default();
                    *count = if is_more { *count + 1 } else { count.saturating_sub(1) };
                    if *count == 0 {
                        counts.remove(&at);
                    }
                }
            }
        }
    }

    fn histogram(&self, direction: usize, bins: u32) -> Histogram {
        let first = direction as u32 * bins;
        match self {
            Self::Dense(counts) => Histogram::of_counts(&counts[first as usize..][..bins as usize]),
            Self::Sparse(counts) => {
                let mut histogram = Histogram::default();
                counts.range(first..first + bins).for_each(|(at, count)| histogram.push(at - first, *count));
                histogram
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            // a tree's nodes are two thirds full
            Self::Sparse(counts) => counts.len() * size_of::<(u32, u32)>() * 3 / 2,
            Self::Dense(counts) => size_of_val(&**counts),
        }
    }
}

/// Running sums over the newest vectors of a domain's users.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    users: u64,
    out_of_range: u64,
    counts: Counts,
    moments: Box<[Moments]>,
    /// The users by what orders them for the sample; empty where none is taken.
    pub(crate) by_hash: BTreeSet<(u64, u32)>,
}

impl Totals {
    /// No users.
    pub(crate) fn new(directions: usize) -> Self {
        Self { moments: vec![Moments::default(); directions].into_boxed_slice(), ..Self::default() }
    }

    pub(crate) fn users(&self) -> u64 {
        self.users
    }

    /// Adds a user by the places of the newest vector.
    pub(crate) fn add(&mut self, places: &[i32], scale: &Scale) {
        self.users += 1;
        if self.users > FEW_USERS {
            self.counts.make_dense(self.moments.len() * scale.bins() as usize);
        }
        self.counts.count(places.iter().map(|place| scale.bin(*place)), scale.bins(), true);
        for (place, moments) in places.iter().zip(&mut self.moments) {
            moments.add(*place);
            self.out_of_range += u64::from(scale.is_outside(*place));
        }
    }

    /// Takes back what [`add`](Self::add) has added with the same places.
    pub(crate) fn remove(&mut self, places: &[i32], scale: &Scale) {
        self.users -= 1;
        self.counts.count(places.iter().map(|place| scale.bin(*place)), scale.bins(), false);
        for (place, moments) in places.iter().zip(&mut self.moments) {
            moments.remove(*place);
            self.out_of_range -= u64::from(scale.is_outside(*place));
        }
    }

    /// The sums as a summary, without a sample.
    pub(crate) fn summary(&self, scale: &Scale) -> Summary {
        let sums = |(direction, moments): (usize, &Moments)| DirectionSums {
            histogram: self.counts.histogram(direction, scale.bins()),
            moments: *moments,
        };
        Summary {
            users: self.users,
            out_of_range: self.out_of_range,
            overflowed: 0,
            directions: self.moments.iter().enumerate().map(sums).collect(),
            sample: Vec::new(),
            example: None,
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        // a tree's nodes are two thirds full
        self.counts.heap_bytes() + size_of_val(&*self.moments) + self.by_hash.len() * size_of::<(u64, u32)>() * 3 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIRECTIONS: usize = 32;

    fn scale() -> Scale {
        Scale::new(-1.0, 1.0, 2048).unwrap()
    }

    /// Directions by users, in fixed point as vectors are projected.
    fn places(user: i32) -> Vec<i32> {
        (0..DIRECTIONS as i32).map(|direction| (user * 7_919 + direction * 104_729) % 1_000_003 * 1_000).collect()
    }

    #[test]
    fn sums_of_few_users_are_those_of_the_same_users_among_many() {
        let scale = scale();
        let (mut few, mut many) = (Totals::new(DIRECTIONS), Totals::new(DIRECTIONS));
        (0..10).for_each(|user| few.add(&places(user), &scale));
        (0..200).for_each(|user| many.add(&places(user), &scale));
        (10..200).for_each(|user| many.remove(&places(user), &scale));
        assert_eq!(few.summary(&scale), many.summary(&scale));
    }

    /// Each record of a flood may name another domain.
    #[test]
    fn a_domain_of_one_user_takes_less_than_ten_kilobytes() {
        let scale = scale();
        let mut totals = Totals::new(DIRECTIONS);
        totals.add(&places(1), &scale);
        assert!(totals.heap_bytes() < 10_000, "{}", totals.heap_bytes());
        totals.remove(&places(1), &scale);
        assert_eq!(totals.counts.heap_bytes(), 0);
    }
}
