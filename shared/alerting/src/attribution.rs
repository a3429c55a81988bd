//! Which dimensions carry what is too much.

use std::borrow::Cow;
use std::collections::BTreeMap;

use measures::share_entropy;

use crate::catalogue::Group;
use crate::shorten::shortened;

/// How many are told.
const STRONGEST: usize = 3;
/// Values are told until they carry this share, but not more than so many.
const CARRY: f64 = 0.8;
const MAX_VALUES: usize = 3;
/// Entropies that differ by less are equal: sums of shares in another order.
const GRAIN: f64 = 1e9;
/// How an absent value is told.
const NONE: &str = "(none)";

/// A dimension, or two, with the values that carry most of the excess.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attribution {
    /// Joined with `+`.
    pub(crate) dimensions: String,
    /// The largest first, separated by commas; those of two dimensions joined with `+`. Each is cut for people.
    pub(crate) values: String,
    /// What they carry, 0 to 1.
    pub(crate) share: f64,
    /// Of the shares of all values, bits.
    pub(crate) entropy: f64,
}

impl Attribution {
    /// Whether the same values of the same dimensions are told, in whatever order. Snapshots keep them as they were told, so
    /// that one that is restored names the same as before. Long values that begin alike are told alike, and are the same here:
    /// a record more for one in the other's place would say nothing new.
    pub(crate) fn names_the_same(&self, other: &Self) -> bool {
        let sorted = |values: &str| {
            let mut values: Vec<String> = values.split(", ").map(str::to_owned).collect();
            values.sort_unstable();
            values
        };
        self.dimensions == other.dimensions && sorted(&self.values) == sorted(&other.values)
    }
}

/// Ranks the dimensions, and pairs of them, by the entropy of the excess's shares over their values: the most concentrated
/// first, single ones before pairs. `groups` are all groups of a window with their excess (0 or more). Dimensions of which
/// all groups have the same value say nothing.
pub(crate) fn attribute(dimensions: &[&str], groups: &[(&Group, f64)]) -> Vec<Attribution> {
    if groups.iter().all(|(_, excess)| *excess <= 0.0) {
        return Vec::new();
    }
    let telling: Vec<usize> = (0..dimensions.len())
        .filter(|at| groups.windows(2).any(|neighbours| neighbours[0].0[*at] != neighbours[1].0[*at]))
        .collect();
    let pairs = telling.iter().enumerate().flat_map(|(index, left)| {
        let others = telling[index + 1..].iter();
        others.map(|right| vec![*left, *right])
    });
    let candidates: Vec<Vec<usize>> = telling.iter().map(|at| vec![*at]).chain(pairs).collect();
    let mut ranked: Vec<Attribution> =
        candidates.iter().map(|candidate| shares_of(candidate, dimensions, groups)).collect();
    // stable: equal ones stay in the order of the dimensions, singles before pairs
    ranked.sort_by_key(|attribution| (attribution.entropy * GRAIN).round() as i64);
    ranked.truncate(STRONGEST);
    ranked
}

fn shares_of(candidate: &[usize], dimensions: &[&str], groups: &[(&Group, f64)]) -> Attribution {
    let mut sums: BTreeMap<Vec<&str>, f64> = BTreeMap::new();
    for (group, excess) in groups {
        *sums.entry(candidate.iter().map(|at| &*group[*at]).collect()).or_default() += excess;
    }
    let total: f64 = sums.values().sum();
    let entropy = share_entropy(sums.values().copied());
    let mut largest: Vec<(Vec<&str>, f64)> = sums.into_iter().filter(|(_, sum)| *sum > 0.0).collect();
    largest.sort_by(|left, right| right.1.total_cmp(&left.1));
    let (mut share, mut values) = (0.0, Vec::new());
    for (value, sum) in largest.into_iter().take(MAX_VALUES) {
        let named = value.iter().map(|part| if part.is_empty() { Cow::Borrowed(NONE) } else { shortened(part) });
        let named: Vec<Cow<'_, str>> = named.collect();
        values.push(named.join("+"));
        share += sum / total;
        if share >= CARRY {
            break;
        }
    }
    let names: Vec<&str> = candidate.iter().map(|at| dimensions[*at]).collect();
    Attribution { dimensions: names.join("+"), values: values.join(", "), share: share.min(1.0), entropy }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(values: [&str; 3]) -> Group {
        values.map(Into::into).into()
    }

    fn told(groups: &[([&str; 3], f64)]) -> Vec<(String, String, f64)> {
        let groups: Vec<(Group, f64)> = groups.iter().map(|(values, excess)| (group(*values), *excess)).collect();
        let groups: Vec<(&Group, f64)> = groups.iter().map(|(group, excess)| (group, *excess)).collect();
        let attributed = attribute(&["domain", "segment", "strategy"], &groups);
        attributed.into_iter().map(|it| (it.dimensions, it.values, (it.share * 1e6).round() / 1e6)).collect()
    }

    #[test]
    fn the_dimension_in_which_the_excess_is_concentrated_comes_first() {
        let attributed =
            told(&[(["a", "new", ""], 9.0), (["b", "new", ""], 9.0), (["a", "old", ""], 1.0), (["b", "old", ""], 1.0)]);
        assert_eq!(
            attributed,
            [
                ("segment".to_owned(), "new".to_owned(), 0.9),
                ("domain".to_owned(), "a, b".to_owned(), 1.0),
                ("domain+segment".to_owned(), "a+new, b+new".to_owned(), 0.9),
            ]
        );
    }

    #[test]
    fn a_pair_stands_behind_the_single_dimension_that_says_as_much() {
        let attributed = told(&[(["a", "", "x"], 5.0), (["b", "y", "x"], 0.0), (["a", "y", "x"], 0.0)]);
        let dimensions: Vec<&str> = attributed.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(dimensions, ["domain", "segment", "domain+segment"]);
        assert_eq!(attributed[2].1, "a+(none)");
    }

    #[test]
    fn without_excess_or_siblings_nothing_is_told() {
        assert_eq!(told(&[(["a", "b", "c"], 0.0), (["d", "b", "c"], 0.0)]), []);
        assert_eq!(told(&[(["a", "b", "c"], 3.0)]), []);
    }

    #[test]
    fn the_order_of_values_does_not_matter_for_what_is_named() {
        let of = |values: &str| Attribution {
            dimensions: "d".to_owned(),
            values: values.to_owned(),
            share: 1.0,
            entropy: 0.0,
        };
        assert!(of("a, b").names_the_same(&of("b, a")) && !of("a, b").names_the_same(&of("a")));
    }
}
