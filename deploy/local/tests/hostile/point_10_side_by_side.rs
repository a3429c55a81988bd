//! Point 10: several deployments side by side.

use std::process::{Command, Output};

use testkit::{Outgoing, produce};

use crate::rig::{Rig, alone};

const WORKERS: [&str; 5] = ["session-entropy", "cosine-decay", "domain-drift", "clickhouse-writer", "alert-router"];

/// `--check-config` with variables, where no others are.
fn check(worker: &str, variables: &[(&str, &str)], sets: &[&str]) -> Output {
    let mut command = Command::new(testkit::workers().path(worker).unwrap());
    command.arg("--check-config").args(sets.iter().flat_map(|set| ["--set", set])).envs(variables.iter().copied());
    command.output().unwrap()
}

/// Hostile input, point 10: several deployments side by side. One environment file serves all workers; slips are refused.
#[test]
fn variables_of_other_workers_stop_no_start_and_slips_do() {
    let fleet = [
        ("RECWATCH_KAFKA__BROKERS", "broker:9092"),
        ("RECWATCH_WINDOW", "10m"),
        ("RECWATCH_SLIDE", "1m"),
        ("RECWATCH_CLICKHOUSE__URL", "http://clickhouse:8123"),
        ("RECWATCH_BATCH__MAX_ROWS", "1000"),
        ("RECWATCH_ROUTE__GROUP_WAIT", "10s"),
        ("RECWATCH_ITEMS__TOPIC", "items"),
        ("RECWATCH_TOPICS__DOMAIN_DRIFT", "drift"),
        ("RECWATCH_TOPICS__SILENCES", "silences"),
        ("RECWATCH_RUNTIME__COMMIT_INTERVAL", "500ms"),
        ("RECWATCH_SINKHORN", "true"),
    ];
    for worker in WORKERS {
        let output = check(worker, &fleet, &[]);
        assert!(output.status.success(), "{worker}: {}", String::from_utf8_lossy(&output.stderr));
        for slip in ["RECWATCH_KAFKA__BROKER", "RECWATCH_CLICKHUOSE__URL", "RECWATCH_WINDWO", "RECWATCH_HTTP__PORTS"] {
            let output = check(worker, &[(slip, "x")], &[]);
            assert_eq!(output.status.code(), Some(2), "{worker} takes {slip}");
            assert!(String::from_utf8_lossy(&output.stderr).contains(slip), "{worker} names {slip}");
        }
    }
    let output = check("session-entropy", &[], &["clickhouse.url=http://clickhouse:8123"]);
    assert_eq!(output.status.code(), Some(2), "what is not in the environment is meant for this worker");
}

/// Hostile input, point 10: several deployments side by side. A registry may have several addresses; each is checked.
#[test]
fn a_registry_with_several_addresses_is_used_by_the_one_that_works() {
    let _alone = alone();
    let rig = Rig::new("session-entropy", 1).set("source.format=json");
    // Nobody listens at the first.
    let addresses =
        format!("registry.url=http://127.0.0.1:1,{}", testkit::stack(crate::rig::COMPONENTS).registry_url());
    let rig = rig.set(&addresses);
    let click = r#"{"event_id":"e","session_id":"s","user_id":"u","item_id":"i","kind":"CLICK","domain":"d","event_time":1767600000000}"#;
    produce(rig.topic("source.topic"), [Outgoing::new("s", click)]);
    let instance = rig.start();
    instance.eventually("it is applied", || {
        instance.metric("recwatch_streaming_records_applied_total", &[]).filter(|applied| *applied >= 1.0)
    });
    assert!(instance.terminate().success());

    let output = check("session-entropy", &[], &["registry.url=http://a:8081,http://me:hunter2@b:8081"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("address 2 of the list") && !told.contains("hunter2"), "{told}");
}
