//! Rebalances on a real broker: callbacks that only record, partitions that the loop takes and gives up later.
//!
//! DESIGN: rebalance callbacks only record; new partitions are taken at once, paused; a partition is given up only after the cut that
//! holds it is committed.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use kafka::Rebalance;
use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer;

use crate::common::{DEADLINE, Protocol, at, at_with_metadata, create_topic, unique, wait_until};
use crate::group_member::{GroupMember, LONG_SESSION, SHORT_SESSION};
use crate::producing::{begin, commit_cut, expect_abort, produce, producer};
use crate::reading::{Isolation, read_partition, reader};

with_both_protocols!(
    a_recorded_assignment_is_taken_later_by_the_loop,
    nothing_is_delivered_before_resume_and_then_from_the_sought_offset,
    a_partition_is_given_up_only_after_its_cut_is_committed,
    a_member_that_leaves_hands_over_at_once,
    dropping_a_member_that_ignored_a_revocation_does_not_hang,
    a_member_that_stops_polling_is_fenced_until_it_has_given_up_what_it_lost,
    dropping_a_member_that_ignored_a_loss_does_not_hang,
    dropping_a_member_that_ignored_an_assignment_does_not_hang,
    a_list_that_a_call_was_made_with_keeps_its_client_from_being_destroyed,
);

fn a_recorded_assignment_is_taken_later_by_the_loop(protocol: Protocol) {
    let topic = create_topic("recorded", 2);
    let member = GroupMember::join(protocol, &unique("group"), &topic);

    let events = member.next_events();
    let [Rebalance::Assign(partitions)] = events.as_slice() else { panic!("expected one assignment, got {events:?}") };
    assert_eq!(partitions.len(), 2);
    for _ in 0..10 {
        assert_eq!(member.poll(), None);
    }
    assert!(member.owned().is_empty(), "nothing is taken by the callback");
    assert!(member.take_events().is_empty(), "the assignment is announced once");
    assert!(!member.consumer.assignment_lost());

    member.assign_paused(partitions);
    assert_eq!(member.owned().len(), 2);
}

fn nothing_is_delivered_before_resume_and_then_from_the_sought_offset(protocol: Protocol) {
    let topic = create_topic("paused", 2);
    let producer = producer(&unique("paused"), DEADLINE);
    begin(&producer, &topic, &["a", "b", "c"]);
    produce(&producer, &topic, 1, &["x", "y"]);
    producer.commit_transaction(DEADLINE).expect("a commit");
    let member = GroupMember::join(protocol, &unique("group"), &topic);
    let read_next = || {
        let mut message = None;
        wait_until("a message comes", || {
            message = member.poll();
            message.is_some()
        });
        message.expect("just received")
    };

    member.own(2);
    member.resume_at(&topic, 1, 0);
    assert_eq!(read_next(), (1, 0, "x".into()), "partition 1 flows, partition 0 waits");
    assert_eq!(read_next(), (1, 1, "y".into()));
    for _ in 0..10 {
        assert_eq!(member.poll(), None, "partition 0 is paused");
    }
    member.resume_at(&topic, 0, 1);
    assert_eq!(read_next(), (0, 1, "b".into()));
    assert_eq!(read_next(), (0, 2, "c".into()));
}

fn a_partition_is_given_up_only_after_its_cut_is_committed(protocol: Protocol) {
    let topic = create_topic("handover", 2);
    let outputs = create_topic("outputs", 1);
    let group = unique("group");
    let producer = producer(&unique("handover"), DEADLINE);
    let leaving = GroupMember::join(protocol, &group, &topic);
    leaving.own(2);

    let successor = GroupMember::join(protocol, &group, &topic);
    let mut events = Vec::new();
    wait_until("a partition is asked back", || {
        successor.tick();
        leaving.poll();
        events.extend(leaving.take_events());
        events.iter().any(|event| matches!(event, Rebalance::Revoke(partitions) if !partitions.is_empty()))
    });
    let revoked = events.into_iter().find_map(|event| match event {
        Rebalance::Revoke(partitions) => Some(partitions),
        Rebalance::Assign(_) => None,
    });
    let revoked = revoked.expect("just seen");
    let (_, partition) = revoked.iter().next().expect("just seen");
    // Two heartbeats of the group, which come each second: time enough for the successor to be given the partition.
    let observed = Instant::now();
    while observed.elapsed() < Duration::from_secs(2) {
        leaving.poll();
        successor.tick();
        assert!(successor.owned().is_empty(), "the partition moved before it was given up");
    }

    commit_cut(&leaving, &producer, &outputs, &["row"], &at_with_metadata(&topic, partition, 7, "watermark=7"));
    successor.tick();
    assert!(successor.owned().is_empty(), "the partition moved before it was given up");
    leaving.give_up(&revoked);
    let took = wait_until("the successor has the partition", || {
        leaving.tick();
        successor.tick();
        successor.owned().contains(&partition)
    });
    println!("{protocol:?}: the successor had the partition after {took:?}");
    assert_eq!(successor.committed(&topic, partition), (Some(7), "watermark=7".into()));
}

fn a_member_that_leaves_hands_over_at_once(protocol: Protocol) {
    let topic = create_topic("leaving", 2);
    let outputs = create_topic("outputs", 1);
    let group = unique("group");
    let producer = producer(&unique("leaving"), DEADLINE);
    let leaving = GroupMember::join(protocol, &group, &topic);
    leaving.own(2);

    leaving.consumer.unsubscribe();
    let events = leaving.next_events();
    let [Rebalance::Revoke(revoked)] = events.as_slice() else { panic!("expected one revocation, got {events:?}") };
    assert_eq!(revoked.len(), 2);
    assert!(!leaving.consumer.assignment_lost());
    commit_cut(&leaving, &producer, &outputs, &["last"], &at(&topic, 1, 3));
    leaving.give_up(revoked);
    let start = Instant::now();
    drop(leaving);

    let successor = GroupMember::join(protocol, &group, &topic);
    successor.own(2);
    assert_that_the_leave_was_told(start);
    assert_eq!(successor.committed(&topic, 1).0, Some(3));
}

fn dropping_a_member_that_ignored_a_revocation_does_not_hang(protocol: Protocol) {
    let topic = create_topic("ignored", 2);
    let group = unique("group");
    let ignoring = GroupMember::join(protocol, &group, &topic);
    ignoring.own(2);
    let successor = GroupMember::join(protocol, &group, &topic);
    // still held when the member goes, and a call was made with it
    let mut held = Vec::new();
    wait_until("a partition is asked back", || {
        successor.tick();
        ignoring.poll();
        held.extend(ignoring.take_events());
        held.iter().any(|event| match event {
            Rebalance::Revoke(partitions) => {
                ignoring.consumer.pause(&partitions.list()).is_ok() && !partitions.is_empty()
            }
            Rebalance::Assign(_) => false,
        })
    });

    let start = Instant::now();
    drop_within_deadline(ignoring);
    successor.own(2);
    assert_that_the_leave_was_told(start);
}

fn a_member_that_stops_polling_is_fenced_until_it_has_given_up_what_it_lost(protocol: Protocol) {
    let topic = create_topic("stalled", 1);
    let outputs = create_topic("outputs", 1);
    let group = unique("group");
    let producer = producer(&unique("stalled"), Duration::from_secs(60));
    let stalled = GroupMember::join_with(protocol, &group, &topic, SHORT_SESSION, &[("max.poll.interval.ms", "6000")]);
    stalled.own(1);
    let taken_at_the_cut = stalled.metadata();
    let refused_with = |metadata: &ConsumerGroupMetadata| {
        begin(&producer, &outputs, &["of the stalled member"]);
        let refused = producer.send_offsets_to_transaction(&at(&topic, 0, 5), metadata, DEADLINE);
        producer.abort_transaction(DEADLINE).expect("an abort");
        expect_abort(refused)
    };

    let successor = GroupMember::join(protocol, &group, &topic);
    successor.own(1);
    assert_eq!(refused_with(&taken_at_the_cut), RDKafkaErrorCode::UnknownMemberId);
    assert_eq!(refused_with(&stalled.metadata()), RDKafkaErrorCode::UnknownMemberId, "fresh metadata does not help");

    let mut lost = None;
    wait_until("the loss is announced", || {
        successor.tick();
        stalled.poll();
        for event in stalled.take_events() {
            match event {
                // Even an empty assignment has to be answered, or nothing else is announced.
                Rebalance::Assign(partitions) => stalled.assign_paused(&partitions),
                Rebalance::Revoke(partitions) => lost = Some(partitions),
            }
        }
        lost.is_some()
    });
    assert!(stalled.consumer.assignment_lost());
    assert_eq!(
        refused_with(&stalled.metadata()),
        RDKafkaErrorCode::UnknownMemberId,
        "nor does it before the loop acted"
    );
    // From here on fresh metadata is accepted again, for any partition: what was held for this one has to be dropped before.
    stalled.give_up(&lost.expect("just seen"));
    assert!(stalled.owned().is_empty());
    assert_eq!(successor.committed(&topic, 0).0, None);
    assert!(read_partition(&outputs, 0, Isolation::ReadCommitted).is_empty());
}

fn dropping_a_member_that_ignored_a_loss_does_not_hang(protocol: Protocol) {
    let topic = create_topic("ignored-loss", 1);
    let group = unique("group");
    let stalled = GroupMember::join_with(protocol, &group, &topic, SHORT_SESSION, &[("max.poll.interval.ms", "6000")]);
    stalled.own(1);
    let successor = GroupMember::join(protocol, &group, &topic);
    successor.own(1);
    stalled.poll();
    drop_within_deadline(stalled);
}

fn dropping_a_member_that_ignored_an_assignment_does_not_hang(protocol: Protocol) {
    let topic = create_topic("ignored-assignment", 1);
    let ignoring = GroupMember::join(protocol, &unique("group"), &topic);
    ignoring.next_events();
    drop_within_deadline(ignoring);

    // also an empty one: it comes behind the last partition that is given up, and under the classic protocol to who gets none
    let (topics, group) = ([topic, create_topic("taken", 1)], unique("group"));
    let owner = GroupMember::join(protocol, &group, &topics[1]);
    owner.own(1);
    let ignoring = match protocol {
        Protocol::Classic => GroupMember::join(protocol, &group, &topics[1]),
        Protocol::Consumer => {
            let member = GroupMember::join(protocol, &group, &topics[0]);
            member.own(1);
            member.consumer.subscribe(&[&topics[1]]).expect("subscribed");
            member
        }
    };
    let mut is_empty = false;
    wait_until("an empty assignment is recorded", || {
        owner.tick();
        ignoring.poll();
        for event in ignoring.take_events() {
            match event {
                Rebalance::Revoke(partitions) => ignoring.give_up(&partitions),
                Rebalance::Assign(partitions) => is_empty = partitions.is_empty(),
            }
        }
        is_empty
    });
    drop_within_deadline(ignoring);
}

/// Leaving announces a revocation behind the assignment that waits unheard, and a static member need not tell the group
/// that it leaves: the second answer may come when all is over.
#[test]
fn dropping_a_static_member_that_has_not_heard_of_its_assignment_does_not_hang() {
    let topic = create_topic("unheard", 1);
    let witness = reader(Isolation::ReadCommitted, &unique("witness"));
    for _ in 0..10 {
        let group = unique("group");
        let instance = [("group.instance.id", "static")];
        let member = GroupMember::join_with(Protocol::Classic, &group, &topic, LONG_SESSION, &instance);
        wait_until("the group has its assignment", || {
            let found = witness.fetch_group_list(Some(&group), DEADLINE);
            found.is_ok_and(|list| list.groups().iter().any(|group| group.state() == "Stable"))
        });
        drop_within_deadline(member);
    }
}

/// Why rebalances are recorded as names: this is what a worker that failed while partitions were asked back waited for.
fn a_list_that_a_call_was_made_with_keeps_its_client_from_being_destroyed(protocol: Protocol) {
    let topic = create_topic("held", 1);
    let member = GroupMember::join(protocol, &unique("group"), &topic);
    member.own(1);
    let list = at(&topic, 0, 0);
    member.consumer.pause(&list).expect("paused");
    let dropped = drop_elsewhere(member);
    assert!(dropped.recv_timeout(Duration::from_secs(2)).is_err(), "nothing has to be held as names any more");
    drop(list);
    dropped.recv_timeout(DEADLINE).expect("the drop returns");
}

/// A member that only disappears is missed after its session timeout, later than that.
fn assert_that_the_leave_was_told(start: Instant) {
    let took = start.elapsed();
    assert!(took < Duration::from_secs(30), "the group learnt of the leave after {took:?}");
}

fn drop_within_deadline(member: GroupMember) {
    drop_elsewhere(member).recv_timeout(DEADLINE).expect("the drop returns");
}

fn drop_elsewhere(member: GroupMember) -> Receiver<()> {
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        drop(member);
        let _ = done.send(());
    });
    is_done
}
