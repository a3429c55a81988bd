//! What a decoder asks for: the writer's schema of an id.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Why there is no schema for an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The registry has answered: it knows no such id. Asked later it may know it.
    #[error("the schema registry knows no schema {id}")]
    Unknown {
        /// The id.
        id: i32,
    },
    /// There was no answer, or none that says anything about the id. Nothing follows for the record: ask again.
    #[error("no answer about schema {id}: {message}")]
    Unavailable {
        /// The id.
        id: i32,
        /// What was tried, where, and what came back.
        message: String,
    },
    /// The process is stopping; nothing follows for the record.
    #[error("asking about schema {id} was given up because the process stops")]
    Stopped {
        /// The id.
        id: i32,
    },
}

/// Finds writer schemas by id.
pub trait SchemaLookup: Send {
    /// The schema's text.
    ///
    /// # Errors
    /// Where the id is unknown, or there was no answer.
    fn schema(&self, id: i32) -> Result<Arc<str>, LookupError>;
}

impl<L: SchemaLookup + Sync + ?Sized> SchemaLookup for Arc<L> {
    fn schema(&self, id: i32) -> Result<Arc<str>, LookupError> {
        (**self).schema(id)
    }
}

/// Schemas known in advance: for tests, and for sources without a registry.
#[derive(Debug, Clone, Default)]
pub struct FixedSchemas(BTreeMap<i32, Arc<str>>);

impl FixedSchemas {
    /// Adds a schema.
    #[must_use]
    pub fn with(mut self, id: i32, schema: &str) -> Self {
        self.0.insert(id, schema.into());
        self
    }
}

impl SchemaLookup for FixedSchemas {
    fn schema(&self, id: i32) -> Result<Arc<str>, LookupError> {
        self.0.get(&id).cloned().ok_or(LookupError::Unknown { id })
    }
}
