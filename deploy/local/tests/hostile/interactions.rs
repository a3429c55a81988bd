//! Interactions, and schemas to write them with.

use records::{Encoder, Interaction};
use serde_json::{Value, json};
use stack::http;
use testkit::Outgoing;

use crate::rig::{COMPONENTS, PATIENCE};

/// A multiple of every slide, epoch ms.
pub(crate) const START: i64 = 1_767_600_000_000;

/// The `number`th event of a session, a second after the one before.
pub(crate) fn click(session: &str, number: i64) -> Value {
    json!({
        "event_id": format!("{session}-{number:04}"), "session_id": session, "user_id": format!("user-of-{session}"),
        "item_id": "i", "kind": "CLICK", "domain": "books", "event_time": START + number * 1000,
    })
}

/// The same as a JSON record, keyed by its session.
pub(crate) fn json_click(session: &str, number: i64) -> Outgoing {
    Outgoing::new(session, click(session, number).to_string())
}

/// The datum of an interaction in our own schema.
pub(crate) fn datum(interaction: &Value) -> Vec<u8> {
    framed(0, interaction).split_off(records::wire::HEADER_LENGTH)
}

/// An interaction in our own schema, with that schema id in front.
pub(crate) fn framed(schema: i32, interaction: &Value) -> Vec<u8> {
    let text = interaction.to_string();
    let interaction: Interaction<'_> = serde_json::from_str(&text).unwrap();
    let mut value = Vec::new();
    Encoder::<Interaction<'static>>::new(schema).encode(&interaction, &mut value).unwrap();
    value
}

/// Registers a schema under a subject of its own; its id.
pub(crate) fn register(schema: &Value, schema_type: &str) -> i32 {
    let registry = testkit::stack(COMPONENTS).registry_url();
    let url = format!("{registry}/subjects/{}/versions", testkit::unique("hostile"));
    let body = json!({ "schema": schema.to_string(), "schemaType": schema_type }).to_string();
    let answer = http::post(&url, "application/vnd.schemaregistry.v1+json", body, PATIENCE).unwrap().ok().unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    i32::try_from(answer["id"].as_i64().unwrap()).unwrap()
}
