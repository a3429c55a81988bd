//! The topics of interactions and of items' vectors as the folds' sources.

use grouping::Dimension;
use records::names::{bounded, with_bounded_names};
use records::{
    DecodeError, Decoder, EmbeddingUpdated, EntityKind, Interaction, Reason, Rejection, Text, check_event_time,
};
use streaming::headers::Headers;
use streaming::operator::{Record, Source, SourceError, Timed};

use crate::event::{ClickEvent, ItemEvent, NewVersion};

fn source_error(error: DecodeError) -> SourceError {
    match error {
        DecodeError::Rejected(rejection) => SourceError::Rejected(rejection),
        DecodeError::NoAnswer(error) => SourceError::NotNow(error.to_string()),
    }
}

/// Decodes interactions.
pub struct Interactions(pub Decoder<Interaction<'static>>);

impl Source for Interactions {
    type Event<'a> = Click<'a>;

    fn decode<'a>(&mut self, record: &Record<'a>) -> Result<Click<'a>, SourceError> {
        let interaction = self.0.decode_with_headers(record.key, record.value, record.headers).map_err(source_error)?;
        Ok(Click(with_bounded_names(interaction, record.value), record.headers))
    }
}

/// An interaction as the fold sees it.
pub struct Click<'a>(Interaction<'a>, &'a dyn Headers);

impl Timed for Click<'_> {
    fn event_time(&self) -> i64 {
        self.0.event_time
    }
}

impl ClickEvent for Click<'_> {
    fn session_id(&self) -> &str {
        &self.0.session_id
    }

    fn event_id(&self) -> &str {
        &self.0.event_id
    }

    fn item_id(&self) -> &str {
        &self.0.item_id
    }

    fn dimension(&self, dimension: Dimension) -> &str {
        dimension.of(&self.0)
    }

    fn traceparent(&self) -> Option<&str> {
        grouping::traceparent(self.1)
    }
}

/// Decodes the vectors of items. The decoder must know the vectors' length.
pub struct ItemEmbeddings(pub Decoder<EmbeddingUpdated<'static>>);

impl Source for ItemEmbeddings {
    type Event<'a> = ItemChange<'a>;

    fn decode<'a>(&mut self, record: &Record<'a>) -> Result<ItemChange<'a>, SourceError> {
        if record.value.is_none() {
            // the name that its versions have
            let item_id = bounded(self.0.deleted_entity(record.key, record.headers)?);
            return Ok(deletion(item_id, record.timestamp)?);
        }
        let embedding = self.0.decode_with_headers(record.key, record.value, record.headers).map_err(source_error)?;
        match embedding.entity {
            EntityKind::Item => Ok(ItemChange::Version(with_bounded_names(embedding, record.value), record.headers)),
            EntityKind::User => {
                Err(Rejection::new(Reason::BadValue, "entity is USER: this topic holds the vectors of items").into())
            }
        }
    }
}

/// What a tombstone says: its key's item is gone from its Kafka timestamp on, which is the event time here.
fn deletion(item_id: Text<'_>, timestamp: Option<i64>) -> Result<ItemChange<'_>, Rejection> {
    let Some(time) = timestamp else {
        let message = "there is no value, and the record has no Kafka timestamp to delete the item from";
        return Err(Rejection::new(Reason::MissingField, message));
    };
    Ok(ItemChange::Deleted { item_id, time: check_event_time("the Kafka timestamp of a deletion", time)? })
}

/// An item's new version or its end, as the fold sees it.
pub enum ItemChange<'a> {
    /// It has a new vector; with the headers of its record.
    Version(EmbeddingUpdated<'a>, &'a dyn Headers),
    /// It is gone from its tombstone's Kafka timestamp on.
    Deleted {
        /// The item.
        item_id: Text<'a>,
        /// Epoch ms.
        time: i64,
    },
}

impl Timed for ItemChange<'_> {
    fn event_time(&self) -> i64 {
        match self {
            Self::Version(embedding, _) => embedding.event_time,
            Self::Deleted { time, .. } => *time,
        }
    }
}

impl ItemEvent for ItemChange<'_> {
    fn item_id(&self) -> &str {
        match self {
            Self::Version(embedding, _) => &embedding.entity_id,
            Self::Deleted { item_id, .. } => item_id,
        }
    }

    fn event_id(&self) -> &str {
        match self {
            Self::Version(embedding, _) => &embedding.event_id,
            Self::Deleted { .. } => "",
        }
    }

    fn version(&self) -> Option<NewVersion<'_>> {
        match self {
            Self::Version(embedding, _) => Some(NewVersion {
                domain: &embedding.domain,
                model_version: &embedding.model_version,
                vector: &embedding.vector,
            }),
            Self::Deleted { .. } => None,
        }
    }

    fn traceparent(&self) -> Option<&str> {
        match self {
            Self::Version(_, headers) => grouping::traceparent(*headers),
            Self::Deleted { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use records::{DecoderConfig, FixedSchemas, Format};
    use streaming::headers;

    use super::*;

    fn source() -> ItemEmbeddings {
        let config = DecoderConfig { format: Format::Json, vector_length: Some(2), ..DecoderConfig::default() };
        ItemEmbeddings(Decoder::new(config, Box::new(FixedSchemas::default())))
    }

    fn decode(entity: &str, vector: &str) -> Result<Vec<f32>, String> {
        let value = format!(
            r#"{{"event_id":"e","entity":"{entity}","entity_id":"i","domain":"d","model_version":"m",
                "vector":{vector},"event_time":7}}"#
        );
        let record = Record {
            key: Some(b"i"),
            value: Some(value.as_bytes()),
            timestamp: None,
            offset: 0,
            headers: headers::NONE,
        };
        let event = source().decode(&record).map_err(|error| error.to_string())?;
        assert_eq!((event.item_id(), event.event_id(), event.event_time()), ("i", "e", 7));
        Ok(event.version().unwrap().vector.to_vec())
    }

    #[test]
    fn vectors_that_have_no_direction_or_another_length_are_bad_input_and_users_are_none_of_ours() {
        assert_eq!(decode("ITEM", "[1, -2.5]").unwrap(), [1.0, -2.5]);
        for vector in ["[1]", "[1, 2, 3]", "[0, 0]", "[1e39, 0]", "[]", "null", r#"["1", 2]"#] {
            assert!(decode("ITEM", vector).unwrap_err().starts_with("bad_vector"), "{vector}");
        }
        assert!(decode("USER", "[1, 2]").unwrap_err().starts_with("bad_value"));
    }

    #[test]
    fn a_tombstone_of_a_long_key_deletes_what_its_versions_are_called() {
        let long = "i".repeat(100_000);
        let value = format!(
            r#"{{"event_id":"e","entity":"ITEM","entity_id":"{long}","domain":"d","model_version":"m","vector":[1, 2],
                "event_time":7}}"#
        );
        let name = |value: Option<&[u8]>| {
            let key = Some(long.as_bytes());
            let record = Record { key, value, timestamp: Some(70), offset: 0, headers: headers::NONE };
            source().decode(&record).unwrap().item_id().to_owned()
        };
        assert_eq!(name(None), name(Some(value.as_bytes())));
        assert!(name(None).len() <= records::names::MAX_NAME_BYTES);
    }

    #[test]
    fn a_tombstone_deletes_its_keys_item() {
        let delete = |key: Option<&[u8]>, timestamp| {
            let record = Record { key, value: None, timestamp, offset: 0, headers: headers::NONE };
            let event = source().decode(&record).map_err(|error| error.to_string())?;
            assert!(event.version().is_none());
            Ok::<_, String>((event.item_id().to_owned(), event.event_time()))
        };
        assert_eq!(delete(Some(b"i"), Some(70)), Ok(("i".to_owned(), 70)));
        assert!(delete(None, Some(70)).unwrap_err().starts_with("bad_key"));
        assert!(delete(Some(b""), Some(70)).unwrap_err().starts_with("empty_key"));
        assert!(delete(Some(b"\xff"), Some(70)).unwrap_err().starts_with("bad_key"));
        assert!(delete(Some(b"i"), None).unwrap_err().starts_with("missing_field"), "a deletion from when on?");
        assert!(delete(Some(b"i"), Some(10_413_792_000_000)).unwrap_err().starts_with("bad_value"));
        assert_eq!(delete(Some(b"\"i\""), Some(70)), Ok(("i".to_owned(), 70)), "as JSON");
        let avro = b"\0\0\0\0\x07\x02i";
        assert_eq!(delete(Some(avro), Some(70)), Ok(("i".to_owned(), 70)), "as an Avro string of schema 7");
    }
}
