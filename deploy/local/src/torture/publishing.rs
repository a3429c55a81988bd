//! Publishing at a pace, with hostile records between the good ones, and some of the good ones in a foreign form.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use records::{AvroRecord, EmbeddingUpdated, Interaction};
use serde_json::{Value, json};

use super::hostile::{self, Ids, Planned};
use super::scenario::Scenario;
use crate::http;
use crate::publish::{LineEncoder, Publisher, RawRecord, SchemaIds};
use crate::recording::{Content, Origin};

/// Of so many good records one is written under a foreign schema.
const FOREIGN_EVERY: u64 = 7;

/// Our schema with more fields.
fn with_fields(content: Content, more: impl IntoIterator<Item = Value>) -> Result<String> {
    let ours = match content {
        Content::Interactions => Interaction::SCHEMA,
        Content::ItemEmbeddings | Content::UserEmbeddings => EmbeddingUpdated::SCHEMA,
    };
    let mut schema: Value = serde_json::from_str(ours)?;
    let fields = schema["fields"].as_array_mut().context("a record's schema has no fields")?;
    fields.extend(more);
    Ok(schema.to_string())
}

/// Schemas of other teams: ours with fields more.
fn foreign_schema(content: Content) -> Result<String> {
    let note = json!({"name": "note", "type": "string", "default": ""});
    let scores = json!({"name": "scores", "type": ["null", {"type": "array", "items": "long"}], "default": null});
    with_fields(content, [note, scores])
}

/// What stands behind our fields then: a note, and three scores.
const FOREIGN_FIELDS: &[u8] = b"\x08note\x02\x06\x02\x04\x06\x00";

/// Registers the foreign schemas.
///
/// # Errors
/// The registry refuses one, or does not answer.
pub(super) fn register_foreign(registry: &str) -> Result<SchemaIds> {
    register(registry, "foreign", foreign_schema)
}

/// Registers the schemas whose values would never end.
///
/// # Errors
/// The registry refuses one, or does not answer.
pub(super) fn register_bombs(registry: &str) -> Result<SchemaIds> {
    register(registry, "bomb", |content| with_fields(content, [json!({"name": "bomb", "type": hostile::bomb()})]))
}

fn register(registry: &str, what: &str, schema: impl Fn(Content) -> Result<String>) -> Result<SchemaIds> {
    let mut ids = SchemaIds::new();
    for content in Content::ALL {
        let url = format!("{registry}/subjects/{what}-{}/versions", content.name());
        let body = json!({ "schema": schema(content)? }).to_string();
        let answer = http::post(&url, "application/vnd.schemaregistry.v1+json", body, Duration::from_secs(60))?.ok()?;
        let answer: Value = serde_json::from_str(&answer)?;
        let id = answer["id"].as_i64().and_then(|id| i32::try_from(id).ok());
        ids.insert(content, id.with_context(|| format!("the registry answers without an id: {answer}"))?);
    }
    Ok(ids)
}

/// Publishes a scenario's records within its length; a list of records from `hostile` goes out at once.
pub(super) struct Course<'a> {
    pub(super) brokers: &'a str,
    pub(super) scenario: Scenario,
    pub(super) partitions: i32,
    pub(super) length: Option<Duration>,
    pub(super) ids: &'a Ids,
    /// Foreign schemas; empty: all records are in our own form.
    pub(super) foreign: &'a SchemaIds,
}

impl Course<'_> {
    /// Publishes everything; returns how many records of each content there were, hostile ones included.
    ///
    /// # Errors
    /// A record cannot be made or delivered.
    pub(super) fn run(&self, hostile: &Receiver<Vec<Planned>>) -> Result<BTreeMap<Content, u64>> {
        let mut publisher = Publisher::new(self.brokers, self.ids.own.clone())?;
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut counts: BTreeMap<Content, u64> = BTreeMap::new();
        let mut good: BTreeMap<Content, Vec<u8>> = BTreeMap::new();
        let lines = self.scenario.lines()?;
        let mut feed = self.scenario.feed()?;
        let begun = Instant::now();
        let mut number = 0;
        while let Some((origin, line)) = feed.next_line()? {
            if let Some(length) = self.length {
                let due = begun + length.mul_f64(number as f64 / lines as f64);
                while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                    publisher.wait(left.min(Duration::from_millis(50)));
                }
            }
            number += 1;
            match self.foreign.get(&origin.content).filter(|_| number % FOREIGN_EVERY == 0) {
                Some(&id) => publisher.publish_record(origin.content.topic(), None, &foreign(id, origin, line)?)?,
                None => publisher.publish(origin, line)?,
            }
            *counts.entry(origin.content).or_default() += 1;
            good.entry(origin.content).or_default().clone_from(&line.to_vec());
            for planned in hostile.try_iter().flatten() {
                let Some(line) = good.get(&planned.content) else { continue };
                let record = planned.record(line, self.ids, &mut random)?;
                publisher.publish_record(planned.content.topic(), Some(planned.partition), &record)?;
                *counts.entry(planned.content).or_default() += 1;
            }
        }
        for content in Content::ALL {
            for partition in 0..self.partitions {
                let line = self.scenario.sentinel(content, partition);
                let mut encoder = LineEncoder::new(self.ids.own.clone());
                let encoded = encoder.encode(Origin { content, number: 0 }, line.as_bytes())?;
                let (key, value) = (Some(encoded.key.to_vec()), Some(encoded.value.to_vec()));
                let record = RawRecord { key, value, headers: Vec::new() };
                publisher.publish_record(content.topic(), Some(partition), &record)?;
                *counts.entry(content).or_default() += 1;
            }
        }
        publisher.flush()?;
        Ok(counts)
    }
}

/// A good line under a foreign schema.
fn foreign(id: i32, origin: Origin, line: &[u8]) -> Result<RawRecord> {
    let mut encoder = LineEncoder::new([(origin.content, id)].into());
    let encoded = encoder.encode(origin, line)?;
    let value = [encoded.value, FOREIGN_FIELDS].concat();
    Ok(RawRecord { key: Some(encoded.key.to_vec()), value: Some(value), headers: Vec::new() })
}

#[cfg(test)]
mod tests {
    use records::{Decoder, DecoderConfig, FixedSchemas};

    use super::*;

    #[test]
    fn a_foreign_record_is_read_like_ours() {
        let line = br#"{"event_id":"e","session_id":"s","user_id":"u","item_id":"i","kind":"CLICK","domain":"d","event_time":1396649029950}"#;
        let origin = Origin { content: Content::Interactions, number: 1 };
        let record = foreign(9, origin, line).unwrap();
        let schema = foreign_schema(Content::Interactions).unwrap();
        let lookup = FixedSchemas::default().with(9, &schema);
        let mut decoder = Decoder::<Interaction<'static>>::new(DecoderConfig::default(), Box::new(lookup));
        let read = decoder.decode(record.key.as_deref(), record.value.as_deref()).unwrap();
        assert_eq!((&*read.session_id, read.event_time), ("s", 1_396_649_029_950));
        // and by another library, every byte of it
        let schema = apache_avro::Schema::parse_str(&schema).unwrap();
        let value = record.value.unwrap();
        let mut bytes = &value[5..];
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap();
        let value: Value = reader.read_value(&mut bytes).unwrap().try_into().unwrap();
        assert_eq!((&value["note"], &value["scores"], bytes.len()), (&json!("note"), &json!([1, 2, 3]), 0));
    }
}
