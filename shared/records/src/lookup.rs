//! What a decoder asks for: the writer's schema that a record names.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// How a record names its writer's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SchemaRef {
    /// By the number that the registry gave it.
    Id(i32),
    /// By its globally unique identifier.
    Guid([u8; 16]),
}

impl fmt::Display for SchemaRef {
    /// As the registry's paths have it: `7`, `4cf5c8d1-9fa1-4b2f-bd5a-6a3a9f2f0c11`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Guid(bytes) => {
                for (index, byte) in bytes.iter().enumerate() {
                    let separator = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{separator}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

impl From<i32> for SchemaRef {
    fn from(id: i32) -> Self {
        Self::Id(id)
    }
}

/// The language that a schema is written in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaKind {
    /// Avro, the one that decoders read.
    Avro,
    /// Another one, by the registry's name for it: `JSON`, `PROTOBUF`.
    Other(Arc<str>),
}

impl SchemaKind {
    /// The kind of a registry's `schemaType`, which is absent for Avro.
    #[must_use]
    pub fn of_schema_type(name: Option<&str>) -> Self {
        match name {
            None | Some("AVRO") => Self::Avro,
            Some(other) => Self::Other(other.into()),
        }
    }
}

/// A schema as the registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredSchema {
    /// Its language.
    pub kind: SchemaKind,
    /// Its text.
    pub text: Arc<str>,
    /// The texts of the schemas whose named types it uses, and of those that these use, each once, in any order.
    pub references: Arc<[Arc<str>]>,
}

impl RegisteredSchema {
    /// An Avro schema that refers to no other.
    #[must_use]
    pub fn avro(text: impl Into<Arc<str>>) -> Self {
        Self { kind: SchemaKind::Avro, text: text.into(), references: Arc::default() }
    }
}

/// Why there is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The registry has answered: it knows no such schema. Asked later it may know it.
    #[error("the schema registry knows no schema {schema}: {message}")]
    Unknown {
        /// What was asked for.
        schema: SchemaRef,
        /// What the registry said, or why it was not asked.
        message: String,
    },
    /// The registry has it, and nobody can read it, such as one that refers to itself: no property of the record alone.
    #[error("schema {schema} cannot be used: {message}")]
    Unusable {
        /// What was asked for.
        schema: SchemaRef,
        /// What is wrong with it.
        message: String,
    },
    /// There is no answer yet, or none that says anything about the schema, or it is waited for. Nothing follows for the
    /// record: ask again.
    #[error("no answer about schema {schema}: {message}")]
    Unavailable {
        /// What was asked for.
        schema: SchemaRef,
        /// What was tried, where, and what came back.
        message: String,
    },
    /// The process is stopping; nothing follows for the record.
    #[error("asking about schema {schema} was given up because the process stops")]
    Stopped {
        /// What was asked for.
        schema: SchemaRef,
    },
}

/// Finds writer schemas.
pub trait SchemaLookup: Send {
    /// The schema.
    ///
    /// # Errors
    /// Where it is unknown, or there was no answer.
    fn schema(&self, schema: SchemaRef) -> Result<RegisteredSchema, LookupError>;
}

impl<L: SchemaLookup + Sync + ?Sized> SchemaLookup for Arc<L> {
    fn schema(&self, schema: SchemaRef) -> Result<RegisteredSchema, LookupError> {
        (**self).schema(schema)
    }
}

/// Schemas known in advance: for tests, and for sources without a registry.
#[derive(Debug, Clone, Default)]
pub struct FixedSchemas(HashMap<SchemaRef, RegisteredSchema>);

impl FixedSchemas {
    /// Adds an Avro schema.
    #[must_use]
    pub fn with(self, id: i32, schema: &str) -> Self {
        self.with_registered(SchemaRef::Id(id), RegisteredSchema::avro(schema))
    }

    /// Adds a schema.
    #[must_use]
    pub fn with_registered(mut self, schema: SchemaRef, registered: RegisteredSchema) -> Self {
        self.0.insert(schema, registered);
        self
    }
}

impl SchemaLookup for FixedSchemas {
    fn schema(&self, schema: SchemaRef) -> Result<RegisteredSchema, LookupError> {
        self.0.get(&schema).cloned().ok_or_else(|| {
            let message = "it is none of those known in advance".to_owned();
            LookupError::Unknown { schema, message }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::SchemaRef;

    #[test]
    fn schemas_are_shown_as_the_registry_names_them() {
        assert_eq!(SchemaRef::Id(7).to_string(), "7");
        let guid = [0x4c, 0xf5, 0xc8, 0xd1, 0x9f, 0xa1, 0x4b, 0x2f, 0xbd, 0x5a, 0x6a, 0x3a, 0x9f, 0x2f, 0x0c, 0x11];
        assert_eq!(SchemaRef::Guid(guid).to_string(), "4cf5c8d1-9fa1-4b2f-bd5a-6a3a9f2f0c11");
    }
}
