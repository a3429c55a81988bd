//! How many groups a window has.

use std::collections::BTreeMap;

use streaming::output::FoldOutput;

use crate::{Example, Examples, Grouping, WithExample, write_example};

/// A group's share of one window: what folds emit and merges add. Adding is exact, in any order.
pub trait Share: Default {
    /// Adds another share of the same group.
    fn merge(&mut self, other: &Self);

    /// How many groups' shares were merged into this one because there were too many groups.
    fn overflowed(&self) -> u64;

    /// Counts one more of these.
    fn count_overflow(&mut self);

    /// Adds the share of a group that is one too many, and counts it.
    fn merge_overflow(&mut self, other: &Self) {
        self.merge(other);
        // what arrives merged already has been counted where that was done
        if other.overflowed() == 0 {
            self.count_overflow();
        }
    }

    /// Whether nothing was added.
    fn is_empty(&self) -> bool;

    /// Appends its bytes.
    fn encode(&self, into: &mut Vec<u8>);
}

/// Of a window's groups the `max_groups` smallest stay; the rest are one group for each merge key, whose other dimensions
/// are [`OTHER`](crate::OTHER).
#[derive(Debug, Clone)]
pub struct GroupLimit {
    grouping: Grouping,
    max_groups: usize,
}

/// The groups of one merge key.
struct UnderMergeKey<S> {
    /// How many have been emitted as they are.
    kept: usize,
    /// Key and share of all others.
    rest: Option<(Vec<u8>, WithExample<S>)>,
}

impl GroupLimit {
    /// Keeps `max_groups` (at least 1) groups.
    #[must_use]
    pub fn new(grouping: Grouping, max_groups: usize) -> Self {
        Self { grouping, max_groups }
    }

    /// The dimensions.
    #[must_use]
    pub fn grouping(&self) -> &Grouping {
        &self.grouping
    }

    /// Emits the shares of a fold's groups, at most `count`, which come in the order of their keys, each with its example, to
    /// be read by [`WithExample::decode`]. Under each merge key only the `max_groups` smallest are told apart, since others
    /// cannot be among the smallest of all partitions. Examples of groups that have no share here go out too, with an empty
    /// one: they may have a share in another partition. That there are shares is told to all merge partitions.
    pub fn emit<'a, S: Share + 'a>(
        &self,
        end: i64,
        count: usize,
        groups: impl Iterator<Item = (&'a [u8], &'a S)>,
        examples: &'a Examples,
        out: &mut FoldOutput,
    ) {
        let nothing = S::default();
        let write = |share: Option<&S>, example: Option<&Example>, into: &mut Vec<u8>| {
            write_example(example, into);
            share.unwrap_or(&nothing).encode(into);
        };
        let mut merge_key = Vec::new();
        let mut under: BTreeMap<Vec<u8>, UnderMergeKey<S>> = BTreeMap::new();
        let mut has_shares = false;
        for (key, share, example) in examples.beside(groups) {
            has_shares |= share.is_some();
            self.grouping.merge_key(key, &mut merge_key);
            if count <= self.max_groups {
                out.summary(end, &merge_key, key, |into| write(share, example, into));
                continue;
            }
            if !under.contains_key(&merge_key) {
                under.insert(merge_key.clone(), UnderMergeKey { kept: 0, rest: None });
            }
            let Some(under) = under.get_mut(&merge_key) else { continue };
            if under.kept < self.max_groups {
                under.kept += usize::from(share.is_some());
                out.summary(end, &merge_key, key, |into| write(share, example, into));
                continue;
            }
            let (_, rest) = under.rest.get_or_insert_with(|| {
                let mut other = Vec::new();
                self.grouping.overflow_key(key, &mut other);
                (other, WithExample::default())
            });
            if let Some(share) = share {
                rest.share.merge_overflow(share);
            }
            Example::keep_least(&mut rest.example, example);
        }
        for (merge_key, under) in under {
            if let Some((key, rest)) = under.rest {
                out.summary(end, &merge_key, &key, |into| rest.encode(into));
            }
        }
        if has_shares {
            out.tell_of_groups(end);
        }
    }

    /// Merges what is too much of a closed window's groups, and leaves out those that have nothing but an example.
    #[must_use]
    pub fn limit<S: Share>(
        &self,
        mut groups: BTreeMap<Box<[u8]>, WithExample<S>>,
    ) -> BTreeMap<Box<[u8]>, WithExample<S>> {
        let merged_by_folds = groups.keys().any(|key| Grouping::is_overflow(key));
        if groups.len() <= self.max_groups && !merged_by_folds {
            groups.retain(|_, group| !group.share.is_empty());
            return groups;
        }
        let mut kept = BTreeMap::new();
        let mut rest: BTreeMap<Box<[u8]>, WithExample<S>> = BTreeMap::new();
        let mut other = Vec::new();
        for (key, group) in groups {
            if Grouping::is_overflow(&key) || kept.len() >= self.max_groups {
                self.grouping.overflow_key(&key, &mut other);
                rest.entry(other.as_slice().into()).or_default().merge_overflow(&group);
            } else if !group.share.is_empty() {
                kept.insert(key, group);
            }
        }
        // events may literally say `__other__`: two rows of one key would be one too many
        for (key, group) in rest.into_iter().filter(|(_, group)| !group.share.is_empty()) {
            let values = self.grouping.values(&key);
            self.grouping.group_key(|dimension| &values[dimension as usize], &mut other);
            match kept.get_mut(other.as_slice()) {
                Some(literal) => literal.merge(&group),
                None => {
                    kept.insert(other.as_slice().into(), group);
                }
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Dimension;

    /// How many, and how many groups were merged into it.
    #[derive(Debug, Clone, PartialEq, Default)]
    struct Count(u8, u8);

    impl Share for Count {
        fn merge(&mut self, other: &Self) {
            self.0 += other.0;
            self.1 += other.1;
        }

        fn overflowed(&self) -> u64 {
            self.1.into()
        }

        fn count_overflow(&mut self) {
            self.1 += 1;
        }

        fn is_empty(&self) -> bool {
            self.0 == 0
        }

        fn encode(&self, into: &mut Vec<u8>) {
            into.extend([self.0, self.1]);
        }
    }

    /// What happens in a group: its number, whether it counts, the number of its trace, its partition.
    type Happening = (u8, bool, Option<u8>, usize);

    fn key(group: u8) -> Vec<u8> {
        format!("{}\0{group}", group % 2).into_bytes()
    }

    /// The rows' keys, counts and traces, after folds of so many partitions.
    fn rows(limit: &GroupLimit, happenings: &[Happening], partitions: usize) -> Vec<(Vec<u8>, u8, Option<String>)> {
        let mut merged: BTreeMap<Box<[u8]>, WithExample<Count>> = BTreeMap::new();
        for partition in 0..partitions {
            let (mut counts, mut examples) = (BTreeMap::<Vec<u8>, Count>::new(), Examples::default());
            for (group, counts_here, trace, _) in happenings.iter().filter(|it| it.3 % partitions == partition) {
                if *counts_here {
                    counts.entry(key(*group)).or_default().0 += 1;
                }
                let traceparent = trace.map(|trace| trace.to_string());
                examples.offer(10, &key(*group), &format!("{trace:?}"), || traceparent.as_deref());
            }
            examples.close(0, 10);
            let mut out = FoldOutput::new(1);
            let shares = counts.iter().map(|(key, share)| (key.as_slice(), share));
            limit.emit(10, counts.len(), shares, &examples, &mut out);
            for (_, _, key, bytes) in out.summaries() {
                let group = WithExample::decode(bytes, |bytes| Ok(Count(bytes[0], bytes[1]))).unwrap();
                merged.entry(key.into()).or_default().merge(&group);
            }
        }
        let rows = limit.limit(merged).into_iter();
        rows.map(|(key, group)| {
            (key.into_vec(), group.share.0, group.example.map(|example| example.traceparent().to_owned()))
        })
        .collect()
    }

    proptest! {
        #[test]
        fn neither_counts_nor_examples_depend_on_partitions(
            happenings in prop::collection::vec((0..12_u8, any::<bool>(), prop::option::of(0..90_u8), 0..3_usize), 0..40),
            max_groups in 1..12_usize,
        ) {
            let dimensions = [Dimension::Domain, Dimension::Surface];
            let limit = GroupLimit::new(Grouping::new(&dimensions, &dimensions[..1]), max_groups);
            let one = rows(&limit, &happenings, 1);
            prop_assert_eq!(&rows(&limit, &happenings, 3), &one);
            let counting: std::collections::BTreeSet<u8> = happenings.iter().filter(|it| it.1).map(|it| it.0).collect();
            if counting.len() <= max_groups {
                let expected = counting.iter().map(|group| {
                    let own = || happenings.iter().filter(|it| it.0 == *group);
                    let trace = own().filter_map(|it| it.2).min_by_key(|trace| format!("{:?}", Some(*trace)));
                    (key(*group), own().filter(|it| it.1).count() as u8, trace.map(|trace| trace.to_string()))
                });
                let mut expected: Vec<_> = expected.collect();
                expected.sort();
                prop_assert_eq!(one, expected);
            }
        }
    }
}
