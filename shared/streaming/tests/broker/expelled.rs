//! Why the runtime looks at the id of its member: what librdkafka says, and does not, when a group expels one.

use std::collections::BTreeSet;

use kafka::{Partitions, Rebalance};
use rdkafka::consumer::Consumer;
use testkit::{expel, members};

use crate::common::{Protocol, create_topic, unique, wait_until};
use crate::group_member::GroupMember;

/// A member that is expelled while it is asked to give partitions up has the others on, without a word of a loss: while they
/// are another member's, and after it has joined again under a new id.
#[test]
fn a_member_that_is_expelled_in_a_rebalance_keeps_partitions_that_are_others_and_only_its_id_shows_it() {
    let topic = create_topic("expelled", 4);
    let group = unique("group");
    let expelled = GroupMember::join(Protocol::Classic, &group, &topic);
    expelled.own(4);
    let other = GroupMember::join(Protocol::Classic, &group, &topic);
    let mut events = Vec::new();
    wait_until("it is to give partitions up", || {
        expelled.poll();
        other.tick();
        events = expelled.take_events();
        !events.is_empty()
    });
    let [Rebalance::Revoke(leaving)] = events.as_slice() else { panic!("{events:?}") };
    wait_until("the group is stable", || members(&group).is_some_and(|members| members.len() == 2));
    let id = expelled.consumer.member_id();
    expel(&group, &id);
    other.own(4);
    wait_until("it has noticed", || {
        expelled.poll();
        expelled.consumer.member_id().is_empty()
    });
    let kept: BTreeSet<i32> = (0..4).filter(|partition| !leaving.contains(&topic, *partition)).collect();
    expelled.give_up(leaving);
    let mut taken: Vec<Partitions> = Vec::new();
    wait_until("it has joined again", || {
        expelled.poll();
        for event in expelled.take_events() {
            let Rebalance::Assign(partitions) = event else { panic!("not before it has joined: {event:?}") };
            expelled.assign_paused(&partitions);
            taken.push(partitions);
        }
        assert!(!expelled.consumer.assignment_lost());
        assert_eq!(expelled.owned(), kept, "of which nothing is said");
        other.poll();
        !expelled.consumer.member_id().is_empty()
    });
    assert!(taken.iter().all(Partitions::is_empty), "{taken:?}");
    assert_ne!(expelled.consumer.member_id(), id);
    assert_eq!(other.owned().len(), 4);
}
