//! What rules can watch: the fields of a worker's rows.

/// A group: the values of a row's dimensions, in their order; empty where absent.
pub type Group = Box<[Box<str>]>;

/// A kind of row that a merge emits.
#[derive(Debug, Clone, PartialEq)]
pub struct RowKind {
    /// Its name, that of the rows' table.
    pub name: &'static str,
    /// Names of the dimensions that make a group.
    pub dimensions: Vec<&'static str>,
    /// The values of those dimensions that have no others.
    pub known_values: Vec<(&'static str, &'static [&'static str])>,
    /// What rules can watch and require.
    pub metrics: Vec<Metric>,
    /// Index of the metric by which the means of groups weigh in an attribution: a count of samples.
    pub weight: usize,
    /// Length of its windows, ms.
    pub window: i64,
    /// Distance between the ends of two windows, ms.
    pub slide: i64,
}

impl RowKind {
    /// The index of a metric.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<usize> {
        self.metrics.iter().position(|metric| metric.name == name)
    }

    /// The index of a dimension.
    #[must_use]
    pub fn dimension(&self, name: &str) -> Option<usize> {
        self.dimensions.iter().position(|dimension| *dimension == name)
    }
}

/// A numeric field of a row; flags are 0 or 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metric {
    /// The field's name.
    pub name: &'static str,
    /// The least that it can be.
    pub low: f64,
    /// The most that it can be.
    pub high: f64,
    /// Whether it says on how many samples the row rests.
    pub samples: bool,
    /// Whether groups' numbers add up to that of all of them, as counts do; means over samples do not.
    pub adds_up: bool,
}

impl Metric {
    /// A number from `low` to `high`.
    #[must_use]
    pub fn of(name: &'static str, low: f64, high: f64) -> Self {
        Self { name, low, high, samples: false, adds_up: false }
    }

    /// A share or the like, from 0 to 1.
    #[must_use]
    pub fn share(name: &'static str) -> Self {
        Self::of(name, 0.0, 1.0)
    }

    /// A flag: 0 or 1.
    #[must_use]
    pub fn flag(name: &'static str) -> Self {
        Self::of(name, 0.0, 1.0)
    }

    /// A count of what is none of the samples.
    #[must_use]
    pub fn count(name: &'static str) -> Self {
        Self { adds_up: true, ..Self::of(name, 0.0, f64::INFINITY) }
    }

    /// A count of samples.
    #[must_use]
    pub fn samples(name: &'static str) -> Self {
        Self { samples: true, ..Self::count(name) }
    }
}

/// A row of a closed window, as rules see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Whose it is.
    pub group: Group,
    /// The metrics in the order of the catalogue; `None` where the row has no such number.
    pub values: Vec<Option<f64>>,
    /// The W3C trace context of an event that stands for it.
    pub traceparent: Option<Box<str>>,
}
