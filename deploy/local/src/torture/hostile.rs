//! Records that no producer should send, and what has to become of each. Rows do not change by any of them.

use std::fmt;

use anyhow::{Context, Result};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use records::{EmbeddingUpdated, Encoder};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::publish::{LineEncoder, RawRecord, SchemaIds};
use crate::recording::{Content, Origin};

/// The header that marks a hostile record in its topic, with the number of its case.
pub(crate) const MARK: &str = "torture.case";

/// A reason by which no record is refused but counted as late.
pub(crate) const LATE: &str = "late";

/// A kind of hostile record.
pub(crate) struct Case {
    /// What it is, in a few words.
    pub(crate) name: &'static str,
    /// The topics that it is for.
    contents: &'static [Content],
    /// The reasons for which a worker may refuse it.
    pub(crate) reasons: &'static [&'static str],
    make: fn(&mut Material<'_>) -> RawRecord,
}

const ALL: &[Content] = &Content::ALL;
const CLICKS: &[Content] = &[Content::Interactions];
const VECTORS: &[Content] = &[Content::ItemEmbeddings, Content::UserEmbeddings];

/// The corpus. The reasons are those of METRICS.md, section 1.
pub(crate) const CASES: &[Case] = &[
    Case { name: "random bytes", contents: ALL, reasons: &["undecodable"], make: |m| m.value(m.noise(200)) },
    Case { name: "no bytes at all", contents: ALL, reasons: &["undecodable"], make: |m| m.value(Vec::new()) },
    Case { name: "half a header", contents: ALL, reasons: &["undecodable"], make: |m| m.value(vec![0, 0, 0]) },
    Case { name: "a deletion", contents: CLICKS, reasons: &["undecodable"], make: |m| m.deletion() },
    Case { name: "half a datum", contents: ALL, reasons: &["undecodable", "missing_field"], make: |m| m.cut() },
    Case { name: "bytes behind the datum", contents: ALL, reasons: &["undecodable"], make: |m| m.longer() },
    Case { name: "a length of exabytes", contents: ALL, reasons: &["undecodable"], make: |m| m.endless() },
    Case { name: "half of a JSON object", contents: ALL, reasons: &["undecodable"], make: |m| m.json() },
    Case { name: "many large headers", contents: ALL, reasons: &["undecodable"], make: |m| m.headers() },
    Case { name: "a key of 100 KB", contents: ALL, reasons: &["undecodable", "bad_key"], make: |m| m.large_key() },
    Case {
        name: "a value of 2 MB",
        contents: CLICKS,
        reasons: &["too_large"],
        make: |m| m.field("user_id", "x".repeat(2_000_000)),
    },
    Case { name: "no session", contents: CLICKS, reasons: &["empty_key"], make: |m| m.field("session_id", "") },
    Case { name: "no entity", contents: VECTORS, reasons: &["empty_key"], make: |m| m.field("entity_id", "") },
    Case { name: "a schema that nobody knows", contents: ALL, reasons: &["unknown_schema"], make: |m| m.unknown() },
    Case { name: "the key of another one", contents: ALL, reasons: &["bad_key"], make: |m| m.key_of_another() },
    Case { name: "no key", contents: ALL, reasons: &["bad_key"], make: |m| m.keyless() },
    Case { name: "a schema bomb", contents: ALL, reasons: &["undecodable"], make: |m| m.bomb() },
    Case { name: "a negative time", contents: ALL, reasons: &["bad_value"], make: |m| m.field("event_time", -1) },
    Case {
        name: "the year 2100",
        contents: ALL,
        reasons: &["future_timestamp"],
        make: |m| m.field("event_time", 4_102_444_800_000_i64),
    },
    Case {
        name: "the last time there is",
        contents: ALL,
        reasons: &["future_timestamp", "bad_value"],
        make: |m| m.field("event_time", i64::MAX),
    },
    Case { name: "an hour ago", contents: ALL, reasons: &[LATE], make: |m| m.late() },
    Case {
        name: "no number in a vector",
        contents: VECTORS,
        reasons: &["bad_vector"],
        make: |m| m.vector(vec![f32::NAN; 64]),
    },
    Case { name: "a vector of zeros", contents: VECTORS, reasons: &["bad_vector"], make: |m| m.vector(vec![0.0; 64]) },
    Case { name: "a short vector", contents: VECTORS, reasons: &["bad_vector"], make: |m| m.vector(vec![1.0; 3]) },
    Case {
        name: "an infinite vector",
        contents: VECTORS,
        reasons: &["bad_vector"],
        make: |m| m.vector(vec![f32::INFINITY; 64]),
    },
];

/// The schemas that records are written with, as the registry knows them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids {
    /// Ours.
    pub(crate) own: SchemaIds,
    /// Ours with a field that holds [`bomb`].
    pub(crate) bombs: SchemaIds,
}

/// The type of a field whose values take no bytes, and are 10^12: twelve records in each other, ten fields each.
pub(crate) fn bomb() -> Value {
    let last = json!({"type": "record", "name": "Bomb12", "fields": [{"name": "nothing", "type": "null"}]});
    (0..12).rev().fold(last, |inner, level| {
        let first = json!({"name": "f0", "type": inner});
        let others = (1..10).map(|field| json!({"name": format!("f{field}"), "type": format!("Bomb{}", level + 1)}));
        let fields: Vec<Value> = std::iter::once(first).chain(others).collect();
        json!({"type": "record", "name": format!("Bomb{level}"), "fields": fields})
    })
}

/// A hostile record that a schedule has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// The case's number in the corpus.
    pub case: usize,
    /// The content whose topic it goes to.
    pub content: Content,
    /// The topic's partition.
    pub partition: i32,
}

impl Planned {
    /// Any.
    pub(super) fn any(random: &mut ChaCha8Rng, partitions: i32) -> Self {
        let case = random.random_range(0..CASES.len());
        let content = *CASES[case].contents.choose(random).unwrap_or(&Content::Interactions);
        Self { case, content, partition: random.random_range(0..partitions) }
    }

    /// The record, made from a good line of the same content.
    ///
    /// # Errors
    /// The line is none of that content.
    pub(super) fn record(&self, line: &[u8], ids: &Ids, random: &mut ChaCha8Rng) -> Result<RawRecord> {
        let line: Value = serde_json::from_slice(line).context("a good line is no JSON")?;
        let mut material = Material { content: self.content, line, ids, random };
        let mut record = (CASES[self.case].make)(&mut material);
        record.headers.push((MARK.to_owned(), self.case.to_string().into_bytes()));
        Ok(record)
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", CASES[self.case].name, self.content.name(), self.partition)
    }
}

/// What a hostile record is made of.
struct Material<'a> {
    content: Content,
    /// A good line.
    line: Value,
    ids: &'a Ids,
    random: &'a mut ChaCha8Rng,
}

impl Material<'_> {
    fn key(&self) -> Option<Vec<u8>> {
        self.line[self.content.key_field()].as_str().map(|key| key.as_bytes().to_vec())
    }

    fn value(&self, value: Vec<u8>) -> RawRecord {
        RawRecord { key: self.key(), value: Some(value), headers: Vec::new() }
    }

    fn noise(&self, length: usize) -> Vec<u8> {
        let mut random = self.random.clone();
        // 0 would begin a header
        std::iter::once(7).chain((1..length).map(|_| random.random())).collect()
    }

    fn deletion(&self) -> RawRecord {
        RawRecord { key: self.key(), value: None, headers: Vec::new() }
    }

    /// The line as it is published.
    fn good(&self) -> RawRecord {
        let line = self.line.to_string();
        let mut encoder = LineEncoder::new(self.ids.own.clone());
        match encoder.encode(Origin { content: self.content, number: 0 }, line.as_bytes()) {
            Ok(encoded) => {
                RawRecord { key: Some(encoded.key.to_vec()), value: Some(encoded.value.to_vec()), headers: Vec::new() }
            }
            Err(_) => self.value(line.into_bytes()),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.good().value.unwrap_or_default()
    }

    fn cut(&mut self) -> RawRecord {
        let mut value = self.bytes();
        value.truncate(self.random.random_range(6..value.len() - 8));
        self.value(value)
    }

    fn longer(&self) -> RawRecord {
        let mut value = self.bytes();
        value.extend([0; 3]);
        self.value(value)
    }

    /// The first field, a string, claims to be longer than anything is.
    fn endless(&self) -> RawRecord {
        let mut value = self.bytes();
        value.truncate(5);
        value.extend([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        self.value(value)
    }

    /// The id is one of a few: what was waited for in vain is remembered.
    fn unknown(&mut self) -> RawRecord {
        let id = i32::MAX - self.random.random_range(0..3);
        let mut value = self.bytes();
        value[1..5].copy_from_slice(&id.to_be_bytes());
        self.value(value)
    }

    fn key_of_another(&self) -> RawRecord {
        RawRecord { key: Some(b"somebody else".to_vec()), ..self.good() }
    }

    fn keyless(&self) -> RawRecord {
        RawRecord { key: None, ..self.good() }
    }

    /// A good datum, and behind it 10^12 values that take no bytes.
    fn bomb(&self) -> RawRecord {
        let mut value = self.bytes();
        value[1..5].copy_from_slice(&self.ids.bombs.get(&self.content).copied().unwrap_or(0).to_be_bytes());
        self.value(value)
    }

    fn json(&self) -> RawRecord {
        let mut line = self.line.to_string().into_bytes();
        line.truncate(line.len() / 2);
        self.value(line)
    }

    fn headers(&self) -> RawRecord {
        let headers = (0..200).map(|number| (format!("header-{number}"), vec![b'h'; 500])).collect();
        RawRecord { headers, ..self.value(self.noise(50)) }
    }

    fn large_key(&self) -> RawRecord {
        RawRecord { key: Some(self.noise(100_000)), ..self.value(self.noise(50)) }
    }

    /// The line with another value in a field.
    fn field(&mut self, name: &str, value: impl Into<Value>) -> RawRecord {
        self.line[name] = value.into();
        self.good()
    }

    fn late(&mut self) -> RawRecord {
        let time = self.line["event_time"].as_i64().unwrap_or_default();
        self.field("event_time", time - 3_600_000)
    }

    fn vector(&mut self, vector: Vec<f32>) -> RawRecord {
        let mut value = Vec::new();
        self.line["vector"] = json!([1.0]);
        if let Ok(update) = EmbeddingUpdated::deserialize(&self.line) {
            let id = self.ids.own.get(&self.content).copied().unwrap_or(0);
            let update = EmbeddingUpdated { vector, ..update };
            // a record that fits its schema, whatever its numbers are
            let _ = Encoder::<EmbeddingUpdated<'static>>::new(id).encode(&update, &mut value);
        }
        self.value(value)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use records::{AvroRecord, DecodeError, Decoder, DecoderConfig, FixedSchemas, Input, Interaction};

    use super::*;

    const CLICK: &str = r#"{"event_id":"e","session_id":"s","user_id":"u","item_id":"i","kind":"CLICK","domain":"d","event_time":1396649029950}"#;

    fn vector() -> String {
        let line = json!({"event_id": "e", "entity": "ITEM", "entity_id": "9", "domain": "d", "model_version": "m",
            "vector": vec![0.5; 64], "event_time": 1_396_649_029_950_i64});
        line.to_string()
    }

    fn reason<R: Input + AvroRecord>(record: &RawRecord) -> Option<String> {
        let mut bombs: Value = serde_json::from_str(R::SCHEMA).unwrap();
        bombs["fields"].as_array_mut().unwrap().push(json!({"name": "bomb", "type": bomb()}));
        let lookup = FixedSchemas::default().with(7, R::SCHEMA).with(8, &bombs.to_string());
        let config = DecoderConfig { vector_length: Some(64), ..DecoderConfig::default() };
        let mut decoder = Decoder::<R>::new(config, Box::new(lookup));
        match decoder.decode(record.key.as_deref(), record.value.as_deref()) {
            Ok(_) => None,
            Err(DecodeError::Rejected(rejection)) => Some(rejection.reason.name().to_owned()),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn every_case_is_what_it_says_for_each_of_its_topics() {
        let of = |id| SchemaIds::from(Content::ALL.map(|content| (content, id)));
        let ids = Ids { own: of(7), bombs: of(8) };
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for (case, of) in CASES.iter().enumerate() {
            for &content in of.contents {
                let line = if content == Content::Interactions { CLICK.to_owned() } else { vector() };
                let planned = Planned { case, content, partition: 0 };
                let record = planned.record(line.as_bytes(), &ids, &mut random).unwrap();
                assert_eq!(record.headers.last().unwrap().1, case.to_string().into_bytes());
                let found = match content {
                    Content::Interactions => reason::<Interaction<'static>>(&record),
                    _ => reason::<EmbeddingUpdated<'static>>(&record),
                };
                // time is judged by whoever knows the record's timestamp and the watermark
                let is_of_time = |reason: &&str| [LATE, "future_timestamp"].contains(reason);
                match found {
                    Some(reason) => assert!(of.reasons.contains(&reason.as_str()), "{planned}: {reason}"),
                    None => assert!(of.reasons.iter().any(is_of_time), "{planned} is a good record"),
                }
            }
        }
    }
}
