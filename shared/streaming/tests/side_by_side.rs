//! Several deployments of one worker on one cluster, and several processes under one instance's name.

mod running;
mod toy;

use std::time::Duration;

use running::{DEADLINE, Instance, kafka, wait_for};
use service::{GroupProtocol, HumanDuration};
use streaming::config::RuntimeConfig;
use streaming::{Runtime, Topology};
use testkit::{Outgoing, eventually, produce};

fn config(instance: &str, protocol: GroupProtocol) -> RuntimeConfig {
    let mut config = toy::config(instance);
    config.protocol = protocol;
    config.session_timeout = HumanDuration::from_millis(6_000).unwrap();
    config
}

fn deployment(worker: &str, group: &str, source: &str) -> Topology {
    Topology { group: group.to_owned(), ..toy::topology(worker, source, Duration::from_secs(1)) }
}

fn publish(source: &str, times: [i64; 2]) {
    produce(source, times.map(|time| Outgoing::new("k", format!("{time},1"))));
}

/// Two deployments, one of which is reset while the other runs, and then while it is stopped: it goes on where it was.
fn a_reset_leaves_the_other_alone(groups: [&str; 2]) {
    let worker = testkit::unique("toy");
    let [web, app] = ["web", "app"].map(|name| testkit::topic(name, 2, &[]));
    let [of_web, of_app] = [(groups[0], &web), (groups[1], &app)]
        .map(|(group, source)| move |worker: &str| deployment(worker, group, source));
    let start = |topology: Topology, name: &str| Instance::run(topology, config(name, GroupProtocol::Consumer));
    let (web_runs, app_runs) = (start(of_web(&worker), "web"), start(of_app(&worker), "app"));
    for source in [&web, &app] {
        publish(source, [1_000, 1_100]);
    }
    let read = |topology: &Topology, records: u64| {
        let topic = topology.internal_topic(0, "watermarks");
        eventually("the records are read", DEADLINE, || {
            let (folds, _) = running::progress_on(&topic);
            (folds.values().map(|fold| fold.counts.read).sum::<u64>() == records).then_some(())
        });
    };
    read(&of_web(&worker), 2);
    read(&of_app(&worker), 2);

    let reset = || Runtime::reset(&of_app(&worker), &toy::config("app"), &kafka());
    let refused = format!("{:#}", reset().unwrap_err());
    assert!(refused.contains("stop all instances"), "its own instances run: {refused}");
    app_runs.stop().unwrap();
    eventually("the other one is reset while this one runs", DEADLINE, || reset().ok());
    publish(&web, [1_110, 1_120]);
    read(&of_web(&worker), 4);
    web_runs.stop().unwrap();
    reset().unwrap();

    let (web_runs, app_runs) = (start(of_web(&worker), "web"), start(of_app(&worker), "app"));
    publish(&web, [1_130, 1_140]);
    read(&of_web(&worker), 6);
    read(&of_app(&worker), 2);
    web_runs.stop().unwrap();
    app_runs.stop().unwrap();
}

#[test]
fn a_deployment_is_reset_beside_another_one_with_a_group_of_its_own() {
    a_reset_leaves_the_other_alone(["", "team.app"]);
}

#[test]
fn a_deployment_is_reset_beside_another_one_in_the_same_group() {
    a_reset_leaves_the_other_alone(["", ""]);
}

#[test]
fn two_deployments_read_the_same_topic_each_for_itself() {
    let worker = testkit::unique("toy");
    let source = testkit::topic("amounts", 2, &[]);
    let topologies = ["", "second"].map(|group| deployment(&worker, group, &source));
    let watermarks = [0, 1].map(|index: usize| topologies[index].internal_topic(0, "watermarks"));
    let instances = topologies.map(|topology| Instance::run(topology, config("same", GroupProtocol::Consumer)));
    publish(&source, [1_000, 1_100]);
    for topic in &watermarks {
        eventually("each reads all records", DEADLINE, || {
            let (folds, _) = running::progress_on(topic);
            (folds.values().map(|fold| fold.counts.read).sum::<u64>() == 2).then_some(())
        });
    }
    for instance in instances {
        instance.stop().unwrap();
    }
}

fn the_elder_goes_on(protocol: GroupProtocol) {
    let source = testkit::topic("amounts", 4, &[]);
    let worker = testkit::unique("toy");
    let start = || Instance::run(deployment(&worker, "", &source), config("same", protocol));
    let elder = start();
    publish(&source, [1_000, 1_100]);
    wait_for(&worker, &source, 2, 0);
    let younger = format!("{:#}", start().end().unwrap_err());
    assert!(younger.contains("runs under runtime.instance = \"same\": it goes on"), "{younger}");
    publish(&source, [1_110, 1_120]);
    wait_for(&worker, &source, 4, 0);
    elder.stop().unwrap();
    // nobody has the name any more
    let next = start();
    publish(&source, [1_130, 1_140]);
    wait_for(&worker, &source, 6, 0);
    next.stop().unwrap();
}

#[test]
fn a_second_process_under_one_name_ends_and_the_first_goes_on_under_the_consumer_protocol() {
    the_elder_goes_on(GroupProtocol::Consumer);
}

#[test]
fn a_second_process_under_one_name_ends_and_the_first_goes_on_under_the_classic_protocol() {
    the_elder_goes_on(GroupProtocol::Classic);
}
