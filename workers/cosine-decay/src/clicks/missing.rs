//! Pairs without a vector, counted for `/metrics`.

use std::collections::BTreeMap;

use grouping::OTHER;
use streaming::operator::Figure;

/// So many domains are told apart; the others count together.
const DOMAINS: usize = 64;

/// Counts by domain.
#[derive(Debug, Default)]
pub(crate) struct Missing(BTreeMap<Box<str>, u64>);

impl Missing {
    pub(crate) fn add(&mut self, domain: &str, count: u64) {
        let is_told_apart = self.0.contains_key(domain) || self.0.len() < DOMAINS;
        *self.0.entry(if is_told_apart { domain } else { OTHER }.into()).or_default() += count;
    }

    pub(crate) fn figures(&self) -> Vec<Figure<'_>> {
        self.0.iter().map(|(domain, count)| Figure { name: "missing_vectors", of: domain, value: *count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_domains_are_told_apart() {
        let mut missing = Missing::default();
        for domain in 0..100 {
            missing.add(&format!("{domain:02}"), 2);
        }
        missing.add("07", 3);
        let figures: Vec<(&str, u64)> = missing.figures().iter().map(|figure| (figure.of, figure.value)).collect();
        assert_eq!((figures.len(), figures[7], figures[64]), (65, ("07", 5), (OTHER, 72)));
        assert!(missing.figures().iter().all(|figure| figure.name == "missing_vectors"));
    }
}
