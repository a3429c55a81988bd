//! A line of a recording as the key and value of a Kafka record.

use std::borrow::Cow;
use std::collections::BTreeMap;

use anyhow::Result;
use records::{EmbeddingUpdated, Encoder, Interaction};
use serde::Deserialize;
use serde_json::Value;

use crate::recording::{Content, Origin};

/// The ids under which the registry knows the schemas of the contents that are published.
pub type SchemaIds = BTreeMap<Content, i32>;

/// Encodes lines, reusing its buffers.
pub struct LineEncoder {
    interactions: Encoder<Interaction<'static>>,
    item_embeddings: Encoder<EmbeddingUpdated<'static>>,
    user_embeddings: Encoder<EmbeddingUpdated<'static>>,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// What is published for a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Encoded<'a> {
    /// The record's key.
    pub key: &'a [u8],
    /// The record's value.
    pub value: &'a [u8],
    /// The W3C trace context that the line has, for a header.
    pub traceparent: Option<Cow<'a, str>>,
    /// The line could not be encoded: the value is the line itself.
    pub raw: bool,
}

impl LineEncoder {
    /// An encoder; contents without an id are encoded under id 0.
    #[must_use]
    pub fn new(ids: SchemaIds) -> Self {
        let id = |content| ids.get(&content).copied().unwrap_or(0);
        Self {
            interactions: Encoder::new(id(Content::Interactions)),
            item_embeddings: Encoder::new(id(Content::ItemEmbeddings)),
            user_embeddings: Encoder::new(id(Content::UserEmbeddings)),
            key: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Encodes a line as its content's schema asks; one that cannot be is left as it is, under the key that its JSON has,
    /// else `line-<number>`.
    ///
    /// # Errors
    /// Never for what a line holds.
    pub fn encode<'a>(&'a mut self, origin: Origin, line: &'a [u8]) -> Result<Encoded<'a>> {
        self.key.clear();
        self.value.clear();
        let fits = match origin.content {
            Content::Interactions => self.encode_interaction(line),
            Content::ItemEmbeddings | Content::UserEmbeddings => self.encode_embedding(origin.content, line),
        };
        if fits {
            return Ok(Encoded { key: &self.key, value: &self.value, traceparent: traceparent(line), raw: false });
        }
        self.key = match json_object(line).and_then(|mut object| object.remove(origin.content.key_field())) {
            Some(Value::String(key)) => key.into_bytes(),
            _ => format!("line-{}", origin.number).into_bytes(),
        };
        Ok(Encoded { key: &self.key, value: line, traceparent: None, raw: true })
    }

    fn encode_interaction(&mut self, line: &[u8]) -> bool {
        let mut encode = |interaction: &Interaction<'_>| {
            self.key.extend_from_slice(interaction.session_id.as_bytes());
            self.interactions.encode(interaction, &mut self.value).is_ok()
        };
        match parse::<Interaction<'_>>(line) {
            Some(interaction) => encode(&interaction),
            None => json_object(line).map(Value::Object).is_some_and(|repeated| {
                Interaction::deserialize(&repeated).is_ok_and(|interaction| encode(&interaction))
            }),
        }
    }

    fn encode_embedding(&mut self, content: Content, line: &[u8]) -> bool {
        let encoder =
            if content == Content::ItemEmbeddings { &mut self.item_embeddings } else { &mut self.user_embeddings };
        let mut encode = |update: &EmbeddingUpdated<'_>| {
            self.key.extend_from_slice(update.entity_id.as_bytes());
            encoder.encode(update, &mut self.value).is_ok()
        };
        match parse::<EmbeddingUpdated<'_>>(line) {
            Some(update) => encode(&update),
            None => json_object(line)
                .map(Value::Object)
                .is_some_and(|repeated| EmbeddingUpdated::deserialize(&repeated).is_ok_and(|update| encode(&update))),
        }
    }
}

/// A line's field of that name.
fn traceparent(line: &[u8]) -> Option<Cow<'_, str>> {
    const NAME: &[u8] = b"\"traceparent\"";
    #[derive(Deserialize)]
    struct Traced<'a> {
        #[serde(borrow)]
        traceparent: Option<Cow<'a, str>>,
    }
    // few recordings have it: parsing every line twice would be dear
    let has_it = line.windows(NAME.len()).any(|part| part == NAME);
    if has_it { serde_json::from_slice::<Traced<'_>>(line).ok()?.traceparent } else { None }
}

/// Reads a JSON object, borrowing. A list is not taken for the fields in their order, as serde would.
fn parse<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Option<T> {
    let object = line.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if object { serde_json::from_slice(line).ok() } else { None }
}

/// Reads a JSON object in which fields may be repeated, of which the last counts, as JSON readers commonly have it.
fn json_object(line: &[u8]) -> Option<serde_json::Map<String, Value>> {
    match serde_json::from_slice(line) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLICK: &str = r#"{"event_id":"e","session_id":"sessión","user_id":"u","item_id":"i","kind":"CLICK","domain":"d","event_time":1396649029950,"more":1}"#;

    fn encode(content: Content, line: &str) -> (Vec<u8>, Vec<u8>, bool) {
        let mut encoder = LineEncoder::new([(Content::Interactions, 7), (Content::ItemEmbeddings, 8)].into());
        let encoded = encoder.encode(Origin { content, number: 12 }, line.as_bytes()).unwrap();
        (encoded.key.to_vec(), encoded.value.to_vec(), encoded.raw)
    }

    /// The value as another Avro library reads it.
    fn decode(value: &[u8], id: u8, schema: &str) -> Value {
        assert_eq!(value[..5], [0, 0, 0, 0, id]);
        let schema = apache_avro::Schema::parse_str(schema).unwrap();
        let value = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
            .build()
            .unwrap()
            .read_value(&mut &value[5..]);
        value.unwrap().try_into().unwrap()
    }

    #[test]
    fn a_good_line_is_avro_under_its_session_whatever_else_it_has() {
        let (key, value, raw) = encode(Content::Interactions, CLICK);
        assert!(!raw);
        assert_eq!(key, "sessión".as_bytes());
        let read = decode(&value, 7, <Interaction<'static> as records::AvroRecord>::SCHEMA);
        assert_eq!(read["session_id"], "sessión");
        assert_eq!(read["kind"], "CLICK");
        assert_eq!(read["surface"], Value::Null);
        assert_eq!(read["event_time"], 1_396_649_029_950_i64);
    }

    #[test]
    fn a_trace_context_travels_in_a_header() {
        let traced = CLICK.replace("\"more\":1", "\"traceparent\":\"00-1-2-01\"");
        let mut encoder = LineEncoder::new(SchemaIds::new());
        let mut header = |line: &str| {
            let origin = Origin { content: Content::Interactions, number: 1 };
            encoder.encode(origin, line.as_bytes()).unwrap().traceparent.map(Cow::into_owned)
        };
        assert_eq!(header(&traced).as_deref(), Some("00-1-2-01"));
        assert_eq!(header(CLICK), None);
        assert_eq!(header(&traced.replace("\"00-1-2-01\"", "null")), None);
    }

    #[test]
    fn of_a_repeated_field_the_last_counts() {
        let (key, _, raw) = encode(Content::Interactions, &CLICK.replace("\"more\":1", "\"session_id\":\"other\""));
        assert_eq!((key.as_slice(), raw), (b"other".as_slice(), false));
    }

    #[test]
    fn values_that_only_a_worker_can_judge_are_encoded() {
        for (field, value) in [("\"sessión\"", "\"\""), ("1396649029950", "-5"), ("1396649029950", "99999999999999")] {
            assert!(!encode(Content::Interactions, &CLICK.replace(field, value)).2, "{value}");
        }
    }

    #[test]
    fn a_line_that_does_not_fit_is_published_as_it_is_under_its_own_key() {
        for (field, value) in [
            ("\"CLICK\"", "\"VIEW\""),
            ("1396649029950", "1.5"),
            ("1396649029950", "null"),
            ("\"event_id\":\"e\",", ""),
            ("\"domain\":\"d\"", "\"domain\":7"),
            ("\"more\":1", "\"position\":99999999999"),
        ] {
            let line = CLICK.replace(field, value);
            assert_eq!(encode(Content::Interactions, &line), ("sessión".into(), line.into_bytes(), true));
        }
    }

    #[test]
    fn a_line_without_a_key_is_published_under_its_number() {
        for line in ["", "{", "[1]", "null", r#"{"session_id":5}"#, r#"["e",null,"s","u","i","CLICK","d"]"#, "{} {}"] {
            assert_eq!(encode(Content::Interactions, line), (b"line-12".to_vec(), line.into(), true));
        }
    }

    #[test]
    fn a_vector_is_avro_under_its_entity() {
        let line = r#"{"event_id":"e","entity":"ITEM","entity_id":"9","domain":"d","model_version":"m","vector":[1,-0.5],"event_time":1}"#;
        let (key, value, raw) = encode(Content::ItemEmbeddings, line);
        assert_eq!((key.as_slice(), raw), (b"9".as_slice(), false));
        let read = decode(&value, 8, <EmbeddingUpdated<'static> as records::AvroRecord>::SCHEMA);
        assert_eq!(read["vector"], serde_json::json!([1.0, -0.5]));
        let broken = line.replace("[1,-0.5]", "\"none\"");
        assert_eq!(encode(Content::ItemEmbeddings, &broken), (b"9".to_vec(), broken.into_bytes(), true));
    }
}
