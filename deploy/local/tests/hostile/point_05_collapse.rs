//! Point 5: a collapsed domain, all of whose users have one vector, is the worst drift there is and raises an alert.

use serde_json::{Value, json};
use testkit::{Outgoing, produce};

use crate::rig::{Rig, alone};

/// A multiple of the slide, 5 min.
const START: i64 = 1_767_600_000_000;
const MINUTE: i64 = 60_000;
const USERS: i64 = 40;

fn update(domain: &str, user: i64, minute: i64, vector: [f64; 2]) -> Outgoing {
    let key = format!("{domain}-{user:02}");
    let value = json!({
        "event_id": format!("{key}-{minute}"), "entity": "USER", "entity_id": key, "domain": domain,
        "model_version": "1", "vector": vector, "event_time": START + minute * MINUTE + user,
    });
    Outgoing::new(key, value.to_string())
}

/// In `books` users lie all around, in `films` all of them have the same vector from the beginning on.
fn updates(minute: i64) -> Vec<Outgoing> {
    let around = |user: i64| (user as f64 / USERS as f64 * std::f64::consts::TAU).sin_cos();
    let books = (0..USERS).map(|user| update("books", user, minute, around(user).into()));
    books.chain((0..USERS).map(|user| update("films", user, minute, [0.6, 0.8]))).collect()
}

#[test]
fn a_collapsed_domain_fires() {
    let _alone = alone();
    let rig = Rig::new("domain-drift", 1)
        .set("source.format=json")
        .set("vector_dimensions=2")
        .set("window=5m")
        .set("idle_timeout=1s");
    for minute in [1, 6, 11, 16] {
        produce(rig.topic("source.topic"), updates(minute));
    }
    let instance = rig.start();
    let alert = instance.eventually("an alert", || rig.rows("topics.alerts").into_iter().next());
    assert_eq!((&alert["rule"], &alert["state"]), (&json!("gamma-high"), &json!("FIRING")), "{alert}");
    let row = &rig.rows("topics.domain_drift")[0];
    assert_eq!(
        (&row["sources"], &row["target"], &row["n"], &row["m"]),
        (&json!("books"), &json!("films"), &json!(USERS), &json!(USERS))
    );
    assert_eq!((&row["w1_scaled"], &row["gamma_raw"]), (&Value::Null, &Value::Null), "{row}");
    assert_eq!((&row["significant"], &row["gamma"], &row["traffic_share"]), (&json!(true), &json!(0.95), &json!(0.4)));
    assert!(instance.terminate().success());
}
