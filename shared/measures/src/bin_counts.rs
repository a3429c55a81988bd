//! How many gaps lie in each bin, in 16 bytes for the usual session.

use crate::log2::count_log2_count;

const SMALL_BINS: usize = 15;

/// Counts by bin. A million sessions each have one, so few bins with small counts are kept inline; their sums are
/// derived from the 15 counts when asked for. Many bins or large counts move to the heap, and sums are kept there.
#[derive(Debug, Clone)]
pub struct BinCounts(Representation);

#[derive(Debug, Clone)]
enum Representation {
    Small([u8; SMALL_BINS]),
    Large(Box<Large>),
}

#[derive(Debug, Clone, Default)]
struct Large {
    /// Non-empty bins with their counts, by bin.
    bins: Vec<(u16, u32)>,
    total: u64,
    /// Sum of `c log2 c` in units of 2^-60.
    sum: i128,
}

impl Default for BinCounts {
    fn default() -> Self {
        Self(Representation::Small([0; SMALL_BINS]))
    }
}

impl BinCounts {
    /// Counts one more gap in `bin`, which is below [`MAX_BINS`](crate::MAX_BINS).
    #[inline]
    pub fn add(&mut self, bin: u32) {
        match &mut self.0 {
            Representation::Small(counts) => match counts.get_mut(bin as usize) {
                Some(count) if *count < u8::MAX => *count += 1,
                _ => {
                    let mut large = Large::of(counts);
                    large.add(bin);
                    self.0 = Representation::Large(Box::new(large));
                }
            },
            Representation::Large(large) => large.add(bin),
        }
    }

    /// Takes back one gap that [`add`](Self::add) has counted in `bin`.
    ///
    /// # Panics
    /// Where there is none: the caller's bookkeeping is wrong, and so would be every result from here on.
    #[inline]
    pub fn remove(&mut self, bin: u32) {
        match &mut self.0 {
            Representation::Small(counts) => {
                let count = &mut counts[bin as usize];
                assert!(*count > 0, "bin {bin} is empty");
                *count -= 1;
            }
            Representation::Large(large) => {
                large.remove(bin);
                if large.total == 0 {
                    *self = Self::default();
                }
            }
        }
    }

    /// Number of gaps counted, `N`.
    #[must_use]
    pub fn total(&self) -> u64 {
        match &self.0 {
            Representation::Small(counts) => counts.iter().map(|count| u64::from(*count)).sum(),
            Representation::Large(large) => large.total,
        }
    }

    /// Number of non-empty bins, `m`.
    #[must_use]
    pub fn occupied(&self) -> u32 {
        match &self.0 {
            Representation::Small(counts) => counts.iter().map(|count| u32::from(*count > 0)).sum(),
            Representation::Large(large) => large.bins.len() as u32,
        }
    }

    /// The counts of the non-empty bins, by bin.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        let (small, large): (&[u8], &[(u16, u32)]) = match &self.0 {
            Representation::Small(counts) => (counts, &[]),
            Representation::Large(large) => (&[], &large.bins),
        };
        let small = small.iter().filter(|count| **count > 0).map(|count| u64::from(*count));
        small.chain(large.iter().map(|(_, count)| u64::from(*count)))
    }

    /// Sum of `c log2 c` over the bins, in units of 2^-60.
    pub(crate) fn sum_count_log2_count(&self) -> i128 {
        match &self.0 {
            Representation::Small(counts) => counts.iter().map(|count| count_log2_count(u64::from(*count))).sum(),
            Representation::Large(large) => large.sum,
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Representation::Small(_) => 0,
            Representation::Large(large) => size_of::<Large>() + large.bins.capacity() * size_of::<(u16, u32)>(),
        }
    }
}

impl Large {
    fn of(counts: &[u8; SMALL_BINS]) -> Self {
        let occupied = (0..).zip(counts).filter(|(_, count)| **count > 0);
        let bins: Vec<(u16, u32)> = occupied.map(|(bin, count)| (bin, u32::from(*count))).collect();
        let total = bins.iter().map(|(_, count)| u64::from(*count)).sum();
        let sum = bins.iter().map(|(_, count)| count_log2_count(u64::from(*count))).sum();
        Self { bins, total, sum }
    }

    fn add(&mut self, bin: u32) {
        let bin = bin as u16;
        let count = match self.bins.binary_search_by_key(&bin, |(bin, _)| *bin) {
            Ok(at) => {
                self.bins[at].1 += 1;
                u64::from(self.bins[at].1)
            }
            Err(at) => {
                self.bins.insert(at, (bin, 1));
                1
            }
        };
        self.total += 1;
        self.sum += count_log2_count(count) - count_log2_count(count - 1);
    }

    fn remove(&mut self, bin: u32) {
        let Ok(at) = self.bins.binary_search_by_key(&(bin as u16), |(bin, _)| *bin) else {
            panic!("bin {bin} is empty");
        };
        let count = u64::from(self.bins[at].1);
        if count == 1 {
            self.bins.remove(at);
        } else {
            self.bins[at].1 -= 1;
        }
        self.total -= 1;
        self.sum -= count_log2_count(count) - count_log2_count(count - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_usual_session_needs_16_bytes() {
        assert_eq!(size_of::<BinCounts>(), 16);
        assert_eq!(BinCounts::default().heap_bytes(), 0);
    }

    #[test]
    fn a_count_above_255_moves_to_the_heap_and_an_empty_one_comes_back() {
        let mut counts = BinCounts::default();
        (0..300).for_each(|_| counts.add(3));
        assert_eq!((counts.total(), counts.occupied()), (300, 1));
        assert!(counts.heap_bytes() > 0);
        (0..300).for_each(|_| counts.remove(3));
        assert_eq!((counts.total(), counts.heap_bytes()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "bin 4 is empty")]
    fn taking_back_what_was_never_counted_is_a_bug() {
        BinCounts::default().remove(4);
    }

    proptest! {
        #[test]
        fn any_history_counts_like_a_map(
            steps in prop::collection::vec((any::<bool>(), 0_u32..25), 0..600), large_from_start in any::<bool>()
        ) {
            let mut counts = BinCounts::default();
            let mut map: BTreeMap<u32, u64> = BTreeMap::new();
            if large_from_start {
                counts.add(9000);
                map.insert(9000, 1);
            }
            for (adds, bin) in steps {
                if adds || !map.contains_key(&bin) {
                    counts.add(bin);
                    *map.entry(bin).or_default() += 1;
                } else {
                    counts.remove(bin);
                    *map.get_mut(&bin).unwrap() -= 1;
                    map.retain(|_, count| *count > 0);
                }
            }
            prop_assert_eq!(counts.total(), map.values().sum::<u64>());
            prop_assert_eq!(counts.occupied() as usize, map.len());
            prop_assert_eq!(counts.iter().collect::<Vec<_>>(), map.values().copied().collect::<Vec<_>>());
            let sum: i128 = map.values().map(|count| count_log2_count(*count)).sum();
            prop_assert_eq!(counts.sum_count_log2_count(), sum);
        }
    }
}
