//! A writer's schema, judged once against the record that is read.

use serde_avro_fast::Schema;
use serde_avro_fast::schema::{LogicalType, RegularType};

use crate::schema_graph;
use crate::walk::{self, Cost, Walked};
use crate::{Input, Reason, RegisteredSchema, Rejection, SchemaKind, SchemaRef};

/// A schema that a producer wrote with.
#[derive(Debug)]
pub(crate) struct WriterSchema {
    pub(crate) schema: Schema,
    /// Whether its data are laid out as those of the record's own schema.
    pub(crate) is_own: bool,
    /// The first required field that it does not have.
    pub(crate) missing: Option<&'static str>,
    cost: Cost,
}

impl WriterSchema {
    /// Parses a schema.
    ///
    /// # Errors
    /// Where nothing that is written with it can be read as `R`; holds for every record of that schema.
    pub(crate) fn parse<R: Input>(id: SchemaRef, registered: &RegisteredSchema) -> Result<Self, Rejection> {
        let undecodable = |what: String| Rejection::new(Reason::Undecodable, format!("schema {id} {what}"));
        if let SchemaKind::Other(kind) = &registered.kind {
            let kind: String = kind.chars().take(32).collect();
            return Err(undecodable(format!(
                "is of kind {kind:?}; records are read that are written with one of kind AVRO"
            )));
        }
        let schema = schema_graph::parse(&registered.text, &registered.references)
            .map_err(|error| undecodable(format!("cannot be parsed: {error}")))?;
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
        let cost = walk::judge(&schema).map_err(|error| undecodable(format!("cannot be used: {error}")))?;
        let schema = schema.freeze().map_err(|error| undecodable(format!("cannot be used: {error}")))?;
        // Of the canonical form, which leaves out logical types: those that matter are checked above.
        let is_own = schema.rabin_fingerprint() == R::schema().rabin_fingerprint();
        Ok(Self { schema, is_own, missing, cost })
    }

    /// Refuses a datum that holds more values than its bytes pay for.
    #[inline]
    pub(crate) fn check_cost(&self, id: SchemaRef, datum: &[u8]) -> Result<(), Rejection> {
        let Cost::Walked(walk) = &self.cost else { return Ok(()) };
        let bytes = datum.len();
        let message = match walk.walk(datum) {
            Walked::Within(_) => return Ok(()),
            Walked::Beyond => {
                let most = walk::budget(bytes);
                format!(
                    "no datum of schema {id}: its {bytes} bytes hold more than {most} values, most of which take no bytes"
                )
            }
            Walked::Block => {
                format!("no datum of schema {id}: a block of an array or map has another length than it says")
            }
        };
        Err(Rejection::new(Reason::Undecodable, message))
    }
}

/// Microseconds taken for milliseconds would be times in a far future: better no time at all.
fn check_time(id: SchemaRef, field: &str, logical: Option<&LogicalType>) -> Result<(), Rejection> {
    match logical.map(LogicalType::as_str) {
        None | Some("timestamp-millis" | "local-timestamp-millis") => Ok(()),
        Some(other) => Err(Rejection::new(
            Reason::BadValue,
            format!("{field} is a {other} in schema {id}; it must be a timestamp-millis or a plain long"),
        )),
    }
}
