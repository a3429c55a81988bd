//! How many groups a window has.

use std::collections::BTreeMap;

use streaming::output::FoldOutput;

use crate::Grouping;

/// A group's share of one window: what folds emit and merges add. Adding is exact, in any order.
pub trait Share: Default {
    /// Adds another share of the same group.
    fn merge(&mut self, other: &Self);

    /// Adds the share of a group that is one too many, and counts it.
    fn merge_overflow(&mut self, other: &Self);

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
    rest: Option<(Vec<u8>, S)>,
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

    /// Emits the shares of a fold's groups, at most `count`, which come in the order of their keys. Under each merge key
    /// only the `max_groups` smallest are told apart, since others cannot be among the smallest of all partitions.
    pub fn emit<'a, S: Share + 'a>(
        &self,
        end: i64,
        count: usize,
        groups: impl Iterator<Item = (&'a [u8], &'a S)>,
        out: &mut FoldOutput,
    ) {
        let mut merge_key = Vec::new();
        if count <= self.max_groups {
            for (key, share) in groups {
                self.grouping.merge_key(key, &mut merge_key);
                out.summary(end, &merge_key, key, |into| share.encode(into));
            }
            return;
        }
        let mut under: BTreeMap<Vec<u8>, UnderMergeKey<S>> = BTreeMap::new();
        for (key, share) in groups {
            self.grouping.merge_key(key, &mut merge_key);
            if !under.contains_key(&merge_key) {
                under.insert(merge_key.clone(), UnderMergeKey { kept: 0, rest: None });
            }
            let Some(under) = under.get_mut(&merge_key) else { continue };
            if under.kept < self.max_groups {
                under.kept += 1;
                out.summary(end, &merge_key, key, |into| share.encode(into));
            } else {
                let rest = under.rest.get_or_insert_with(|| {
                    let mut other = Vec::new();
                    self.grouping.overflow_key(key, &mut other);
                    (other, S::default())
                });
                rest.1.merge_overflow(share);
            }
        }
        for (merge_key, under) in under {
            if let Some((key, share)) = under.rest {
                out.summary(end, &merge_key, &key, |into| share.encode(into));
            }
        }
    }

    /// Merges what is too much of a closed window's groups.
    #[must_use]
    pub fn limit<S: Share>(&self, groups: BTreeMap<Box<[u8]>, S>) -> BTreeMap<Box<[u8]>, S> {
        let merged_by_folds = groups.keys().any(|key| Grouping::is_overflow(key));
        if groups.len() <= self.max_groups && !merged_by_folds {
            return groups;
        }
        let mut kept = BTreeMap::new();
        let mut rest: BTreeMap<Box<[u8]>, S> = BTreeMap::new();
        let mut other = Vec::new();
        for (key, share) in groups {
            if !Grouping::is_overflow(&key) && kept.len() < self.max_groups {
                kept.insert(key, share);
            } else {
                self.grouping.overflow_key(&key, &mut other);
                rest.entry(other.as_slice().into()).or_default().merge_overflow(&share);
            }
        }
        // events may literally say `__other__`: two rows of one key would be one too many
        for (key, share) in rest {
            let values = self.grouping.values(&key);
            self.grouping.group_key(|dimension| &values[dimension as usize], &mut other);
            match kept.get_mut(other.as_slice()) {
                Some(literal) => literal.merge(&share),
                None => {
                    kept.insert(other.as_slice().into(), share);
                }
            }
        }
        kept
    }
}
