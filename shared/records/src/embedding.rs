//! `EmbeddingUpdated`: an item or a user has a new vector.

use serde::{Deserialize, Serialize};

use crate::datum::Datum;
use crate::field::{Input, Limits, LongField, SymbolField, Symbolic, TextField, VectorField, check_entity};
use crate::{EVENT_TIMES, Rejection, Text};

/// Whose vector it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum EntityKind {
    /// An item's.
    Item,
    /// A user's.
    User,
}

impl Symbolic for EntityKind {
    const SYMBOLS: &'static [(&'static str, Self)] = &[("ITEM", Self::Item), ("USER", Self::User)];
}

/// An item or a user has a new vector (`schemas/EmbeddingUpdated.avsc`). Key: `entity_id`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingUpdated<'a> {
    /// Unique; orders versions of one time, as text.
    #[serde(borrow)]
    pub event_id: Text<'a>,
    /// Whose vector.
    pub entity: EntityKind,
    /// The item or user; never empty in a checked record.
    #[serde(borrow)]
    pub entity_id: Text<'a>,
    /// The domain that the vector belongs to.
    #[serde(borrow)]
    pub domain: Text<'a>,
    /// The model that made the vector.
    #[serde(borrow)]
    pub model_version: Text<'a>,
    /// Finite and not all zero in a checked record.
    pub vector: Vec<f32>,
    /// From when on the vector holds, epoch ms; one of [`EVENT_TIMES`] in a checked record.
    pub event_time: i64,
}

/// An update as the bytes have it, before it is checked.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[doc(hidden)]
pub struct RawEmbedding<'a> {
    #[serde(borrow)]
    event_id: TextField<'a>,
    entity: SymbolField<EntityKind>,
    #[serde(borrow)]
    entity_id: TextField<'a>,
    #[serde(borrow)]
    domain: TextField<'a>,
    #[serde(borrow)]
    model_version: TextField<'a>,
    vector: VectorField,
    event_time: LongField,
}

impl Input for EmbeddingUpdated<'static> {
    type Raw<'a> = RawEmbedding<'a>;

    const REQUIRED: &'static [&'static str] =
        &["event_id", "entity", "entity_id", "domain", "model_version", "vector", "event_time"];

    const TIMES: &'static [&'static str] = &["event_time"];

    const ENTITY: Option<&'static str> = Some("entity_id");

    fn check<'a>(raw: Self::Raw<'a>, limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        // missing_field, empty_key, bad_key, bad_value, bad_vector, in this order
        let entity_id = raw.entity_id.required("entity_id")?;
        let event_id = raw.event_id.required("event_id")?;
        let entity = raw.entity.required("entity")?;
        let domain = raw.domain.required("domain")?;
        let model_version = raw.model_version.required("model_version")?;
        let event_time = raw.event_time.required("event_time")?;
        check_entity::<Self>(&entity_id, limits)?;
        Ok(EmbeddingUpdated {
            event_time: event_time.time("event_time")?,
            entity: entity.known("entity")?,
            vector: raw.vector.checked("vector", limits.vector_length)?,
            event_id,
            entity_id,
            domain,
            model_version,
        })
    }

    fn read_own<'a>(datum: &'a [u8], limits: &Limits<'_>) -> Option<Self::Of<'a>> {
        let mut datum = Datum::new(datum);
        // evaluated in this order, the schema's
        let record = EmbeddingUpdated {
            event_id: datum.text()?,
            entity: EntityKind::SYMBOLS.get(datum.index()?)?.1,
            entity_id: datum.text()?,
            domain: datum.text()?,
            model_version: datum.text()?,
            vector: datum.floats()?,
            event_time: datum.long()?,
        };
        let vector = &record.vector;
        let is_good = datum.is_empty()
            && EVENT_TIMES.contains(&record.event_time)
            && limits.vector_length.is_none_or(|length| length == vector.len())
            && vector.iter().all(|number| number.is_finite())
            && vector.iter().any(|number| *number != 0.0)
            && limits.key_is(&record.entity_id);
        is_good.then_some(record)
    }
}
