//! The user-embedding topic as the fold's source.

use records::names::with_bounded_names;
use records::{DecodeError, Decoder, EmbeddingUpdated, EntityKind, Reason, Rejection};
use streaming::headers::Headers;
use streaming::operator::{Record, Source, SourceError, Timed};

use crate::event::VectorEvent;

/// Decodes the vectors of users. The decoder must know the vectors' length.
pub struct UserEmbeddings(pub Decoder<EmbeddingUpdated<'static>>);

impl Source for UserEmbeddings {
    type Event<'a> = UserVector<'a>;

    fn decode<'a>(&mut self, record: &Record<'a>) -> Result<UserVector<'a>, SourceError> {
        match self.0.decode_with_headers(record.key, record.value, record.headers) {
            Ok(embedding) if embedding.entity == EntityKind::Item => {
                Err(Rejection::new(Reason::BadValue, "entity is ITEM: this topic holds the vectors of users").into())
            }
            Ok(embedding) => Ok(UserVector(with_bounded_names(embedding, record.value), record.headers)),
            Err(DecodeError::Rejected(rejection)) => Err(SourceError::Rejected(rejection)),
            Err(DecodeError::NoAnswer(error)) => Err(SourceError::NotNow(error.to_string())),
        }
    }
}

/// A user's vector as the fold sees it.
pub struct UserVector<'a>(EmbeddingUpdated<'a>, &'a dyn Headers);

impl Timed for UserVector<'_> {
    fn event_time(&self) -> i64 {
        self.0.event_time
    }
}

impl VectorEvent for UserVector<'_> {
    fn user_id(&self) -> &str {
        &self.0.entity_id
    }

    fn domain(&self) -> &str {
        &self.0.domain
    }

    fn event_id(&self) -> &str {
        &self.0.event_id
    }

    fn vector(&self) -> &[f32] {
        &self.0.vector
    }

    fn traceparent(&self) -> Option<&str> {
        grouping::traceparent(self.1)
    }
}

#[cfg(test)]
mod tests {
    use records::{DecoderConfig, FixedSchemas, Format};
    use streaming::headers;

    use super::*;

    fn decode(entity: &str, vector: &str) -> Result<Vec<f32>, String> {
        let config = DecoderConfig { format: Format::Json, vector_length: Some(2), ..DecoderConfig::default() };
        let mut source = UserEmbeddings(Decoder::new(config, Box::new(FixedSchemas::default())));
        let value = format!(
            r#"{{"event_id":"e","entity":"{entity}","entity_id":"u","domain":"d","model_version":"m",
                "vector":{vector},"event_time":7}}"#
        );
        let record = Record {
            key: Some(b"u"),
            value: Some(value.as_bytes()),
            timestamp: None,
            offset: 0,
            headers: headers::NONE,
        };
        match source.decode(&record) {
            Ok(event) => Ok(event.vector().to_vec()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn vectors_that_have_no_direction_or_another_length_are_bad_input_and_items_are_none_of_ours() {
        assert_eq!(decode("USER", "[1, -2.5]").unwrap(), [1.0, -2.5]);
        for vector in ["[1]", "[1, 2, 3]", "[0, 0]", "[1e39, 0]", "[]", "null", r#"["1", 2]"#] {
            assert!(decode("USER", vector).unwrap_err().starts_with("bad_vector"), "{vector}");
        }
        assert!(decode("ITEM", "[1, 2]").unwrap_err().starts_with("bad_value"));
    }
}
