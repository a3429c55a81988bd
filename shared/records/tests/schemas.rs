//! The Avro schemas, the Rust types and the examples agree, and no schema leaves those who read the published ones behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::types::Value as AvroValue;
use apache_avro::writer::datum::GenericDatumWriter;
use records::{
    Alert, AvroRecord, CosineDecay, DecayRate, Decoder, DecoderConfig, DomainDrift, EmbeddingUpdated, Encoder,
    FixedSchemas, Input, Interaction, KeyRule, RetrainRequest, SCHEMAS, SessionEntropy, SessionFreshness, Silence,
    wire,
};
use serde::Deserialize;
use serde_json::Value;

fn schemas_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas")
}

/// (file name, text) of every example of a record.
fn examples(name: &str) -> Vec<(String, String)> {
    let folder = schemas_folder().join("examples").join(name);
    let mut found: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(path).unwrap()))
        .collect();
    found.sort();
    assert!(found.len() >= 3, "{} has too few examples", folder.display());
    found
}

fn parse(schema: &str) -> apache_avro::Schema {
    apache_avro::Schema::parse_str(schema).unwrap()
}

fn encode_with_apache(schema: &apache_avro::Schema, json: &Value) -> Vec<u8> {
    let value = AvroValue::try_from(json.clone()).unwrap().resolve(schema).unwrap();
    GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(value).unwrap()
}

fn framed(id: i32, datum: &[u8]) -> Vec<u8> {
    let mut value = wire::header(id).to_vec();
    value.extend_from_slice(datum);
    value
}

/// Each example, written by apache-avro, reads equal through the fast path; written by the fast path, apache-avro reads it
/// equal; and as JSON it reads equal too.
macro_rules! examples_agree {
    ($test:ident, $record:ident) => {
        #[test]
        fn $test() {
            let schema = parse($record::SCHEMA);
            for (file, text) in examples($record::NAME) {
                let json: Value = serde_json::from_str(&text).unwrap();
                let expected: $record<'_> = serde_json::from_str(&text).unwrap();
                let datum = encode_with_apache(&schema, &json);

                let lookup = FixedSchemas::default().with(7, $record::SCHEMA);
                let mut decoder = Decoder::<$record<'static>>::new(
                    DecoderConfig { key: KeyRule::Ignore, ..DecoderConfig::default() },
                    Box::new(lookup),
                );
                let value = framed(7, &datum);
                assert_eq!(decoder.decode(None, Some(&value)).unwrap(), expected, "{file}: decoded");

                let mut encoded = Vec::new();
                Encoder::<$record<'static>>::new(7).encode(&expected, &mut encoded).unwrap();
                assert_eq!(encoded, value, "{file}: encoded");
                let reread =
                    GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut &encoded[5..]).unwrap();
                let resolved = AvroValue::try_from(json).unwrap().resolve(&schema).unwrap();
                assert_eq!(reread, resolved, "{file}: read by apache-avro");

                let config =
                    DecoderConfig { format: records::Format::Json, key: KeyRule::Ignore, ..DecoderConfig::default() };
                let mut decoder = Decoder::<$record<'static>>::new(config, Box::new(FixedSchemas::default()));
                assert_eq!(decoder.decode(None, Some(text.as_bytes())).unwrap(), expected, "{file}: as JSON");
            }
        }
    };
}

examples_agree!(every_alert_example_is_one_record_in_every_format, Alert);
examples_agree!(every_interaction_example_is_one_record_in_every_format, Interaction);
examples_agree!(every_embedding_example_is_one_record_in_every_format, EmbeddingUpdated);
examples_agree!(every_session_freshness_example_is_one_record_in_every_format, SessionFreshness);
examples_agree!(every_session_entropy_example_is_one_record_in_every_format, SessionEntropy);
examples_agree!(every_cosine_decay_example_is_one_record_in_every_format, CosineDecay);
examples_agree!(every_decay_rate_example_is_one_record_in_every_format, DecayRate);
examples_agree!(every_retrain_request_example_is_one_record_in_every_format, RetrainRequest);
examples_agree!(every_domain_drift_example_is_one_record_in_every_format, DomainDrift);
examples_agree!(every_silence_example_is_one_record_in_every_format, Silence);

/// A Rust type has its schema's fields in its schema's order, takes nulls where the schema has them and nowhere else, and has
/// its schema's defaults and no others.
fn assert_type_matches_schema<R: Input>(reread: impl Fn(&Value) -> Result<String, serde_json::Error>) {
    let schema: Value = serde_json::from_str(R::SCHEMA).unwrap();
    assert_eq!(schema["name"], R::NAME);
    assert_eq!(schema["namespace"], "recwatch.v1");
    let fields = schema["fields"].as_array().unwrap();
    let (file, text) = examples(R::NAME).swap_remove(0);
    let mut full: Value = serde_json::from_str(&text).unwrap();
    for field in fields {
        // make absent optionals present, so that every field can be taken away
        let name = field["name"].as_str().unwrap();
        if full.get(name).is_none_or(Value::is_null) {
            full[name] = if field["type"][1] == "string" { "x".into() } else { 1.into() };
        }
    }
    let written = reread(&full).unwrap_or_else(|error| panic!("{file}: {error}"));
    let written_keys: BTreeSet<String> =
        serde_json::from_str::<Value>(&written).unwrap().as_object().unwrap().keys().cloned().collect();
    let names: Vec<&str> = fields.iter().map(|field| field["name"].as_str().unwrap()).collect();
    assert_eq!(written_keys, names.iter().map(|name| (*name).to_owned()).collect(), "{}: field names", R::NAME);
    let places: Vec<usize> = names.iter().map(|name| written.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{}: the type's fields are not in the schema's order {names:?}", R::NAME);

    for field in fields {
        let name = field["name"].as_str().unwrap();
        let label = format!("{}.{name}", R::NAME);
        let nullable =
            field["type"].as_array().is_some_and(|variants| variants.contains(&Value::Null.to_string().into()));
        let mut nulled = full.clone();
        nulled[name] = Value::Null;
        assert_eq!(reread(&nulled).is_ok(), nullable, "{label}: nullable in the schema or in the type only");

        let mut without = full.clone();
        without.as_object_mut().unwrap().remove(name);
        let defaulted = reread(&without);
        match field.get("default") {
            None => assert!(defaulted.is_err(), "{label}: the type has a default, the schema has none"),
            Some(default) => {
                let defaulted: Value = serde_json::from_str(&defaulted.unwrap()).unwrap();
                assert_eq!(defaulted[name], *default, "{label}: default");
            }
        }
        assert_eq!(R::REQUIRED.contains(&name), field.get("default").is_none(), "{label}: REQUIRED");
        let is_time = field["type"]["logicalType"] == "timestamp-millis";
        assert_eq!(R::TIMES.contains(&name), is_time, "{label}: TIMES");
        assert!(field["doc"].as_str().is_some_and(|doc| !doc.is_empty()), "{label} has no doc");
    }
}

macro_rules! type_matches_schema {
    ($test:ident, $record:ident) => {
        #[test]
        fn $test() {
            assert_type_matches_schema::<$record<'static>>(|value| {
                let text = value.to_string();
                let mut deserializer = serde_json::Deserializer::from_str(&text);
                serde_json::to_string(&$record::deserialize(&mut deserializer)?)
            });
        }
    };
}

type_matches_schema!(alert_has_the_fields_nulls_and_defaults_of_its_schema, Alert);
type_matches_schema!(interaction_has_the_fields_nulls_and_defaults_of_its_schema, Interaction);
type_matches_schema!(embedding_updated_has_the_fields_nulls_and_defaults_of_its_schema, EmbeddingUpdated);
type_matches_schema!(session_freshness_has_the_fields_nulls_and_defaults_of_its_schema, SessionFreshness);
type_matches_schema!(session_entropy_has_the_fields_nulls_and_defaults_of_its_schema, SessionEntropy);
type_matches_schema!(cosine_decay_has_the_fields_nulls_and_defaults_of_its_schema, CosineDecay);
type_matches_schema!(decay_rate_has_the_fields_nulls_and_defaults_of_its_schema, DecayRate);
type_matches_schema!(retrain_request_has_the_fields_nulls_and_defaults_of_its_schema, RetrainRequest);
type_matches_schema!(domain_drift_has_the_fields_nulls_and_defaults_of_its_schema, DomainDrift);
type_matches_schema!(silence_has_the_fields_nulls_and_defaults_of_its_schema, Silence);

#[test]
fn every_schema_file_is_embedded() {
    let files: BTreeSet<String> = fs::read_dir(schemas_folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".avsc").map(str::to_owned))
        .collect();
    assert_eq!(files, SCHEMAS.iter().map(|(name, _)| (*name).to_owned()).collect());
}

/// What the registry's BACKWARD rule asks: the newer schema reads what the older one has written.
fn reads_all(newer: &apache_avro::Schema, older: &apache_avro::Schema) -> bool {
    matches!(SchemaCompatibility::can_read(older, newer), Ok(Compatibility::Full))
}

#[test]
fn every_schema_reads_what_its_published_versions_have_written() {
    for (name, text) in SCHEMAS {
        let current = parse(text);
        let prefix = format!("{name}.v");
        let published: Vec<PathBuf> = fs::read_dir(schemas_folder().join("published"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix))
            .collect();
        assert!(!published.is_empty(), "{name}: no published version in schemas/published");
        let mut is_published = false;
        for path in published {
            let older = parse(&fs::read_to_string(&path).unwrap());
            assert!(reads_all(&current, &older), "{name}: {} is not BACKWARD compatible", path.display());
            is_published |= older == current;
        }
        assert!(is_published, "{name}: add the changed schema to schemas/published as the next version");
    }
}

/// The rule that the test before relies on does refuse what it should.
#[test]
fn a_new_field_without_default_a_changed_type_and_a_lost_symbol_are_incompatible() {
    let older = parse(Interaction::SCHEMA);
    let altered = |change: &dyn Fn(&mut Value)| {
        let mut schema: Value = serde_json::from_str(Interaction::SCHEMA).unwrap();
        change(&mut schema);
        parse(&schema.to_string())
    };
    let push = |schema: &mut Value, field: &str| {
        schema["fields"].as_array_mut().unwrap().push(serde_json::from_str(field).unwrap());
    };
    assert!(reads_all(&altered(&|schema| push(schema, r#"{"name":"x","type":"string","default":""}"#)), &older));
    assert!(!reads_all(&altered(&|schema| push(schema, r#"{"name":"x","type":"string"}"#)), &older));
    assert!(!reads_all(&altered(&|schema| schema["fields"][0]["type"] = "long".into()), &older));
    let lost = altered(&|schema| {
        schema["fields"][5]["type"]["symbols"].as_array_mut().unwrap().pop();
    });
    assert!(!reads_all(&lost, &older));
}
