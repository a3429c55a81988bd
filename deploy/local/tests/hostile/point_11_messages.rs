//! Hostile input, point 11: messages that help. Retention that overtook the worker, what is skipped of it, and a second process
//! under one instance's name.

use crate::operator::{delete_records, publish_clicks};
use crate::rig::{Rig, alone};

const START: i64 = 1_767_600_000_000;

fn rig() -> Rig {
    Rig::new("session-entropy", 1).set("source.format=json").set("window=10s").set("idle_timeout=1s")
}

#[test]
fn what_retention_deleted_is_named_and_skipped_and_counted_where_that_is_asked_for() {
    let _alone = alone();
    let rig = rig();
    let topic = rig.topic("source.topic");
    publish_clicks(topic, START, 30);
    let instance = rig.start();
    let applied = |instance: &crate::rig::Instance, records: f64| {
        instance.eventually("the records are applied", || {
            instance.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied == records)
        });
    };
    applied(&instance, 30.0);
    assert!(instance.terminate().success());
    publish_clicks(topic, START + 60_000, 20);
    delete_records(topic, 40);

    let said = rig.start().ends_by_itself();
    let place = format!("(topic {topic}, partition 0: committed 30, log 40 to 50)");
    for part in ["10 records were deleted before they were read", &place, "--skip-lost", "--reset-state"] {
        assert!(said.contains(part), "{part} in:\n{said}");
    }

    let instance = rig.start_with(&["--skip-lost"]);
    applied(&instance, 10.0);
    let log = instance.worker.log_tail(200);
    assert!(log.contains("records that were deleted before they were read are skipped"), "{log}");
    assert!(instance.terminate().success());
    // what is skipped is skipped once
    publish_clicks(topic, START + 120_000, 5);
    let instance = rig.start();
    applied(&instance, 5.0);
    assert!(instance.terminate().success());
}

#[test]
fn of_two_processes_under_one_name_the_elder_goes_on() {
    let _alone = alone();
    let rig = rig().set("runtime.instance=same");
    let topic = rig.topic("source.topic");
    publish_clicks(topic, START, 10);
    let elder = rig.start();
    let applied = |records: f64| {
        elder.eventually("the records are applied", || {
            elder.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied == records)
        });
    };
    applied(10.0);
    let said = rig.start().ends_by_itself();
    assert!(said.contains("runs under runtime.instance = ") && said.contains("it goes on"), "{said}");
    publish_clicks(topic, START + 60_000, 10);
    applied(20.0);
    // a process that was killed keeps its successor out for some seconds only
    elder.worker.kill9().unwrap();
    let successor = rig.start();
    publish_clicks(topic, START + 120_000, 10);
    successor.eventually("the records are applied", || {
        successor.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied >= 10.0)
    });
    assert!(successor.terminate().success());
}
