//! What tests need to see of a decoder's bounds, and nobody else.
#![doc(hidden)]

use serde_avro_fast::Schema;

use crate::schema_graph;
use crate::walk::{self, Cost, Walk, Walked};

/// A schema that was judged.
pub struct Judged {
    schema: Schema,
    is_linear: bool,
    walk: Walk,
}

impl Judged {
    /// Parses and judges a schema as a decoder does.
    ///
    /// # Errors
    /// Why all of its records are refused.
    pub fn parse(text: &str, references: &[&str]) -> Result<Self, String> {
        let graph = schema_graph::parse(text, references)?;
        let cost = walk::judge(&graph)?;
        let walk = Walk::new(&graph);
        let schema = graph.freeze().map_err(|error| error.to_string())?;
        Ok(Self { schema, is_linear: matches!(cost, Cost::Linear), walk })
    }

    /// Whether data are decoded without being walked before.
    #[must_use]
    pub fn is_linear(&self) -> bool {
        self.is_linear
    }

    /// The values that a walk over a datum visits; `None` where the datum is refused.
    #[must_use]
    pub fn visits(&self, datum: &[u8]) -> Option<usize> {
        match self.walk.walk(datum) {
            Walked::Within(visits) => Some(visits),
            Walked::Beyond | Walked::Block => None,
        }
    }

    /// What data are decoded with.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }
}

/// The values that decoding so many bytes may visit.
#[must_use]
pub fn budget(bytes: usize) -> usize {
    walk::budget(bytes)
}

/// The depth to which data are decoded.
pub const MAX_DEPTH: usize = walk::MAX_DEPTH;
