//! Cases small enough to be computed by hand, one for each sentence of the definition that is easily got wrong.

mod support;

use std::cell::RefCell;

use domain_drift::distance::ScaledBy;
use domain_drift::history::{Pin, Pinned};
use domain_drift::merge::DriftMerge;
use domain_drift::pairs::{Pair, Pairs};
use domain_drift::projector::{Normalise, Projector};
use domain_drift::settings::Settings;
use measures::{Directions, Scale};
use serde_json::Value;
use streaming::operator::{Fold, Merge};
use streaming::output::{FoldOutput, MergeOutput};
use streaming::window::Windows;
use support::{Driver, Event, JsonRows, View};

/// Vectors of one component on the one direction there is: a projection is the vector's value, from 0 to 8 in bins of
/// 1/64; windows of a minute every 10 seconds.
fn settings() -> Settings {
    let directions = Directions::new(1, 1, 42);
    assert_eq!(directions.component(0, 0), 1.0);
    Settings {
        windows: Windows::new(60_000, 10_000).unwrap(),
        projector: Projector::new(directions, Scale::new(0.0, 8.0, 512).unwrap(), Normalise::None),
        scaled_by: ScaledBy::TargetSigma,
        reference: 0.9,
        min_users: 2,
        pairs: Pairs::All { max: 100 },
        self_offset: None,
        sinkhorn: None,
        max_domains: 10,
        revision: 7,
    }
}

fn vector(time: i64, domain: &str, user_id: &str, value: f32) -> Event {
    let event_id = format!("e{time}");
    Event { time, domain: domain.into(), user_id: user_id.into(), event_id, vector: vec![value] }
}

fn listed(pairs: &[(&[&str], &str)]) -> Pairs {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Pairs::Listed(
        pairs.iter().map(|(sources, target)| Pair { sources: owned(sources), target: (*target).to_owned() }).collect(),
    )
}

/// A day of two users of `a` at 1 and 2, and two of `b` at 2 and 4.
fn two_domains() -> Vec<Event> {
    vec![
        vector(1000, "a", "u1", 1.0),
        vector(1001, "b", "u1", 2.0),
        vector(1002, "b", "u2", 4.0),
        vector(1003, "a", "u2", 2.0),
    ]
}

fn play(settings: Settings, events: &[Event], until: i64) -> Driver {
    let mut driver = Driver::new(settings, 5000, 1);
    events.iter().for_each(|event| assert!(driver.push(0, event), "{event:?} is late"));
    driver.finish(Some(until));
    driver
}

fn at(rows: &[Value], end: i64) -> Vec<&Value> {
    rows.iter().filter(|row| row["window_end"] == end).collect()
}

fn ends(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["window_end"].as_i64().unwrap()).collect()
}

fn near(value: &Value, expected: f64) -> bool {
    (value.as_f64().unwrap() - expected).abs() < 1e-6
}

#[test]
fn two_domains_have_one_row_with_the_lesser_name_as_source() {
    let driver = play(settings(), &two_domains(), 10_000);
    let rows = driver.parsed();
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!(driver.rows[0].0, "pair|a|b");
    assert_eq!([&row["window_start"], &row["window_end"]], [&Value::from(-50_000), &10_000.into()]);
    assert_eq!([&row["kind"], &row["sources"], &row["target"]], ["pair", "a", "b"]);
    assert_eq!([&row["n"], &row["m"], &row["revision"]], [&Value::from(2), &2.into(), &7.into()]);
    // 1 moves to 2 and 2 to 4; the target's deviation is 1
    assert!(near(&row["w1"], 1.5) && near(&row["max_sliced"], 1.5) && near(&row["w1_scaled"], 1.5), "{row}");
    assert!(
        near(&row["gamma_raw"], 1.5 / 0.9) && near(&row["gamma"], 0.95) && near(&row["traffic_share"], 0.4),
        "{row}"
    );
    // pooled 1, 2, 2, 4: F is 1/4 from 1 to 2 and 3/4 from 2 to 4
    let integral = 3.0_f64.sqrt() / 4.0 * 3.0;
    assert!(near(&row["noise_floor"], (2.0 / std::f64::consts::PI).sqrt() * integral), "{row}");
    assert_eq!((&row["significant"], &row["sinkhorn"]), (&false.into(), &Value::Null));
}

#[test]
fn the_newest_vector_of_a_user_in_a_domain_counts_of_equal_ones_that_of_the_greater_event() {
    let mut events = two_domains();
    let version = |time, event_id: &str, value| Event { event_id: event_id.into(), ..vector(time, "b", "u1", value) };
    // "e9" is the greater text than "e10"; at 15 s there is a newer one, out of order
    events.extend([
        version(3000, "e9", 3.0),
        version(3000, "e10", 7.0),
        version(15_000, "e1", 6.0),
        version(14_000, "e2", 5.0),
    ]);
    let rows = play(settings(), &events, 20_000).parsed();
    // {1, 2} to {3, 4}, then to {4, 6}
    assert!(near(&at(&rows, 10_000)[0]["w1"], 2.0), "{rows:?}");
    assert!(near(&at(&rows, 20_000)[0]["w1"], 3.5), "{rows:?}");
    assert!(rows.iter().all(|row| row["m"] == 2));
}

#[test]
fn windows_are_open_on_the_left_and_closed_on_the_right() {
    let events = [vector(10_000, "a", "u", 1.0), vector(10_000, "b", "u", 2.0)];
    let driver = play(settings(), &events, 1_000_000);
    // in (end - 60 s, end] for the ends 10 s to 60 s: at 70 s they lie on the left edge
    assert_eq!(ends(&driver.parsed()), [10_000, 20_000, 30_000, 40_000, 50_000, 60_000]);
    assert_eq!(driver.live_keys(), 0);
}

#[test]
fn a_user_stays_as_long_as_the_newest_vector_does() {
    let events = [vector(10_000, "a", "u", 1.0), vector(10_000, "b", "u", 2.0), vector(30_000, "b", "u", 5.0)];
    let mut long = settings();
    long.pairs = listed(&[(&["b"], "b")]);
    let rows = play(long, &events, 1_000_000).parsed();
    assert_eq!(ends(&rows), [10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000]);
    assert!(rows.iter().all(|row| row["n"] == 1 && row["w1"] == 0.0), "{rows:?}");
}

#[test]
fn too_few_users_have_distances_but_no_coefficient() {
    let mut rules = settings();
    rules.min_users = 3;
    let rows = play(rules, &two_domains(), 10_000).parsed();
    assert!(near(&rows[0]["w1_scaled"], 1.5));
    for field in ["gamma_raw", "gamma", "traffic_share"] {
        assert!(rows[0][field].is_null(), "{field}");
    }
}

#[test]
fn listed_pairs_pool_the_sources_that_are_there() {
    let mut rules = settings();
    rules.pairs = listed(&[(&["a", "gone", "b"], "c"), (&["gone"], "c"), (&["a"], "gone"), (&["c"], "a")]);
    let mut events = two_domains();
    events.push(vector(1004, "c", "u1", 2.0));
    let driver = play(rules, &events, 10_000);
    let keys: Vec<&str> = driver.rows.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["pair|a+gone+b|c", "pair|c|a"]);
    let row = &driver.parsed()[0];
    // u1 and u2 are in both sources: four samples, 1, 2, 2, 4, against 2
    assert_eq!([&row["n"], &row["m"]], [4, 1]);
    assert!(near(&row["w1"], 0.75) && row["w1_scaled"].is_null(), "{row}");
}

#[test]
fn domains_above_the_limit_become_one_but_not_those_that_pairs_name() {
    let names = ["a", "b", "c", "d", "__other__"];
    let events: Vec<Event> =
        (1_i64..).zip(names).map(|(number, name)| vector(number, name, &format!("u{number}"), number as f32)).collect();
    for partitions in [1, 3] {
        let run = |pairs: Pairs| {
            let mut driver = Driver::new(Settings { pairs, max_domains: 2, ..settings() }, 5000, partitions);
            for (at, event) in events.iter().enumerate() {
                assert!(driver.push(at % partitions, event));
            }
            driver.finish(Some(10_000));
            driver
        };
        // "__other__" comes before letters: it and "a" stay, and it takes in "b", "c" and "d"
        let driver = run(Pairs::All { max: 100 });
        let row = &driver.parsed()[0];
        assert_eq!([&row["sources"], &row["target"]], ["__other__", "a"]);
        assert_eq!((driver.rows.len(), &row["n"], &row["m"]), (1, &4.into(), &1.into()));
        assert_eq!(driver.merge.overflowed(), 3, "with {partitions} partitions");

        let driver = run(listed(&[(&["d"], "a"), (&["c"], "a")]));
        assert_eq!(driver.rows.len(), 2);
        assert_eq!(driver.merge.overflowed(), 0, "with {partitions} partitions");
    }
}

#[test]
fn pairs_above_the_limit_are_left_out_and_counted() {
    let events: Vec<Event> = (1_i64..).zip(["a", "b", "c"]).map(|(time, name)| vector(time, name, "u", 1.0)).collect();
    let driver = play(Settings { pairs: Pairs::All { max: 2 }, ..settings() }, &events, 10_000);
    let keys: Vec<&str> = driver.rows.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["pair|a|b", "pair|a|c"]);
    assert_eq!(driver.merge.overflowed(), 1);
}

#[test]
fn the_merge_tells_the_samples_of_its_newest_window_and_how_much_past_it_keeps() {
    let driver = play(settings(), &two_domains()[..3], 10_000);
    let figures = driver.merge.figures();
    let figures: Vec<_> = figures.iter().map(|figure| (figure.name, figure.of, figure.value)).collect();
    assert_eq!(figures, [("samples", "a", 1), ("samples", "b", 2)]);
    assert_eq!(driver.merge.size().keys, 0);
    let with_past = Settings { self_offset: Some(120_000), ..settings() };
    let [two, three] = [20_000, 30_000].map(|until| play(with_past.clone(), &two_domains(), until).merge.size());
    // two equal domains in each window
    assert_eq!((two.keys, three.keys, two.bytes * 3), (4, 6, three.bytes * 2));
}

#[test]
fn a_domain_is_compared_with_its_own_past() {
    let rules = Settings { pairs: listed(&[]), self_offset: Some(120_000), ..settings() };
    let mut events = vec![vector(1000, "a", "u1", 1.0), vector(1001, "a", "u2", 3.0), vector(1002, "b", "u1", 3.0)];
    events.extend([vector(121_000, "a", "u1", 2.0), vector(121_001, "a", "u3", 4.0), vector(121_002, "c", "u1", 4.0)]);
    let mut driver = Driver::new(rules, 5000, 1);
    for event in &events {
        assert!(driver.push(0, event));
        driver.advance_merge();
        driver.restart_merge();
    }
    driver.finish(Some(1_000_000));
    let rows = driver.parsed();
    // b has no present, c no past
    assert_eq!(ends(&rows), [130_000, 140_000, 150_000, 160_000, 170_000, 180_000]);
    for row in &rows {
        assert_eq!([&row["kind"], &row["sources"], &row["target"]], ["self", "a", "a"]);
        assert_eq!([&row["n"], &row["m"]], [2, 2]);
        assert!(near(&row["w1"], 1.0) && near(&row["w1_scaled"], 1.0), "{row}");
    }
}

#[test]
fn a_pinned_reference_takes_the_place_of_the_past_and_survives_a_restart() {
    let rules = Settings { pairs: listed(&[]), self_offset: Some(10_000), ..settings() };
    let mut driver = Driver::new(rules, 5000, 1);
    let pin = |window_end| Pin { domain: "a".to_owned(), window_end };
    for (number, value) in [(0, 1.0), (1, 3.0), (2, 7.0), (3, 2.0)] {
        assert!(driver.push(0, &vector(10_000 * number + 1, "a", "u", value)));
    }
    assert_eq!(driver.pin(&pin(Some(20_000))), Pinned::Later);
    driver.restart_merge();
    driver.finish(Some(40_000));
    assert_eq!(driver.pin(&pin(Some(10_000))), Pinned::Unknown);
    let distances: Vec<(i64, f64)> =
        driver.parsed().iter().map(|row| (row["window_end"].as_i64().unwrap(), row["w1"].as_f64().unwrap())).collect();
    // at 20 s against 10 s, then against 20 s
    assert_eq!(distances, [(20_000, 2.0), (30_000, 4.0), (40_000, 1.0)]);

    driver.restart_merge();
    assert_eq!(driver.pin(&pin(None)), Pinned::Removed);
    driver.rows.clear();
    assert!(driver.push(0, &vector(49_999, "a", "u", 8.0)));
    driver.finish(Some(50_000));
    assert!(near(&driver.parsed()[0]["w1"], 6.0 - 1.0 / 64.0), "8 lies in the last bin");
}

#[test]
fn what_becomes_of_a_pin_is_told_also_where_its_window_comes_without_users() {
    thread_local!(static TOLD: RefCell<Vec<(String, Option<i64>, Pinned)>> = const { RefCell::new(Vec::new()) });
    let rules = Settings { pairs: listed(&[]), ..settings() };
    let mut driver = Driver::new(rules.clone(), 5000, 1);
    driver.merge = DriftMerge::new(&rules, JsonRows).telling(|pin, pinned| {
        TOLD.with_borrow_mut(|told| told.push((pin.domain.clone(), pin.window_end, pinned)));
    });
    let command = |driver: &mut Driver, domain: &str, window_end: Option<i64>| {
        let pin = serde_json::to_vec(&Pin { domain: domain.to_owned(), window_end }).unwrap();
        driver.merge.command(&pin, &mut MergeOutput::default());
    };
    command(&mut driver, "a", Some(20_000));
    command(&mut driver, "b", Some(20_000));
    assert!(driver.push(0, &vector(1, "a", "u", 1.0)));
    driver.finish(Some(40_000));
    command(&mut driver, "a", Some(10_000));
    command(&mut driver, "a", None);
    let expected = [
        ("a", Some(20_000), Pinned::Later),
        ("b", Some(20_000), Pinned::Later),
        ("b", Some(20_000), Pinned::Unknown),
        ("a", Some(10_000), Pinned::Unknown),
        ("a", None, Pinned::Removed),
    ];
    assert_eq!(TOLD.take(), expected.map(|(domain, end, pinned)| (domain.to_owned(), end, pinned)));
}

#[test]
fn projections_outside_of_the_range_lie_in_the_end_bins_and_are_counted() {
    let events =
        [vector(1, "a", "u1", -5.0), vector(2, "a", "u2", 1.0), vector(3, "b", "u1", 9.0), vector(4, "b", "u2", 8.0)];
    let rows = play(settings(), &events, 10_000).parsed();
    assert_eq!(rows[0]["out_of_range"], 2);
    // from the middle of the first bin, and 1, to the last bin; the deviation is that of 9 and 8 themselves
    let last = 8.0 - 1.0 / 128.0;
    let w1 = (last - 1.0 / 128.0 + last - 1.0 - 1.0 / 128.0) / 2.0;
    assert!(near(&rows[0]["w1"], w1) && near(&rows[0]["w1_scaled"], w1 / 0.5), "{}", rows[0]);
}

#[test]
fn time_without_vectors_is_skipped() {
    let mut fold = Driver::new(settings(), 5000, 1).partitions.remove(0).fold;
    assert_eq!(fold.next_end(i64::MIN), None);
    fold.apply(&View(&vector(1_000_000_001, "a", "u", 1.0)), &mut FoldOutput::new(1));
    assert_eq!(fold.next_end(i64::MIN), Some(1_000_010_000));
    assert_eq!(fold.next_end(0), Some(1_000_010_000));
}

#[test]
fn late_vectors_change_nothing() {
    let mut driver = Driver::new(settings(), 5000, 1);
    assert!(driver.push(0, &vector(10_000, "a", "u", 1.0)));
    assert!(!driver.push(0, &vector(5000, "b", "u", 1.0)), "at the watermark");
    assert!(driver.push(0, &vector(5001, "b", "u", 1.0)));
    driver.finish(Some(10_000));
    assert_eq!((driver.rows.len(), driver.partitions[0].late), (1, 1));
}

#[test]
fn a_snapshot_that_is_damaged_is_refused_and_the_state_stays() {
    let rules = Settings { self_offset: Some(10_000), ..settings() };
    let mut driver = Driver::new(rules, 5000, 1);
    for number in 0..50_u8 {
        driver.push(
            0,
            &vector(1000 * i64::from(number), ["a", "b"][usize::from(number % 2)], &format!("u{}", number % 7), 1.0),
        );
        driver.advance_merge();
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

    let mut bytes = Vec::new();
    driver.merge.snapshot(&mut bytes);
    for cut in 0..bytes.len() {
        assert!(driver.merge.restore(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut again = Vec::new();
    driver.merge.snapshot(&mut again);
    assert_eq!(again, bytes);
}
