//! Cases small enough to be computed by hand, one for each sentence of the definition that is easily got wrong.

mod support;

use grouping::{Dimension, Grouping};
use serde_json::Value;
use streaming::operator::Fold;
use streaming::operator::Merge;
use streaming::output::FoldOutput;
use support::{Driver, Event, Rows, View, default_settings};

const DOMAIN: usize = Dimension::Domain as usize;
const AB_GROUP: usize = Dimension::AbGroup as usize;

fn click(session_id: &str, time: i64) -> Event {
    let mut event = Event { time, session_id: session_id.into(), event_id: format!("e{time}"), ..Event::default() };
    event.dimensions[DOMAIN] = "shop".into();
    event
}

fn play(mut driver: Driver, events: &[Event]) -> Rows {
    events.iter().for_each(|event| assert!(driver.push(0, event), "{event:?} is late"));
    driver.finish(Some(100_000_000));
    driver.rows
}

fn rows_of(events: &[Event]) -> (Vec<Value>, Vec<Value>) {
    let rows = play(Driver::new(default_settings(), 5000, 1, 1), events);
    (parsed(&rows.freshness[0]), parsed(&rows.entropy[0]))
}

fn parsed(rows: &[(Vec<u8>, String)]) -> Vec<Value> {
    rows.iter().map(|(_, row)| serde_json::from_str(row).unwrap()).collect()
}

fn ends(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["window_end"].as_i64().unwrap()).collect()
}

fn near(value: &Value, expected: f64) -> bool {
    (value.as_f64().unwrap() - expected).abs() < 5e-5
}

#[test]
fn gaps_of_7_and_3_in_two_bins_have_0_8813_bits() {
    // 7 gaps below 1 s, then 3 of 2 to 4 s
    let mut time = 1000;
    let mut events = vec![click("s", time)];
    for gap in [500, 500, 500, 500, 500, 500, 500, 2000, 3000, 3999] {
        time += gap;
        events.push(click("s", time));
    }
    let (freshness, entropy) = rows_of(&events);
    let last = &freshness[freshness.len() - 1];
    assert_eq!((last["window_end"].as_i64(), last["events"].as_u64()), (Some(20_000), Some(11)));
    assert!(near(&last["entropy"], 0.8813), "{last}");
    assert!(near(&last["normalised"], 0.8813 / 10.0_f64.log2()), "{last}");
    assert_eq!((&last["band"], &last["decay_factor"]), (&"focused".into(), &0.95.into()));
    let aggregate = entropy.iter().find(|row| row["window_end"] == 20_000).unwrap();
    assert_eq!(aggregate["mean_entropy"], last["entropy"]);
    // freshness 1 - 0.26529 on the grid of thousandths
    assert_eq!([&aggregate["freshness_p05"], &aggregate["freshness_p95"]], [&Value::from(0.735), &Value::from(0.735)]);
}

#[test]
fn windows_are_open_on_the_left_and_closed_on_the_right() {
    let (freshness, entropy) = rows_of(&[click("s", 10_000)]);
    assert_eq!(ends(&freshness), [10_000], "one row a session and slide");
    assert_eq!(freshness[0]["window_start"], -290_000);
    // in (end - 300 s, end] for the ends 10 s to 300 s: at 310 s it lies on the left edge
    assert_eq!(ends(&entropy), (1..=30).map(|end| end * 10_000).collect::<Vec<_>>());
}

#[test]
fn sessions_with_too_few_events_are_counted_but_not_scored() {
    let (freshness, entropy) = rows_of(&[click("alone", 5000)]);
    assert_eq!((&freshness[0]["entropy"], &freshness[0]["freshness"]), (&0.0.into(), &1.0.into()));
    let row = &entropy[0];
    assert_eq!([&row["sessions_total"], &row["events"], &row["sessions"]], [&Value::from(1), &1.into(), &0.into()]);
    for field in ["mean_entropy", "mean_freshness", "freshness_p05", "freshness_p50", "freshness_p95", "share_focused"]
    {
        assert!(row[field].is_null(), "{field} of {row}");
    }
}

#[test]
fn a_session_belongs_to_the_group_of_its_newest_event_of_equal_ones_of_the_greater_id() {
    let event = |time, id: &str, domain: &str| {
        let mut event = click("s", time);
        event.event_id = id.into();
        event.dimensions[DOMAIN] = domain.into();
        event
    };
    // "e9" is the greater text than "e10"
    let (freshness, entropy) = rows_of(&[event(1000, "e9", "a"), event(1000, "e10", "b"), event(15_000, "e1", "c")]);
    assert_eq!([&freshness[0]["domain"], &freshness[1]["domain"]], ["a", "c"]);
    assert_eq!(freshness[0]["events"], 2);
    // from the end of 20 s on the session is in c with all its three events, as long as two of them stay
    let domains: Vec<&str> = entropy.iter().map(|row| row["domain"].as_str().unwrap()).collect();
    assert_eq!((domains[0], &domains[1..31]), ("a", [&"c"; 30].map(|c| *c).as_slice()));
    assert_eq!([&entropy[1]["events"], &entropy[29]["events"], &entropy[30]["events"]], [3, 3, 1]);
}

#[test]
fn time_without_events_is_skipped() {
    let mut driver = Driver::new(default_settings(), 5000, 1, 1);
    let fold = &mut driver.partitions[0].fold;
    assert_eq!(fold.next_end(i64::MIN), None);
    fold.apply(&View(&click("s", 1_000_000_001)), &mut FoldOutput::new(1));
    assert_eq!(fold.next_end(i64::MIN), Some(1_000_010_000));
    assert_eq!(fold.next_end(0), Some(1_000_010_000));
    let rows = play(Driver::new(default_settings(), 5000, 1, 1), &[click("s", 1000), click("s", 50_000_000)]);
    let mut both: Vec<i64> = (1..=30).map(|end| end * 10_000).collect();
    both.extend((0..30).map(|slide| 50_000_000 + slide * 10_000));
    assert_eq!(ends(&parsed(&rows.entropy[0])), both);
}

#[test]
fn groups_above_the_limit_become_one_for_each_merge_key() {
    let mut settings = default_settings();
    settings.grouping = Grouping::new(&[Dimension::Domain, Dimension::AbGroup], &[Dimension::Domain]);
    settings.max_groups = 2;
    let groups = [("books", "a"), ("books", "b"), ("books", "c"), ("books", "d"), ("films", "a"), ("films", "b")];
    let events: Vec<Event> = (1_i64..)
        .zip(groups)
        .map(|(number, (domain, ab_group))| {
            let mut event = click(&format!("s{number}"), number);
            event.dimensions[DOMAIN] = domain.into();
            event.dimensions[AB_GROUP] = ab_group.into();
            event
        })
        .collect();
    for partitions in [1, 3] {
        let mut driver = Driver::new(settings.clone(), 5000, partitions, 1);
        for (at, event) in events.iter().enumerate() {
            assert!(driver.push(at % partitions, event));
        }
        driver.finish(Some(10_000));
        let rows = &driver.rows.entropy[0];
        let keys: Vec<String> = rows.iter().map(|(key, _)| String::from_utf8(key.clone()).unwrap()).collect();
        assert_eq!(keys, ["books|__other__", "books|a", "books|b", "films|__other__"]);
        let sessions: Vec<Value> = parsed(rows).iter().map(|row| row["sessions_total"].clone()).collect();
        assert_eq!(sessions, [2, 1, 1, 2]);
        assert_eq!(driver.merges[0].overflowed(), 4, "with {partitions} partitions");
    }
}

#[test]
fn late_events_change_nothing() {
    let mut driver = Driver::new(default_settings(), 5000, 1, 1);
    assert!(driver.push(0, &click("s", 10_000)));
    assert!(!driver.push(0, &click("s", 5000)), "at the watermark");
    assert!(driver.push(0, &click("s", 5001)));
    driver.finish(Some(10_000));
    assert_eq!(parsed(&driver.rows.freshness[0])[0]["events"], 2);
    assert_eq!(driver.partitions[0].late, 1);
}

#[test]
fn a_snapshot_that_is_damaged_is_refused_and_the_state_stays() {
    let mut driver = Driver::new(default_settings(), 5000, 1, 1);
    for number in 0..50 {
        driver.push(0, &click(&format!("s{}", number % 7), 1000 * number));
    }
    let fold = &mut driver.partitions[0].fold;
    let mut bytes = Vec::new();
    fold.snapshot(&mut bytes);
    for cut in 0..bytes.len() {
        assert!(fold.restore(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut other_version = bytes.clone();
    other_version[0] += 1;
    assert!(fold.restore(&other_version).unwrap_err().to_string().contains("version"));
    let mut again = Vec::new();
    fold.snapshot(&mut again);
    assert_eq!(again, bytes);
}
