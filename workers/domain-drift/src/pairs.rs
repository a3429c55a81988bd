//! Which domains are compared.

use std::collections::BTreeSet;

/// What stands between the sources of a row.
pub const JOINED_WITH: &str = "+";

/// Sources that are pooled, against a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    /// The domains of one side, at least one.
    pub sources: Vec<String>,
    /// The domain of the other side.
    pub target: String,
}

/// The pairs of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pairs {
    /// Every unordered pair of the window's domains, the lesser name as source; at most so many.
    All {
        /// Of more pairs the first stay, in the order of their names.
        max: usize,
    },
    /// These.
    Listed(Vec<Pair>),
}

impl Pairs {
    /// All domains that are named.
    #[must_use]
    pub fn named(&self) -> BTreeSet<Box<str>> {
        match self {
            Self::All { .. } => BTreeSet::new(),
            Self::Listed(pairs) => {
                let domains = pairs.iter().flat_map(|pair| pair.sources.iter().chain([&pair.target]));
                domains.map(|domain| domain.as_str().into()).collect()
            }
        }
    }
}
