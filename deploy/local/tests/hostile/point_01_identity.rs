//! Hostile input, point 1: the identity of what is read. A topic that is another one ends the worker, with what its next start
//! says and the command that goes on, and nothing is committed of what was read since.

use crate::operator::{create_again, delete, grow, publish_clicks};
use crate::rig::{Instance, Rig, alone};

/// An hour that lies behind, on a multiple of the slide.
const START: i64 = 1_767_600_000_000;
const APPLIED: &str = "recwatch_streaming_records_applied_total";

fn rig(partitions: i32) -> Rig {
    Rig::new("session-entropy", partitions).set("source.format=json").set("window=10s").set("idle_timeout=1s")
}

fn wait_until_applied(instance: &Instance, records: f64) {
    instance
        .eventually("the records are applied", || instance.metric(APPLIED, &[]).filter(|applied| *applied == records));
}

/// The rows of sessions whose windows end behind a time.
fn rows_after(rig: &Rig, time: i64) -> usize {
    let rows = rig.rows("topics.session_freshness");
    rows.iter().filter(|row| row["window_end"].as_i64().unwrap() > time).count()
}

#[test]
fn a_source_that_is_created_again_under_a_running_worker_counts_once_and_for_itself() {
    let _alone = alone();
    let rig = rig(2);
    let topic = rig.topic("source.topic");
    publish_clicks(topic, START, 100);
    let instance = rig.start();
    wait_until_applied(&instance, 100.0);
    create_again(topic, 2);
    // more than the old one had: its offsets lie inside of the new log
    let later = START + 3_600_000;
    publish_clicks(topic, later, 400);
    let said = instance.ends_by_itself();
    for part in [&format!("{topic} was deleted and created again: its id was "), "--reset-state"] {
        assert!(said.contains(part), "{part} in:\n{said}");
    }
    let again = rig.start().ends_by_itself();
    assert!(again.contains(&format!("{topic} was deleted and created again: its id was ")), "{again}");
    assert_eq!(rows_after(&rig, later - 1_000), 0, "nothing of the new topic was taken for the old one's");

    rig.run(&["--reset-state"]);
    let instance = rig.start();
    wait_until_applied(&instance, 400.0);
    instance.eventually("its rows", || (rows_after(&rig, later - 1_000) > 0).then_some(()));
    assert!(instance.terminate().success());
}

#[test]
fn partitions_that_are_added_and_internal_topics_that_are_deleted_end_a_running_worker() {
    let _alone = alone();
    let rig = rig(1);
    let topic = rig.topic("source.topic");
    publish_clicks(topic, START, 50);
    let instance = rig.start();
    wait_until_applied(&instance, 50.0);
    grow(topic, 2);
    let said = instance.ends_by_itself();
    let change = format!("{topic} had 1 partitions, it has 2");
    assert!(said.contains(&change) && said.contains("--reset-state"), "{said}");
    let again = rig.start().ends_by_itself();
    assert!(again.contains(&change), "{again}");

    rig.run(&["--reset-state"]);
    let instance = rig.start();
    wait_until_applied(&instance, 50.0);
    let internal = format!("recwatch.internal.session-entropy.{topic}.fold-state");
    delete(&internal);
    let said = instance.ends_by_itself();
    assert!(said.contains(&format!("{internal} does not exist")) && said.contains("--reset-state"), "{said}");
}
