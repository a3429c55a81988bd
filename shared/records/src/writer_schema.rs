//! A writer's schema, judged once against the record that is read.

use serde_avro_fast::Schema;
use serde_avro_fast::schema::{LogicalType, RegularType, SchemaMut};

use crate::{Input, Reason, Rejection};

/// A schema that a producer wrote with.
#[derive(Debug)]
pub(crate) struct WriterSchema {
    pub(crate) schema: Schema,
    /// Whether its data are laid out as those of the record's own schema.
    pub(crate) is_own: bool,
    /// The first required field that it does not have.
    pub(crate) missing: Option<&'static str>,
}

impl WriterSchema {
    /// Parses a schema.
    ///
    /// # Errors
    /// Where nothing that is written with it can be read as `R`; holds for every record of that schema.
    pub(crate) fn parse<R: Input>(id: i32, text: &str) -> Result<Self, Rejection> {
        let undecodable = |what: String| Rejection::new(Reason::Undecodable, format!("schema {id} {what}"));
        let schema: SchemaMut = text.parse().map_err(|error| undecodable(format!("cannot be parsed: {error}")))?;
        let RegularType::Record(record) = &schema.root().type_ else {
            return Err(undecodable("is no record".to_owned()));
        };
        for field in record.fields.iter().filter(|field| R::TIMES.contains(&field.name.as_str())) {
            let variants = match &schema[field.type_].type_ {
                RegularType::Union(union) => union.variants.as_slice(),
                _ => std::slice::from_ref(&field.type_),
            };
            for variant in variants {
                check_time(id, &field.name, schema[*variant].logical_type.as_ref())?;
            }
        }
        let missing = R::REQUIRED.iter().copied().find(|name| !record.fields.iter().any(|field| field.name == **name));
        let schema = schema.freeze().map_err(|error| undecodable(format!("cannot be used: {error}")))?;
        // Of the canonical form, which leaves out logical types: those that matter are checked above.
        let is_own = schema.rabin_fingerprint() == R::schema().rabin_fingerprint();
        Ok(Self { schema, is_own, missing })
    }
}

/// Microseconds taken for milliseconds would be times in a far future: better no time at all.
fn check_time(id: i32, field: &str, logical: Option<&LogicalType>) -> Result<(), Rejection> {
    match logical.map(LogicalType::as_str) {
        None | Some("timestamp-millis" | "local-timestamp-millis") => Ok(()),
        Some(other) => Err(Rejection::new(
            Reason::BadValue,
            format!("{field} is a {other} in schema {id}; it must be a timestamp-millis or a plain long"),
        )),
    }
}
