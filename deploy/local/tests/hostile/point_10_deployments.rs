//! Hostile input, point 10: several deployments side by side. A reset gives up what belongs to its own topics, whether or not
//! the other deployment has the same group.

use crate::operator::publish_clicks;
use crate::rig::{Instance, Rig, alone};

const START: i64 = 1_767_600_000_000;

fn rig(setting: &str) -> Rig {
    Rig::new("session-entropy", 2).set("source.format=json").set("window=10s").set("idle_timeout=1s").set(setting)
}

fn wait_until_at_end(instance: &Instance, read: f64) {
    instance.eventually("the records are read", || {
        instance.metric("recwatch_streaming_records_read_total", &[]).filter(|records| *records == read)
    });
}

/// The case: teams have a topic each, and one of the two deployments is reset while the other one runs, then while it is
/// stopped.
fn a_reset_leaves_the_other_one_alone(group_of_app: &str) {
    let _alone = alone();
    let (web, app) = (rig("threads=1"), rig(&format!("runtime.group={group_of_app}")).set("threads=1"));
    for rig in [&web, &app] {
        publish_clicks(rig.topic("source.topic"), START, 40);
    }
    let (web_runs, app_runs) = (web.start(), app.start());
    wait_until_at_end(&web_runs, 40.0);
    wait_until_at_end(&app_runs, 40.0);
    assert!(app_runs.terminate().success());
    app.run(&["--reset-state"]);
    publish_clicks(web.topic("source.topic"), START + 60_000, 10);
    wait_until_at_end(&web_runs, 50.0);
    assert!(web_runs.terminate().success());

    app.run(&["--reset-state"]);
    publish_clicks(web.topic("source.topic"), START + 120_000, 5);
    let (web_runs, app_runs) = (web.start(), app.start());
    // the one goes on where it was, the other one begins again
    wait_until_at_end(&web_runs, 5.0);
    wait_until_at_end(&app_runs, 40.0);
    assert!(web_runs.terminate().success() && app_runs.terminate().success());
}

#[test]
fn a_deployment_is_reset_beside_another_one_in_the_same_group() {
    a_reset_leaves_the_other_one_alone("");
}

#[test]
fn a_deployment_is_reset_beside_another_one_with_a_group_of_its_own() {
    a_reset_leaves_the_other_one_alone("shop-app");
}
