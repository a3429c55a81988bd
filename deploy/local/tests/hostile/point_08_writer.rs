//! Point 8, of clickhouse-writer and alert-router: a row whose schema nobody knows holds up its partition alone, what ClickHouse
//! and frozen brokers hold up is named, and neither stops the end.

use std::time::Duration;

use stack::Component;
use testkit::{Outgoing, produce, unique};

use crate::point_04_acknowledgement::rows;
use crate::point_08_waiting::{Frozen, ends_soon_and_well, ends_while_brokers_are_frozen, line};
use crate::rig::{Instance, Rig, alone};

/// An id that the registry has not given.
const UNKNOWN_SCHEMA: i32 = 2_000_000_000;
const COMMITTED: &str = "recwatch_clickhouse_writer_committed";

/// A writer of one table with a database of its own.
struct Writing {
    rig: Rig,
    database: String,
}

impl Writing {
    fn new(partitions: i32, settings: &[&str]) -> Self {
        let stack = testkit::clickhouse();
        let database = unique("waiting").replace(['-', '.'], "_");
        let mut rig = Rig::new("clickhouse-writer", 1)
            .set("tables=[\"session_freshness\"]")
            .set("http.max_wait=3s")
            .set(&format!("clickhouse.url={}", stack.clickhouse_url()))
            .set(&format!("clickhouse.database={database}"));
        for setting in settings {
            rig = rig.set(setting);
        }
        rig.run(&["--apply-ddl"]);
        rig.create("topics.session_freshness", partitions, &[]);
        Self { rig, database }
    }

    fn topic(&self) -> &str {
        self.rig.topic("topics.session_freshness")
    }

    /// Rows for this partition.
    fn produce(&self, partition: i32, numbers: std::ops::Range<i64>) {
        produce(self.topic(), rows(self.topic(), numbers).into_iter().map(|row| row.in_partition(partition)));
    }

    /// Waits until exactly the first `count` rows are stored, each once where merges are done.
    fn wait_for_rows(&self, writer: &Instance, count: i64) {
        let query = format!(
            "SELECT count(), uniqExact(session_id), sum(events) FROM {}.session_freshness_final",
            self.database
        );
        let expected = format!("{count}\t{count}\t{}\n", (0..count).sum::<i64>());
        writer.eventually(&format!("{count} rows"), || {
            (testkit::clickhouse().clickhouse_query(&query).unwrap() == expected).then_some(())
        });
    }
}

#[test]
fn a_row_whose_schema_nobody_knows_holds_up_its_partition_alone_and_is_seen() {
    let _alone = alone();
    let case = Writing::new(2, &["registry.unknown_schema_wait=10m"]);
    let mut unknown = vec![0];
    unknown.extend(UNKNOWN_SCHEMA.to_be_bytes());
    produce(case.topic(), [Outgoing::new("session", unknown).in_partition(0)]);
    let writer = case.rig.start();
    let waiting = format!("waiting: partition 0 of {} for a schema, since 20", case.topic());
    let (line_of_wait, _) = writer.eventually("the wait", || line(&writer, &waiting));
    assert!(line_of_wait.contains(" s): offset 0: "), "{line_of_wait}");
    case.produce(1, 0..20);
    case.wait_for_rows(&writer, 20);
    writer.eventually("the commit", || (writer.metric(COMMITTED, &["partition=\"1\""]) == Some(20.0)).then_some(()));
    assert_eq!(writer.metric("recwatch_waiting_partitions", &["schema"]), Some(1.0));
    writer.eventually("the loss of readiness", || line(&writer, &waiting).filter(|(_, is_ready)| !is_ready));
    ends_soon_and_well(&writer);
    assert!(case.rig.dead_letters().is_empty());
}

#[test]
fn what_clickhouse_and_the_brokers_hold_up_is_named_and_the_end_waits_for_neither() {
    let _alone = alone();
    let case = Writing::new(1, &[]);
    case.produce(0, 0..20);
    let writer = case.rig.start();
    case.wait_for_rows(&writer, 20);
    writer.eventually("the commit", || (writer.metric(COMMITTED, &[]) == Some(20.0)).then_some(()));

    let clickhouse = Frozen::new(&case.rig, Component::ClickHouse);
    case.produce(0, 20..40);
    let for_rows = format!("waiting: partition 0 of {} for ClickHouse, since 20", case.topic());
    writer.eventually("the wait for ClickHouse", || line(&writer, &for_rows).filter(|(_, is_ready)| !is_ready));
    let brokers = Frozen::new(&case.rig, Component::Kafka);
    drop(clickhouse);
    case.wait_for_rows(&writer, 40);
    let for_brokers = format!("waiting: partition 0 of {} for the brokers, since 20", case.topic());
    writer.eventually("the wait for the brokers", || line(&writer, &for_brokers).filter(|(_, is_ready)| !is_ready));
    let silence = writer.metric("recwatch_thread_silence_seconds", &["writer"]).unwrap();
    assert!(silence < Duration::from_secs(10).as_secs_f64(), "it takes turns: {silence}");
    ends_soon_and_well(&writer);
    drop(brokers);

    let writer = case.rig.start();
    writer.eventually("the commit", || (writer.metric(COMMITTED, &[]) == Some(40.0)).then_some(()));
    case.wait_for_rows(&writer, 40);
    writer.wait_until_ready();
    assert_eq!(writer.metric("recwatch_waiting_partitions", &[]), Some(0.0));
    ends_soon_and_well(&writer);
}

#[test]
fn writer_and_router_end_soon_and_well_while_brokers_are_frozen() {
    let _alone = alone();
    let router = Rig::new("alert-router", 1);
    router.create("topics.alerts", 1, &[]);
    for rig in [Writing::new(1, &[]).rig, router] {
        ends_while_brokers_are_frozen(&rig);
    }
}
