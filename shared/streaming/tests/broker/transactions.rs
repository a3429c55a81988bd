//! Transactions on a real broker: stale metadata, fenced members and producers, commit metadata.
//!
//! DESIGN: an abort is normal, the same bytes and offsets are sent again with fresh group metadata; a transaction carries an offset for
//! every task whose outputs it holds; `transactional.id` is the instance's, so that a restarted one ends its orphan.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};

use crate::common::{DEADLINE, Protocol, at, at_with_metadata, create_topic, unique, wait_until};
use crate::group_member::GroupMember;
use crate::producing::{begin, commit_cut, drain, expect_abort, producer};
use crate::reading::{Isolation, read_partition, read_to_end, reader};

with_both_protocols!(
    a_member_that_joins_makes_metadata_stale_and_the_same_cut_commits_with_fresh_metadata,
    a_member_that_left_is_fenced_by_the_offset_in_its_transaction_and_by_nothing_else,
);

fn a_member_that_joins_makes_metadata_stale_and_the_same_cut_commits_with_fresh_metadata(protocol: Protocol) {
    let topic = create_topic("stale", 1);
    let outputs = create_topic("outputs", 1);
    let group = unique("group");
    let producer = producer(&unique("stale"), DEADLINE);
    let offsets = at_with_metadata(&topic, 0, 4, "watermark=4");
    let member = GroupMember::join(protocol, &group, &topic);
    member.own(1);
    let taken_at_the_cut = member.metadata();

    let joining = GroupMember::join(protocol, &group, &topic);
    let took = wait_until("the metadata is stale", || {
        member.tick();
        joining.tick();
        begin(&producer, &outputs, &["row"]);
        let sent = producer.send_offsets_to_transaction(&offsets, &taken_at_the_cut, DEADLINE);
        if sent.is_err() {
            assert_eq!(expect_abort(sent), RDKafkaErrorCode::IllegalGeneration);
            assert_eq!(expect_abort(producer.commit_transaction(DEADLINE)), RDKafkaErrorCode::IllegalGeneration);
            return true;
        }
        producer.abort_transaction(DEADLINE).expect("an abort of what was still accepted");
        false
    });
    println!("{protocol:?}: metadata was stale after {took:?}");
    producer.abort_transaction(DEADLINE).expect("an abort");

    commit_cut(&member, &producer, &outputs, &["row"], &offsets);
    let owner = if member.owned().is_empty() { &joining } else { &member };
    assert_eq!(owner.committed(&topic, 0), (Some(4), "watermark=4".into()));
    let rows = wait_for_rows(&outputs);
    assert_eq!(rows, ["row"], "a read_committed reader sees the row once");
    assert!(read_partition(&outputs, 0, Isolation::ReadUncommitted).len() > 1, "the aborted try was produced");
}

fn a_member_that_left_is_fenced_by_the_offset_in_its_transaction_and_by_nothing_else(protocol: Protocol) {
    let topic = create_topic("left", 1);
    let outputs = create_topic("outputs", 1);
    let group = unique("group");
    let producer = producer(&unique("left"), DEADLINE);
    let leaving = GroupMember::join(protocol, &group, &topic);
    leaving.own(1);
    commit_cut(&leaving, &producer, &outputs, &["in time"], &at(&topic, 0, 1));
    let stale = leaving.metadata();
    drop(leaving);
    let successor = GroupMember::join(protocol, &group, &topic);
    successor.own(1);

    begin(&producer, &outputs, &["too late"]);
    let refused = producer.send_offsets_to_transaction(&at(&topic, 0, 2), &stale, DEADLINE);
    assert_eq!(expect_abort(refused), RDKafkaErrorCode::UnknownMemberId);
    assert_eq!(expect_abort(producer.commit_transaction(DEADLINE)), RDKafkaErrorCode::UnknownMemberId);
    producer.abort_transaction(DEADLINE).expect("an abort");
    assert_eq!(successor.committed(&topic, 0).0, Some(1));
    assert_eq!(wait_for_rows(&outputs), ["in time"]);

    // Why each transaction has to carry an offset: without one nothing stops the same member.
    begin(&producer, &outputs, &["too late"]);
    producer.commit_transaction(DEADLINE).expect("a commit that nothing fences");
    assert_eq!(wait_for_rows(&outputs), ["in time", "too late"]);
}

#[test]
fn a_second_producer_of_an_id_ends_the_orphan_and_fences_the_first() {
    let outputs = create_topic("orphan", 1);
    let id = unique("orphan");
    let first = producer(&id, DEADLINE);
    begin(&first, &outputs, &["orphan"]);
    let committed = reader(Isolation::ReadCommitted, &unique("reader"));
    let uncommitted = reader(Isolation::ReadUncommitted, &unique("reader"));
    let end = |of: &BaseConsumer| of.fetch_watermarks(&outputs, 0, DEADLINE).expect("watermarks").1;
    assert_eq!((end(&committed), end(&uncommitted)), (0, 1), "the open transaction holds the last stable offset");

    let start = Instant::now();
    let second = producer(&id, DEADLINE);
    println!("a producer with an orphan to end was ready after {:?}", start.elapsed());
    assert_eq!((end(&committed), end(&uncommitted)), (2, 2), "one record and one marker, all stable");

    // The fence is not seen before the commit: sending is asynchronous and a flush reports nothing.
    let record: BaseRecord<'_, (), str> = BaseRecord::to(&outputs).partition(0).payload("fenced");
    first.send(record).map_err(|(error, _)| error).expect("a record queued");
    drain(&first);
    match first.commit_transaction(DEADLINE) {
        Err(KafkaError::Transaction(error)) => {
            assert!(error.is_fatal());
            assert!(!error.txn_requires_abort());
            assert_eq!(error.code(), RDKafkaErrorCode::Fenced);
        }
        other => panic!("expected to be fenced, got {other:?}"),
    }
    assert_eq!(first.client().fatal_error().map(|(code, _)| code), Some(RDKafkaErrorCode::Fenced));

    begin(&second, &outputs, &["second"]);
    second.commit_transaction(DEADLINE).expect("a commit");
    assert_eq!(wait_for_rows(&outputs), ["second"]);
}

#[test]
fn an_abort_with_undelivered_records_needs_polls() {
    let outputs = create_topic("undelivered", 1);
    let producer = producer(&unique("undelivered"), DEADLINE);
    producer.begin_transaction().expect("a transaction begun");
    let record: BaseRecord<'_, (), str> = BaseRecord::to(&outputs).partition(0).payload("aborted");
    producer.send(record).map_err(|(error, _)| error).expect("a record queued");

    match producer.abort_transaction(Duration::from_millis(500)) {
        Err(KafkaError::Transaction(error)) => {
            assert_eq!(error.code(), RDKafkaErrorCode::OperationTimedOut);
            assert!(error.is_retriable(), "trying again without a poll would never end");
        }
        other => panic!("expected a time-out, got {other:?}"),
    }
    drain(&producer);
    producer.abort_transaction(DEADLINE).expect("an abort");

    begin(&producer, &outputs, &["committed"]);
    producer.commit_transaction(DEADLINE).expect("a commit");
    assert_eq!(wait_for_rows(&outputs), ["committed"]);
}

#[test]
fn commit_metadata_comes_back_as_it_was_written() {
    let topic = create_topic("metadata", 2);
    let outputs = create_topic("outputs", 1);
    let producer = producer(&unique("metadata"), DEADLINE);
    let member = GroupMember::join(Protocol::Consumer, &unique("group"), &topic);
    member.own(2);
    let printable: String = (b' '..=b'~').map(char::from).collect();

    commit_cut(&member, &producer, &outputs, &["row"], &at_with_metadata(&topic, 0, 9, &printable));
    assert_eq!(member.committed(&topic, 0), (Some(9), printable));
    assert_eq!(member.committed(&topic, 1), (None, String::new()), "a partition without a commit");
}

/// Reads the committed rows of partition 0 once everything in it is stable: `commit_transaction` returns before its markers are written.
fn wait_for_rows(topic: &str) -> Vec<String> {
    let committed = reader(Isolation::ReadCommitted, &unique("reader"));
    let uncommitted = reader(Isolation::ReadUncommitted, &unique("reader"));
    let end = uncommitted.fetch_watermarks(topic, 0, DEADLINE).expect("watermarks").1;
    wait_until("everything is stable", || committed.fetch_watermarks(topic, 0, DEADLINE).expect("watermarks").1 >= end);
    read_to_end(&committed, topic, 0)
}
