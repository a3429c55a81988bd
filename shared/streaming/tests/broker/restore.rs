//! Restoring a task on a real broker cannot miss a snapshot that is still in flight.
//!
//! DESIGN: restore = the committed offset, then the state partition's high watermark asked by a read_uncommitted handle, then read until
//! there. The steps as this file has them: (1) committed offsets by a read_committed handle, which waits for pending ones; (2) the high
//! watermark; (3) until the last stable offset has reached it; (4) only then assign, and read to the first end that is reported.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::Producer;

use crate::common::{DEADLINE, Protocol, at, create_topic, grow, unique, wait_until};
use crate::group_member::GroupMember;
use crate::producing::{begin, commit_cut, drain, produce, producer};
use crate::reading::{Isolation, committed, read_partition, read_to_end, reader};

/// What a restore learns: the offset to go on at, and the state records below the high watermark.
#[derive(Debug, PartialEq, Eq)]
struct Restored {
    offset: Option<i64>,
    state: Vec<String>,
}

/// The restore of one task, in the order that the module documentation argues for.
fn restore(group: &str, source: &str, state: &str) -> Restored {
    let stable = reader(Isolation::ReadCommitted, group);
    let newest = reader(Isolation::ReadUncommitted, group);
    let (offset, _) = committed(&stable, source, 0, DEADLINE).expect("committed offsets");
    let high_watermark = end_of(&newest, state);
    wait_until("nothing below the high watermark is in flight", || end_of(&stable, state) >= high_watermark);
    Restored { offset, state: read_to_end(&stable, state, 0) }
}

/// The end of partition 0: the last stable offset for a read_committed handle, the high watermark for a read_uncommitted one.
fn end_of(consumer: &BaseConsumer, topic: &str) -> i64 {
    consumer.fetch_watermarks(topic, 0, DEADLINE).expect("watermarks").1
}

#[test]
fn a_restore_waits_for_an_open_transaction_in_front_of_the_newest_snapshot() {
    let source = create_topic("source", 1);
    let state = create_topic("state", 1);
    let group = unique("group");
    let owner = GroupMember::join(Protocol::Consumer, &group, &source);
    owner.own(1);
    let snapshots = producer(&unique("owner"), DEADLINE);
    let zombie = producer(&unique("zombie"), DEADLINE);
    commit_cut(&owner, &snapshots, &state, &["snapshot 1"], &at(&source, 0, 5));
    begin(&zombie, &state, &["never committed"]);
    commit_cut(&owner, &snapshots, &state, &["snapshot 2"], &at(&source, 0, 10));

    // A naive restore takes offset 10, reads to the end that a read_committed handle reports, and has the wrong snapshot.
    assert_eq!(owner.committed(&source, 0).0, Some(10));
    assert_eq!(read_partition(&state, 0, Isolation::ReadCommitted), ["snapshot 1"]);

    let restored = std::thread::scope(|scope| {
        let restoring = scope.spawn(|| restore(&group, &source, &state));
        zombie.abort_transaction(DEADLINE).expect("an abort");
        restoring.join().expect("a restore")
    });
    assert_eq!(restored, Restored { offset: Some(10), state: vec!["snapshot 1".into(), "snapshot 2".into()] });
}

#[test]
fn a_restore_during_a_commit_has_both_or_neither_of_offset_and_snapshot() {
    for commits in [true, false] {
        let source = create_topic("source", 1);
        let state = create_topic("state", 1);
        let group = unique("group");
        let owner = GroupMember::join(Protocol::Consumer, &group, &source);
        owner.own(1);
        let snapshots = producer(&unique("owner"), DEADLINE);
        commit_cut(&owner, &snapshots, &state, &["snapshot 1"], &at(&source, 0, 5));
        begin(&snapshots, &state, &["snapshot 2"]);
        snapshots.send_offsets_to_transaction(&at(&source, 0, 10), &owner.metadata(), DEADLINE).expect("offsets sent");

        // While the offset is pending, a read_committed handle refuses to say an old one; the other kind of handle says it.
        let stable = reader(Isolation::ReadCommitted, &group);
        let pending = committed(&stable, &source, 0, Duration::from_secs(1)).expect_err("no stable offset");
        assert_eq!(pending, KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut));
        let newest = reader(Isolation::ReadUncommitted, &group);
        assert_eq!(committed(&newest, &source, 0, DEADLINE).expect("committed offsets").0, Some(5));

        let restored = std::thread::scope(|scope| {
            let restoring = scope.spawn(|| restore(&group, &source, &state));
            if commits {
                snapshots.commit_transaction(DEADLINE).expect("a commit");
            } else {
                snapshots.abort_transaction(DEADLINE).expect("an abort");
            }
            restoring.join().expect("a restore")
        });
        let expected = if commits {
            Restored { offset: Some(10), state: vec!["snapshot 1".into(), "snapshot 2".into()] }
        } else {
            Restored { offset: Some(5), state: vec!["snapshot 1".into()] }
        };
        assert_eq!(restored, expected);
    }
}

#[test]
fn the_end_is_reported_for_empty_partitions_and_behind_aborted_records() {
    let topic = create_topic("ends", 1);
    let writer = producer(&unique("ends"), DEADLINE);
    assert!(read_partition(&topic, 0, Isolation::ReadCommitted).is_empty(), "an empty partition has an end");

    begin(&writer, &topic, &["aborted 1", "aborted 2"]);
    writer.abort_transaction(DEADLINE).expect("an abort");
    let stable = reader(Isolation::ReadCommitted, &unique("reader"));
    wait_until("the abort is stable", || end_of(&stable, &topic) == 3);
    assert!(read_to_end(&stable, &topic, 0).is_empty(), "two aborted records and a marker");

    begin(&writer, &topic, &["committed"]);
    writer.commit_transaction(DEADLINE).expect("a commit");
    begin(&writer, &topic, &["aborted 3"]);
    writer.abort_transaction(DEADLINE).expect("an abort");
    wait_until("everything is stable", || end_of(&stable, &topic) == 7);
    assert_eq!(read_to_end(&stable, &topic, 0), ["committed"]);
    assert_eq!(read_partition(&topic, 0, Isolation::ReadUncommitted).len(), 4);
}

#[test]
fn the_last_stable_offset_and_the_high_watermark_are_told_apart_by_the_handle() {
    let topic = create_topic("open", 1);
    let writer = producer(&unique("open"), DEADLINE);
    begin(&writer, &topic, &["a", "b"]);
    let stable = reader(Isolation::ReadCommitted, &unique("reader"));
    let newest = reader(Isolation::ReadUncommitted, &unique("reader"));
    assert_eq!((end_of(&stable, &topic), end_of(&newest, &topic)), (0, 2));
    assert!(read_to_end(&stable, &topic, 0).is_empty(), "the end of a read_committed handle is the last stable offset");
    assert_eq!(read_to_end(&newest, &topic, 0), ["a", "b"]);

    writer.commit_transaction(DEADLINE).expect("a commit");
    // The commit has returned, its markers may still be on their way.
    wait_until("the commit is stable", || end_of(&stable, &topic) == 3);
    assert_eq!(end_of(&newest, &topic), 3);
    assert_eq!(read_to_end(&stable, &topic, 0), ["a", "b"]);
}

#[test]
fn a_reader_that_moves_to_another_topic_does_not_hear_of_the_old_ones_end() {
    let short = create_topic("short", 1);
    let long = create_topic("long", 1);
    let writer = producer(&unique("moves"), DEADLINE);
    begin(&writer, &short, &["s"]);
    let many: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    produce(&writer, &long, 0, &many);
    writer.commit_transaction(DEADLINE).expect("a commit");
    drain(&writer);
    let stable = reader(Isolation::ReadCommitted, &unique("reader"));
    wait_until("everything is stable", || end_of(&stable, &short) == 2 && end_of(&stable, &long) == 201);

    for _ in 0..10 {
        // Leave the short topic without having been told its end: one is or will be in the queue.
        stable.assign(&at(&short, 0, 0)).expect("assigned");
        wait_until("the short topic's record came", || matches!(stable.poll(Duration::from_millis(50)), Some(Ok(_))));
        assert_eq!(read_to_end(&stable, &long, 0), many);
    }
}

/// Why a restore that fails goes on with new clients: what one has learnt while a broker came back is wrong in the same way.
#[test]
fn a_client_that_knows_a_topic_does_not_ask_again_whether_it_has_a_partition() {
    let topic = create_topic("growing", 1);
    let knowing = reader(Isolation::ReadCommitted, &unique("group"));
    end_of(&knowing, &topic);
    grow(&topic, 2);
    let ask = |consumer: &BaseConsumer| {
        consumer.fetch_watermarks(&topic, 1, DEADLINE).map_err(|error| error.rdkafka_error_code())
    };
    wait_until("a new client knows the partition", || {
        ask(&reader(Isolation::ReadCommitted, &unique("group"))) == Ok((0, 0))
    });
    assert_eq!(ask(&knowing), Err(Some(RDKafkaErrorCode::UnknownPartition)));
    knowing.fetch_metadata(None, DEADLINE).expect("metadata");
    assert_eq!(ask(&knowing), Ok((0, 0)), "clickhouse-writer asks like this");
}
