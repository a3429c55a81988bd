//! Lookups as workers make them, of a registry that answers from a table: in the background, and only its own words count.

mod double;

use std::time::{Duration, Instant};

use double::{Double, HANGS, PAGE};
use records::{LookupError, RegisteredSchema, Registry, RegistryConfig, SchemaKind, SchemaLookup, SchemaRef};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(60);

/// As a worker is configured, with short pauses.
fn config(url: String) -> RegistryConfig {
    RegistryConfig {
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(20),
        request_timeout: PATIENCE,
        patience: Some(Duration::ZERO),
        ..RegistryConfig::new(url)
    }
}

fn registry(config: RegistryConfig) -> Registry {
    Registry::new(config, || false).unwrap()
}

/// Looks up as a partition does, again and again, until something is decided.
fn settled(registry: &Registry, schema: impl Into<SchemaRef>) -> Result<RegisteredSchema, LookupError> {
    let (schema, end) = (schema.into(), Instant::now() + PATIENCE);
    loop {
        match registry.schema(schema) {
            Err(LookupError::Unavailable { message, .. }) => assert!(Instant::now() < end, "{message}"),
            other => return other,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a lookup that is not decided says, once it says `expected`.
fn waiting_for(registry: &Registry, schema: impl Into<SchemaRef>, expected: &str) -> String {
    let (schema, end) = (schema.into(), Instant::now() + PATIENCE);
    loop {
        match registry.schema(schema) {
            Err(LookupError::Unavailable { message, .. }) if message.contains(expected) => return message,
            Err(LookupError::Unavailable { message, .. }) => assert!(Instant::now() < end, "{message}"),
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_lookup_does_not_wait_for_a_registry_that_hangs_and_asks_once_however_many_ask() {
    let double = Double::start();
    double.put("/schemas/ids/5", HANGS, PAGE, "");
    let registry = registry(config(double.url()));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let registry = registry.clone();
            std::thread::spawn(move || (0..50).for_each(|_| drop(registry.schema(5.into()).unwrap_err())))
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    double.wait_for_requests(1);
    assert_eq!(double.requests(), ["/schemas/ids/5"]);
}

#[test]
fn an_id_that_becomes_known_within_the_wait_is_found_and_its_neighbours_are_not_held_up() {
    let double = Double::start();
    double.schema("/schemas/ids/6", "\"long\"", json!([]));
    let registry = registry(RegistryConfig { unknown_schema_wait: PATIENCE, ..config(double.url()) });
    let message = waiting_for(&registry, 5, "does not know it yet");
    assert!(message.contains("/schemas/ids/5"), "{message}");
    let of_command = registry.blocking(None).schema(5.into());
    assert!(matches!(of_command, Err(LookupError::Unknown { .. })), "{of_command:?}");
    assert_eq!(&*settled(&registry, 6).unwrap().text, "\"long\"");
    double.schema("/schemas/ids/5", "\"string\"", json!([]));
    assert_eq!(&*settled(&registry, 5).unwrap().text, "\"string\"");
}

#[test]
fn an_id_that_was_waited_for_in_vain_is_refused_without_a_request_until_it_is_forgotten() {
    let double = Double::start();
    let wait = Duration::from_millis(200);
    let begun = Instant::now();
    let registry = registry(RegistryConfig { unknown_schema_wait: wait, ..config(double.url()) });
    let Err(LookupError::Unknown { message, .. }) = settled(&registry, 5) else { panic!("nobody knows it") };
    assert!(begun.elapsed() >= wait && message.contains("/schemas/ids/5"), "{message}");
    let requests = double.requests().len();
    for _ in 0..1000 {
        assert!(matches!(registry.schema(5.into()), Err(LookupError::Unknown { .. })));
    }
    assert_eq!(double.requests().len(), requests);
}

#[test]
fn a_flood_of_unknown_ids_from_several_partitions_costs_few_requests_and_known_ids_go_on() {
    let double = Double::start();
    double.schema("/schemas/ids/1", "\"string\"", json!([]));
    let wait = Duration::from_millis(200);
    let registry = registry(RegistryConfig { unknown_schema_wait: wait, ..config(double.url()) });
    settled(&registry, 1).unwrap();
    let partitions: Vec<_> = (1..=4)
        .map(|partition| {
            let registry = registry.clone();
            std::thread::spawn(move || {
                let refused_at_once = (0..25_000).filter(|id| {
                    registry.schema(1.into()).unwrap();
                    match settled(&registry, partition * 1_000_000 + id).unwrap_err() {
                        LookupError::Unknown { message, .. } => {
                            message.contains("too many schemas that it does not know")
                        }
                        other => panic!("{other}"),
                    }
                });
                refused_at_once.count()
            })
        })
        .collect();
    let refused_at_once: usize = partitions.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(double.requests().len() < 1000, "{} requests for 100,000 ids", double.requests().len());
    assert!(refused_at_once > 99_000, "{refused_at_once}");
}

#[test]
fn only_the_registrys_own_word_makes_a_schema_unknown() {
    let json = "application/json";
    let own = r#"{"error_code":40403,"message":"Schema 5 not found"}"#;
    let large = format!("{{\"schema\":\"{}\"}}", "x".repeat(5 * 1024 * 1024));
    for (status, content_type, body, says) in [
        (200, PAGE, "<html>a captive portal</html>", "no JSON"),
        (200, PAGE, r#"{"schema":"\"string\""}"#, "no JSON"),
        (200, json, "", "no JSON"),
        (200, json, "{}", "without a schema"),
        (200, json, "[1]", "without a schema"),
        (200, json, r#"{"schema":5}"#, "without a schema"),
        (200, json, r#"{"schema":"\"string\"","references":[{"name":"x"}]}"#, "without a schema"),
        (200, json, &large, "more than"),
        (302, PAGE, "", "302"),
        (401, json, "{}", "registry.password"),
        (403, json, "{}", "registry.user"),
        (404, PAGE, "no such page", "base URL"),
        (404, PAGE, own, "base URL"),
        (404, json, r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#, "base URL"),
        (404, json, r#"{"error_code":40401,"message":"Subject not found"}"#, "Subject not found"),
        (429, json, own, "429"),
        (500, json, own, "500"),
        (503, PAGE, "", "503"),
    ] {
        let double = Double::start();
        double.put("/schemas/ids/5", status, content_type, body);
        let registry = registry(config(double.url()));
        let message = waiting_for(&registry, 5, says);
        assert!(message.len() < 1500 && message.contains(&double.url()), "{message}");
        double.schema("/schemas/ids/5", "\"string\"", json!([]));
        settled(&registry, 5).unwrap();
        assert!(!double.requests().iter().any(|path| path == "/elsewhere"), "redirects are not followed");
    }
}

#[test]
fn a_guid_is_asked_for_by_its_own_path() {
    let double = Double::start();
    let path = "/schemas/guids/00010203-0405-0607-0809-0a0b0c0d0e0f";
    let guid = SchemaRef::Guid(std::array::from_fn(|index| u8::try_from(index).unwrap()));
    double.schema(path, "\"string\"", json!([]));
    let registry = registry(config(double.url()));
    assert_eq!(&*settled(&registry, guid).unwrap().text, "\"string\"");
    let Err(LookupError::Unknown { message, .. }) = settled(&registry, SchemaRef::Guid([1; 16])) else { panic!() };
    assert!(message.contains("/schemas/guids/01010101-"), "{message}");
}

#[test]
fn a_registry_without_guids_does_not_know_one_and_a_proxys_404_says_nothing() {
    let double = Double::start();
    double.put("/schemas/guids/01010101-0101-0101-0101-010101010101", 404, PAGE, "no such resource");
    double.put("/schemas/types", 404, PAGE, "no such page");
    let registry = registry(config(double.url()));
    waiting_for(&registry, SchemaRef::Guid([1; 16]), "base URL");
    double.put("/schemas/types", 200, "application/json", r#"["JSON","AVRO"]"#);
    let Err(LookupError::Unknown { message, .. }) = settled(&registry, SchemaRef::Guid([1; 16])) else { panic!() };
    assert!(message.contains("has no GUIDs") && message.contains("/schemas/guids/01010101-"), "{message}");
}

#[test]
fn another_kind_of_schema_is_told_with_its_kind() {
    let double = Double::start();
    double.put("/schemas/ids/5", 200, "application/json", r#"{"schema":"{}","schemaType":"JSON","references":[]}"#);
    let found = settled(&registry(config(double.url())), 5).unwrap();
    assert_eq!(found.kind, SchemaKind::Other("JSON".into()));
}

#[test]
fn where_an_address_fails_the_next_one_is_used_and_kept_until_it_fails() {
    for (status, content_type) in [(503, PAGE), (200, PAGE), (404, PAGE)] {
        let (first, second) = (Double::start(), Double::start());
        first.put("/schemas/ids/1", status, content_type, "not the registry");
        second.schema("/schemas/ids/1", "\"string\"", json!([]));
        second.schema("/schemas/ids/2", "\"string\"", json!([]));
        second.put("/schemas/ids/3", 503, PAGE, "");
        first.schema("/schemas/ids/3", "\"long\"", json!([]));
        let registry = registry(config(format!("{},{}", first.url(), second.url())));
        settled(&registry, 1).unwrap();
        settled(&registry, 2).unwrap();
        assert_eq!((first.requests().len(), second.requests().len()), (1, 2), "the one that answered is kept");
        assert_eq!(&*settled(&registry, 3).unwrap().text, "\"long\"");
        assert_eq!((first.requests().len(), second.requests().len()), (2, 3));
    }
}

#[test]
fn where_all_addresses_fail_each_is_named_and_a_schema_is_registered_at_the_one_that_works() {
    let (first, second) = (Double::start(), Double::start());
    first.put("/schemas/ids/1", 503, PAGE, "");
    second.put("/schemas/ids/1", 500, PAGE, "");
    let registry = registry(config(format!("{}, {}/", first.url(), second.url())));
    let message = waiting_for(&registry, 1, "500");
    assert!(message.contains(&first.url()) && message.contains(&second.url()), "{message}");
    first.put("/config/t-value", 502, PAGE, "bad gateway");
    first.put("/subjects/t-value/versions", 502, PAGE, "bad gateway");
    second.put("/config/t-value", 200, "application/json", r#"{"compatibilityLevel":"FULL"}"#);
    second.put("/subjects/t-value/versions", 200, "application/json", r#"{"id":7}"#);
    assert_eq!(registry.register("t-value", "\"string\""), Ok(7));
}
