//! How many domains are told apart.

use std::collections::BTreeSet;

/// The name in rows of all domains that are too many, together.
pub const OTHER: &str = "__other__";

/// The group of what folds have merged away: no domain's name, since no text contains this byte.
pub const MERGED: &[u8] = &[0xfe];

/// Which domains stay: those that configured pairs name, and of the others the smallest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// How many domains stay besides those that are named.
    pub max_domains: usize,
    /// The domains that configured pairs name.
    pub named: BTreeSet<Box<str>>,
}

impl Limit {
    /// Says of domains, asked in the order of their names, whether they stay.
    pub fn judge(&self) -> impl FnMut(&str) -> bool {
        let mut room = self.max_domains;
        move |domain| {
            if self.named.contains(domain) {
                return true;
            }
            let stays = room > 0;
            room -= usize::from(stays);
            stays
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_domains_stay_and_of_the_others_the_smallest() {
        let limit = Limit { max_domains: 2, named: BTreeSet::from(["b".into(), "z".into()]) };
        let staying = ["a", "b", "c", "d", "z"].map(limit.judge());
        assert_eq!(staying, [true, true, true, false, true]);
    }
}
