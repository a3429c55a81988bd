//! What holds of the schedules of all seeds.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{Discriminant, discriminant};

use super::*;

const PARTITIONS: i32 = 3;

fn schedules(minutes: u64) -> impl Iterator<Item = Schedule> {
    (0..200).map(move |seed| Schedule::new(seed, Duration::from_secs(60 * minutes), PARTITIONS))
}

#[test]
fn one_seed_makes_one_schedule() {
    for (first, second) in schedules(3).zip(schedules(3)) {
        assert_eq!(first, second);
    }
    let different: BTreeSet<String> = schedules(1).map(|schedule| format!("{:?}", schedule.steps)).collect();
    assert_eq!(different.len(), 200);
}

#[test]
fn everything_is_healed_before_the_end_and_steps_are_in_order() {
    for schedule in schedules(1).chain(schedules(3)) {
        assert!(schedule.steps.iter().all(|step| step.at >= FIRST && step.end() + LAST <= schedule.length));
        assert!(schedule.steps.is_sorted_by_key(|step| step.at));
    }
}

#[test]
fn a_minute_has_a_dozen_steps_at_least() {
    for schedule in schedules(1) {
        assert!(schedule.steps.len() >= 12, "{schedule}");
    }
}

#[test]
fn nothing_is_disturbed_in_two_ways_at_once() {
    for schedule in schedules(3) {
        let mut until: BTreeMap<String, Duration> = BTreeMap::new();
        for step in &schedule.steps {
            let Some(target) = step.action.target() else { continue };
            assert!(until.get(&target).is_none_or(|until| *until <= step.at), "{target} of {schedule}");
            until.insert(target, step.end());
        }
    }
}

#[test]
fn three_minutes_have_every_kind_of_step() {
    let kinds = |schedule: &Schedule| -> BTreeSet<String> {
        let kind = |step: &Step| format!("{:?}", kind_of(&step.action));
        schedule.steps.iter().map(kind).collect()
    };
    for schedule in schedules(3) {
        assert_eq!(kinds(&schedule).len(), 9, "{schedule}");
    }
}

fn kind_of(action: &Action) -> Discriminant<Action> {
    discriminant(action)
}

#[test]
fn every_fault_hits_everything_that_it_can_in_some_run() {
    let mut texts = BTreeSet::new();
    let mut cases = BTreeSet::new();
    for Step { action, .. } in schedules(3).flat_map(|schedule| schedule.steps) {
        match action {
            Action::Kill { instance, .. } => drop(texts.insert(format!("kill {instance}"))),
            Action::Freeze { instance, .. } => drop(texts.insert(format!("freeze {instance}"))),
            Action::Leave { instance, .. } => drop(texts.insert(format!("leave {instance}"))),
            Action::Join { worker, .. } => drop(texts.insert(format!("join {worker}"))),
            Action::Outage { component, how, .. } => drop(texts.insert(format!("{how:?} {component}"))),
            Action::Proxy { component, fault, .. } => {
                texts.insert(format!("{:?} {component}", discriminant(&fault)));
            }
            Action::Alter { alteration, .. } => drop(texts.insert(format!("alter {alteration}"))),
            Action::Crash { failpoint, .. } => drop(texts.insert(format!("crash {failpoint}"))),
            Action::Hostile { records } => {
                cases.extend(records.into_iter().map(|record| (record.case, record.partition)));
            }
        }
    }
    let instances = workers().count() * INSTANCES as usize;
    let faults = Component::ALL.iter().map(|component| ProxyFault::kinds(*component)).sum::<usize>();
    let expected = 3 * instances + workers().count() + 3 * 3 + faults + Alteration::ALL.len() + FAILPOINTS.len();
    assert_eq!(texts.len(), expected, "{texts:#?}");
    assert_eq!(cases.len(), hostile::CASES.len() * PARTITIONS as usize);
}
