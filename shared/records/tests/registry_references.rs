//! Schemas that refer to other subjects: what is found is the whole schema.

mod double;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use double::Double;
use proptest::prelude::*;
use records::{LookupError, RegisteredSchema, Registry, RegistryConfig, SchemaLookup, SchemaRef};
use serde_avro_fast::Schema;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn registry(double: &Double) -> Registry {
    let config = RegistryConfig {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
        patience: Some(PATIENCE),
        ..RegistryConfig::new(double.url())
    };
    Registry::new(config, || false).unwrap()
}

fn reference(subject: &str, version: i32) -> Value {
    json!({ "name": subject, "subject": subject, "version": version })
}

fn fingerprint(found: &RegisteredSchema) -> [u8; 8] {
    let whole = Schema::from_schemata(&found.text, found.references.iter());
    *whole.unwrap_or_else(|error| panic!("{error}: {found:?}")).rabin_fingerprint()
}

fn fingerprint_of(text: &str) -> [u8; 8] {
    *text.parse::<Schema>().unwrap().rabin_fingerprint()
}

const KIND: &str = r#"{"type":"enum","name":"Kind","namespace":"shop","symbols":["CLICK","CART"]}"#;
const ITEM: &str = r#"{"type":"record","name":"Item","namespace":"shop","fields":[{"name":"kind","type":"Kind"}]}"#;
const CLICK: &str = r#"{"type":"record","name":"Click","fields":[{"name":"item","type":"shop.Item"},
    {"name":"kind","type":"shop.Kind"},{"name":"others","type":{"type":"array","items":"shop.Item"}}]}"#;
const WHOLE: &str = r#"{"type":"record","name":"Click","fields":[{"name":"item","type":
    {"type":"record","name":"Item","namespace":"shop","fields":[{"name":"kind","type":
        {"type":"enum","name":"Kind","symbols":["CLICK","CART"]}}]}},
    {"name":"kind","type":"shop.Kind"},{"name":"others","type":{"type":"array","items":"shop.Item"}}]}"#;

#[test]
fn nested_references_and_those_that_are_met_twice_make_the_whole_schema() {
    let double = Double::start();
    double.schema("/subjects/kind/versions/3", KIND, json!([]));
    double.schema("/subjects/an%2Fitem/versions/1", ITEM, json!([reference("kind", 3)]));
    double.schema("/schemas/ids/1", CLICK, json!([reference("an/item", 1), reference("kind", 3)]));
    let found = registry(&double).schema(1.into()).unwrap();
    assert_eq!(fingerprint(&found), fingerprint_of(WHOLE));
    assert_eq!(double.requests().len(), 3, "each is asked for once: {:?}", double.requests());
    // The same text under two subjects is one.
    double.schema("/subjects/copy/versions/1", KIND, json!([]));
    double.schema("/schemas/ids/2", CLICK, json!([reference("an/item", 1), reference("copy", 1)]));
    assert_eq!(fingerprint(&registry(&double).schema(2.into()).unwrap()), fingerprint_of(WHOLE));
}

#[test]
fn a_reference_that_is_not_known_yet_makes_the_schema_unknown_until_it_is() {
    let double = Double::start();
    double.schema("/schemas/ids/1", CLICK, json!([reference("item", 1)]));
    double.schema("/subjects/item/versions/1", ITEM, json!([reference("kind", 3)]));
    let Err(LookupError::Unknown { message, .. }) = registry(&double).schema(1.into()) else { panic!() };
    assert!(message.contains("/subjects/kind/versions/3"), "{message}");

    let config = RegistryConfig { unknown_schema_wait: PATIENCE, ..RegistryConfig::new(double.url()) };
    let registry = Registry::new(RegistryConfig { patience: Some(Duration::ZERO), ..config }, || false).unwrap();
    let end = Instant::now() + PATIENCE;
    double.wait_for_requests(3);
    while !matches!(registry.schema(1.into()), Err(LookupError::Unavailable { message, .. }) if message.contains("kind"))
    {
        assert!(Instant::now() < end);
    }
    double.schema("/subjects/kind/versions/3", KIND, json!([]));
    let found = loop {
        if let Ok(found) = registry.schema(1.into()) {
            break found;
        }
        assert!(Instant::now() < end);
    };
    assert_eq!(fingerprint(&found), fingerprint_of(WHOLE));
}

#[test]
fn references_in_a_circle_too_many_too_deep_or_too_large_are_refused_with_the_reason() {
    let double = Double::start();
    let registry = registry(&double);
    let unusable = |id: i32| match registry.schema(id.into()) {
        Err(error @ LookupError::Unusable { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    double.schema("/schemas/ids/1", CLICK, json!([reference("a", 1)]));
    double.schema("/subjects/a/versions/1", ITEM, json!([reference("b", 1)]));
    double.schema("/subjects/b/versions/1", KIND, json!([reference("a", 1)]));
    assert!(unusable(1).contains("refers to itself"), "{}", unusable(1));

    let many: Vec<Value> = (0..1000).map(|version| reference("many", version)).collect();
    for version in 0..1000 {
        double.schema(&format!("/subjects/many/versions/{version}"), &format!("{version}"), json!([]));
        let next = json!([reference("deep", version + 1)]);
        double.schema(&format!("/subjects/deep/versions/{version}"), &format!("{version}"), next);
    }
    double.schema("/schemas/ids/2", CLICK, json!(many));
    double.schema("/schemas/ids/3", CLICK, json!([reference("deep", 0)]));
    let before = double.requests().len();
    assert!(unusable(2).contains("more than 64 schemas"), "{}", unusable(2));
    assert!(unusable(3).contains("deeper than 16"), "{}", unusable(3));
    assert!(double.requests().len() - before < 100);

    double.schema("/schemas/ids/4", CLICK, json!([reference("large", 1)]));
    double.schema("/subjects/large/versions/1", &"x".repeat(2 * 1024 * 1024), json!([]));
    assert!(unusable(4).contains("bytes"), "{}", unusable(4));
}

/// A named type: an enum, or a record whose fields have types named before it.
#[derive(Debug, Clone)]
struct Named {
    namespace: &'static str,
    is_enum: bool,
    /// Which types, counted down from its own place; and whether in an array, and by the short name where that is enough.
    fields: Vec<(usize, bool, bool)>,
}

fn named() -> impl Strategy<Value = Named> {
    let field = (1_usize..8, any::<bool>(), any::<bool>());
    (prop::sample::select(vec!["a", "a.b", "c"]), any::<bool>(), prop::collection::vec(field, 0..4))
        .prop_map(|(namespace, is_enum, fields)| Named { namespace, is_enum, fields })
}

fn full_name(types: &[Named], index: usize) -> String {
    format!("{}.T{index}", types[index].namespace)
}

/// The types that a type uses itself.
fn uses(types: &[Named], index: usize) -> Vec<(usize, bool, bool)> {
    let named = &types[index];
    let fields = named.fields.iter().filter(|(back, ..)| *back <= index).map(|(back, a, s)| (index - back, *a, *s));
    if named.is_enum { Vec::new() } else { fields.collect() }
}

/// The definition of a type. What it uses is written by name where `defined` holds it, else in full.
fn definition(types: &[Named], index: usize, defined: &mut BTreeSet<usize>) -> Value {
    defined.insert(index);
    let (name, namespace) = (format!("T{index}"), types[index].namespace);
    if types[index].is_enum {
        return json!({ "type": "enum", "name": name, "namespace": namespace, "symbols": ["X"] });
    }
    let mut fields = vec![json!({ "name": "own", "type": ["null", "long"], "default": null })];
    for (place, (used, in_array, short)) in uses(types, index).into_iter().enumerate() {
        let used_type = if defined.contains(&used) {
            let short = short && types[used].namespace == namespace;
            json!(if short { format!("T{used}") } else { full_name(types, used) })
        } else {
            definition(types, used, defined)
        };
        let field_type = if in_array { json!({ "type": "array", "items": used_type }) } else { used_type };
        fields.push(json!({ "name": format!("f{place}"), "type": field_type }));
    }
    json!({ "type": "record", "name": name, "namespace": namespace, "fields": fields })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_schema_in_many_subjects_is_the_one_that_is_written_as_a_whole(types in prop::collection::vec(named(), 1..8)) {
        let double = Double::start();
        let root = types.len() - 1;
        for index in 0..types.len() {
            // All that it uses stands elsewhere.
            let mut elsewhere: BTreeSet<usize> = (0..types.len()).collect();
            let text = definition(&types, index, &mut elsewhere).to_string();
            let used: BTreeSet<usize> = uses(&types, index).into_iter().map(|(used, ..)| used).collect();
            let references: Vec<Value> = used.iter().map(|used| reference(&format!("t{used}"), 1)).collect();
            let path = if index == root { "/schemas/ids/1".to_owned() } else { format!("/subjects/t{index}/versions/1") };
            double.schema(&path, &text, json!(references));
        }
        let whole = definition(&types, root, &mut BTreeSet::new()).to_string();
        let found = registry(&double).schema(SchemaRef::Id(1)).unwrap();
        if types[root].is_enum {
            prop_assert!(found.references.is_empty());
        }
        prop_assert_eq!(fingerprint(&found), fingerprint_of(&whole));
    }
}
