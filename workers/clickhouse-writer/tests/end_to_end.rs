//! The writer's binary on a real broker and the real ClickHouse engine.

#[path = "common/fake_http.rs"]
#[allow(dead_code, reason = "each test file uses a part of it")]
mod fake_http;
#[path = "common/rig.rs"]
mod rig;

use std::time::Duration;

use rig::{Rig, entropy, eventually, freshness, freshness_at, stack};
use stack::Component;

/// Rows and their events, as ClickHouse has them under FINAL: count, distinct sessions, sum of events.
fn final_rows(rig: &Rig) -> String {
    rig.sql("SELECT count(), uniqExact(session_id), sum(events) FROM {db}.session_freshness_final FORMAT CSV")
}

fn expected(rows: std::ops::Range<i64>, events: impl Fn(i64) -> i64) -> String {
    let count = rows.end - rows.start;
    format!("{count},{count},{}", rows.map(events).sum::<i64>())
}

#[test]
fn rows_arrive_once_with_every_field_and_bad_records_are_handed_on() {
    // so long that nothing is read twice because a busy machine's member is missed
    let rig = Rig::with_session("consumer", Duration::from_secs(45));
    rig.command(&["--apply-ddl"]).unwrap();
    rig.command(&["--apply-ddl"]).unwrap();
    let writer = rig.start("one");
    eventually("the writer's readiness", || writer.is_ready().then_some(()));

    // 3,000 minutes, and 150 months: more table partitions than one insert may have.
    let mut rows: Vec<_> = (0..3000).map(|n| freshness(n, 1, n)).collect();
    rows.extend((3000..3150).map(|n| freshness_at(n, 1_388_534_400_000 + (n - 3000) * 2_678_400_000, 1, n)));
    let aborted: Vec<_> = (0..50).map(|n| freshness(n, 9, 1_000_000)).collect();
    rig.produce_aborted_then_committed(&rig.freshness, &aborted, &rows);
    rig.produce(&rig.entropy, &[entropy(0, None), entropy(1, Some(0.5))]);
    let unknown_schema = (b"k".to_vec(), vec![0, 0, 0, 0, 77, 1]);
    let negative = freshness(1, -1, 1);
    let bad = [(b"bad".to_vec(), b"\xffno record".to_vec()), unknown_schema.clone(), negative.clone()];
    rig.produce(&rig.freshness, &bad);
    // Written again, under the same key: the higher revision wins, then the later one.
    rig.produce(&rig.freshness, &[freshness(5, 2, 500), freshness(6, 1, 600)]);

    let expected = expected(0..3150, |n| if n == 5 || n == 6 { n * 100 } else { n });
    eventually("all rows", || (final_rows(&rig) == expected).then_some(()));
    let row = "SELECT toUnixTimestamp64Milli(window_start), toUnixTimestamp64Milli(window_end), session_id, domain, surface, \
               user_segment, events, entropy, normalised, freshness, decay_factor, band, revision \
               FROM {db}.session_freshness_final WHERE session_id = 's7' FORMAT JSONCompactEachRow";
    assert_eq!(
        rig.sql(row),
        r#"[1388534520000, 1388534820000, "s7", "books", "", "né\nw", 7, 0.25, 0.125, 0.875, 0.95, "focused", 1]"#
    );
    let groups = "SELECT domain, sessions_total, events, sessions, mean_entropy, mean_freshness, freshness_p05, freshness_p50, \
                  freshness_p95, share_focused, share_balanced, share_scattered, revision \
                  FROM {db}.session_entropy_final ORDER BY domain FORMAT JSONCompactEachRow";
    eventually("the groups", || {
        let expected = "[\"g0\", 7, 9, 0, null, null, null, null, null, null, null, null, 1]\n\
                        [\"g1\", 7, 9, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1]";
        (rig.sql(groups) == expected).then_some(())
    });

    let mut letters = rig.letters(3);
    letters.sort_by_key(|(_, _, headers)| headers["__connect.errors.exception.class.name"].clone());
    let reasons: Vec<&str> =
        letters.iter().map(|(_, _, headers)| headers["__connect.errors.exception.class.name"].as_str()).collect();
    assert_eq!(reasons, ["bad_value", "undecodable", "unknown_schema"]);
    for ((key, value), letter) in [&negative, &bad[0], &unknown_schema].into_iter().zip(&letters) {
        assert_eq!((letter.0.as_ref(), letter.1.as_ref()), (Some(key), Some(value)));
        assert_eq!(letter.2["traceparent"], "00-1");
        assert_eq!(letter.2["__connect.errors.topic"], rig.freshness);
        assert_eq!(letter.2["__connect.errors.connector.name"], "clickhouse-writer");
        assert_eq!(letter.2["__connect.errors.stage"], "decode");
    }
    eventually("the count of dead letters", || {
        (writer.metric("recwatch_clickhouse_writer_dead_letters_total") == 3.0).then_some(())
    });
    assert_eq!(writer.metric("recwatch_clickhouse_writer_records_read_total"), 3157.0);
    writer.stop();

    // From the start again: the same final rows. (A member that another test has killed is still missed for a while.)
    eventually("an empty group", || rig.command(&["--reset-state"]).ok());
    let writer = rig.start("one");
    eventually("the second reading", || {
        (writer.metric("recwatch_clickhouse_writer_insert_rows_total") == 3154.0).then_some(())
    });
    assert_eq!(final_rows(&rig), expected);
    writer.stop();
}

#[test]
fn a_registry_that_is_away_holds_rows_back_and_loses_none() {
    let rig = Rig::new("consumer");
    rig.command(&["--apply-ddl"]).unwrap();
    rig.registry_down.store(true, std::sync::atomic::Ordering::SeqCst);
    let writer = rig.start("one");
    eventually("the writer's readiness", || writer.is_ready().then_some(()));
    rig.produce(&rig.freshness, &(0..100).map(|n| freshness(n, 1, n)).collect::<Vec<_>>());
    eventually("the loss of readiness", || (!writer.is_ready()).then_some(()));
    let waiting = format!("waiting: partition 0 of {} for a schema, since 20", rig.freshness);
    let (status, body) = writer.readyz();
    assert!(status == 503 && body.contains(&waiting), "{status}: {body}");
    assert!(writer.metric(r#"recwatch_waiting_partitions{reason="schema"}"#) >= 1.0);
    // it ends well while it waits, and the next one begins where it stood
    writer.stop();
    let writer = rig.start("one");
    rig.registry_down.store(false, std::sync::atomic::Ordering::SeqCst);
    let expected = expected(0..100, |n| n);
    eventually("all rows", || (final_rows(&rig) == expected).then_some(()));
    eventually("the writer's readiness", || writer.is_ready().then_some(()));
    eventually("the commit", || writer.has_committed(100.0).then_some(()));
    writer.stop();
}

#[test]
fn partitions_that_left_while_they_were_paused_are_read_when_they_come_back() {
    let rig = Rig::new("consumer");
    rig.command(&["--apply-ddl"]).unwrap();
    rig.registry_down.store(true, std::sync::atomic::Ordering::SeqCst);
    let first = rig.start("one");
    eventually("the first one's readiness", || first.is_ready().then_some(()));
    let rows = |numbers: std::ops::Range<i64>| numbers.map(|n| freshness(n, 1, n)).collect::<Vec<_>>();
    rig.produce(&rig.freshness, &rows(0..100));
    let paused = || first.metric("recwatch_clickhouse_writer_paused{table=\"session_freshness\"") == 1.0;
    eventually("a pause", || paused().then_some(()));
    let second = rig.start("two");
    eventually("the second one's partitions", || second.owns_partitions().then_some(()));
    rig.registry_down.store(false, std::sync::atomic::Ordering::SeqCst);
    eventually("all rows", || (final_rows(&rig) == expected(0..100, |n| n)).then_some(()));
    eventually("no pause", || (!paused()).then_some(()));
    second.stop();
    rig.produce(&rig.freshness, &rows(100..200));
    eventually("the rows of partitions that came back", || (final_rows(&rig) == expected(0..200, |n| n)).then_some(()));
    first.stop();
}

#[test]
fn a_clickhouse_that_dies_in_the_middle_and_a_writer_killed_meanwhile_leave_one_row_a_key() {
    let rig = Rig::new("consumer");
    rig.command(&["--apply-ddl"]).unwrap();
    let writer = rig.start("one");
    eventually("the writer's readiness", || writer.is_ready().then_some(()));
    rig.produce(&rig.freshness, &(0..10_000).map(|n| freshness(n, 1, n)).collect::<Vec<_>>());
    eventually("some rows", || (final_rows(&rig) != "0,0,0").then_some(()));

    stack().kill_component(Component::ClickHouse).unwrap();
    rig.produce(&rig.freshness, &(10_000..20_000).map(|n| freshness(n, 1, n)).collect::<Vec<_>>());
    eventually("a retry", || {
        (writer.metric("recwatch_clickhouse_writer_insert_retries_total") > 0.0 && !writer.is_ready()).then_some(())
    });
    eventually("a pause", || (writer.metric("recwatch_clickhouse_writer_paused") > 0.0).then_some(()));
    assert_eq!(writer.worker.exit(), None, "an outage ends no writer");
    writer.worker.kill9().unwrap();
    // A writer that starts while ClickHouse is away waits for it.
    let writer = rig.start("one");
    stack().start_component(Component::ClickHouse).unwrap();

    let expected = expected(0..20_000, |n| n);
    eventually("all rows", || (final_rows(&rig) == expected).then_some(()));
    eventually("the commit", || writer.has_committed(20_000.0).then_some(()));
    writer.stop();
}

#[test]
fn a_row_that_clickhouse_refuses_is_found_and_handed_on_and_the_others_arrive() {
    let rig = Rig::new("consumer");
    rig.command(&["--apply-ddl"]).unwrap();
    rig.sql("ALTER TABLE {db}.session_freshness ADD CONSTRAINT few CHECK events < 1000");
    let mut rows: Vec<_> = (0..500).map(|n| freshness(n, 1, n)).collect();
    let poison = freshness(600, 1, 5000);
    rows.insert(250, poison.clone());
    let writer = rig.start("one");
    eventually("the writer's readiness", || writer.is_ready().then_some(()));
    rig.produce(&rig.freshness, &rows);
    let expected = expected(0..500, |n| n);
    eventually("all rows", || (final_rows(&rig) == expected).then_some(()));
    let letters = rig.letters(1);
    assert_eq!((letters[0].0.as_ref(), letters[0].1.as_ref()), (Some(&poison.0), Some(&poison.1)));
    let headers = &letters[0].2;
    assert_eq!(headers["__connect.errors.exception.class.name"], "refused_by_clickhouse");
    assert_eq!(headers["__connect.errors.stage"], "insert");
    assert!(headers["__connect.errors.exception.message"].contains("Constraint `few`"), "{headers:?}");
    writer.stop();
    assert_eq!(rig.letters(1).len(), 1);
}

#[test]
fn instances_of_the_consumer_protocol_that_come_and_die_share_the_partitions_and_lose_no_row() {
    come_and_die("consumer");
}

#[test]
fn instances_of_the_classic_protocol_that_come_and_die_share_the_partitions_and_lose_no_row() {
    come_and_die("classic");
}

fn come_and_die(protocol: &'static str) {
    let rig = Rig::new(protocol);
    rig.command(&["--apply-ddl"]).unwrap();
    let one = rig.start("one");
    eventually("the first's readiness", || one.is_ready().then_some(()));
    rig.produce(&rig.freshness, &(0..5_000).map(|n| freshness(n, 1, n)).collect::<Vec<_>>());
    let two = rig.start("two");
    eventually("partitions for the second", || two.owns_partitions().then_some(()));
    rig.produce(&rig.freshness, &(5_000..10_000).map(|n| freshness(n, 1, n)).collect::<Vec<_>>());
    one.worker.kill9().unwrap();
    rig.produce(&rig.freshness, &(10_000..12_000).map(|n| freshness(n, 1, n)).collect::<Vec<_>>());
    let expected = expected(0..12_000, |n| n);
    eventually("all rows", || (final_rows(&rig) == expected).then_some(()));
    two.stop();
}

#[test]
fn two_processes_under_one_name_share_the_partitions_and_shut_nobody_out() {
    for protocol in ["consumer", "classic"] {
        let rig = Rig::new(protocol);
        rig.command(&["--apply-ddl"]).unwrap();
        let elder = rig.start("same");
        eventually("the elder one's readiness", || elder.is_ready().then_some(()));
        let younger = rig.start("same");
        eventually("the younger one's partitions", || younger.owns_partitions().then_some(()));
        rig.produce(&rig.freshness, &(0..100).map(|n| freshness(n, 1, n)).collect::<Vec<_>>());
        eventually("all rows", || (final_rows(&rig) == expected(0..100, |n| n)).then_some(()));
        assert!(elder.owns_partitions() && elder.is_ready(), "{protocol}");
        younger.stop();
        rig.produce(&rig.freshness, &(100..200).map(|n| freshness(n, 1, n)).collect::<Vec<_>>());
        eventually("all rows", || (final_rows(&rig) == expected(0..200, |n| n)).then_some(()));
        elder.stop();
    }
}

#[test]
fn what_is_missing_stops_the_start_and_is_named() {
    let rig = Rig::new("consumer");
    let told = rig.command(&[]).unwrap_err();
    for part in [&rig.freshness, &rig.entropy, &rig.dead_letters, "--create-topics"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let told = rig.command(&["--create-topics"]).unwrap_err();
    for part in ["session_freshness does not exist", "session_entropy does not exist", "--apply-ddl"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    rig.command(&["--apply-ddl"]).unwrap();
    rig.sql("ALTER TABLE {db}.session_freshness DROP COLUMN band");
    let told = rig.command(&[]).unwrap_err();
    assert!(told.contains("band (String or LowCardinality(String)) is missing"), "{told}");
}

/// As the view of what fires is asked at 3 a.m.
#[test]
fn after_a_reset_only_what_is_told_since_fires() {
    let rig = Rig::new("consumer");
    rig.command(&["--apply-ddl"]).unwrap();
    // fingerprint, sequence, state, reason, minute of the window's end, second of the insertion
    let told = [
        ("fires", 1, "FIRING", "fired", 10, 1),
        ("ended", 1, "FIRING", "fired", 10, 1),
        ("ended", 2, "RESOLVED", "cleared", 11, 1),
        ("reset", 1, "FIRING", "fired", 10, 1),
        ("reset", 2, "RESOLVED", "state_reset", 10, 2),
        // by a worker that begins anew and has come to where the older words lie
        ("again", 1, "FIRING", "fired", 10, 1),
        ("again", 2, "FIRING", "repeated", 50, 1),
        ("again", 3, "RESOLVED", "state_reset", 50, 2),
        ("again", 1, "FIRING", "fired", 10, 3),
        ("ended again", 1, "FIRING", "fired", 10, 1),
        ("ended again", 2, "FIRING", "repeated", 50, 1),
        ("ended again", 3, "RESOLVED", "state_reset", 50, 2),
        ("ended again", 1, "FIRING", "fired", 10, 3),
        ("ended again", 2, "RESOLVED", "cleared", 11, 3),
    ];
    for (fingerprint, sequence, state, reason, minute, second) in told {
        rig.sql(&format!(
            "INSERT INTO {{db}}.alerts (alert_id, fingerprint, sequence, state, reason, window_end, inserted_at)
             SELECT 'life of {fingerprint}', '{fingerprint}', {sequence}, '{state}', '{reason}',
                    toDateTime64({minute} * 60, 3), toDateTime64({second}, 3)"
        ));
    }
    let firing =
        "SELECT groupArray(fingerprint) FROM (SELECT fingerprint FROM {db}.alerts_firing ORDER BY fingerprint)";
    assert_eq!(rig.sql(firing), "['again','fires']");
}
