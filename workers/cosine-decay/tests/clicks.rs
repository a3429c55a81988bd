//! Pairs of clicks: by hand, and against a recomputation of every window from its raw clicks.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use cosine_decay::clicks::ClicksFold;
use cosine_decay::settings::{Decay, Settings};
use cosine_decay::table::ItemTable;
use grouping::{Dimension, Grouping};
use proptest::prelude::*;
use serde_json::Value;
use streaming::operator::Fold;
use streaming::output::FoldOutput;
use streaming::window::Windows;
use support::{Click, Clicks, HOUR, NoClicks, default_settings, put};

fn click(session_id: &str, time: i64, event_id: &str, item_id: &str) -> Click {
    Click {
        time,
        session_id: session_id.into(),
        event_id: event_id.into(),
        item_id: item_id.into(),
        dimensions: ["shop".into(), String::new(), String::new(), String::new(), "a".into(), String::new()],
    }
}

/// The rows of one partition by their window ends; nothing is out of order.
fn rows(settings: Settings, clicks: &[Click], table: &ItemTable) -> BTreeMap<i64, Value> {
    let mut pipeline = Clicks::new(settings, 0, 1, 1);
    for click in clicks {
        assert!(pipeline.push(0, click, table, i64::MAX));
    }
    pipeline.finish(1_000 * HOUR, table);
    assert_eq!(pipeline.live_keys(), 0, "sessions that are over leave the state");
    let rows = pipeline.merges.sorted().into_iter().map(|row| serde_json::from_str::<Value>(&row).unwrap());
    rows.map(|row| (row["window_end"].as_i64().unwrap(), row)).collect()
}

/// Two items at right angles, and one between them.
fn three_items() -> ItemTable {
    let mut table = ItemTable::new(2);
    put(&mut table, "east", 0, "v1", &[2.0, 0.0]);
    put(&mut table, "north", 0, "v2", &[0.0, 0.5]);
    put(&mut table, "between", 0, "v3", &[1.0, 1.0]);
    table
}

#[test]
fn a_pair_is_told_of_in_each_window_that_covers_its_later_event() {
    let clicks = [click("s", 100_000, "1", "east"), click("s", 120_000, "2", "between")];
    let rows = rows(default_settings(), &clicks, &three_items());
    let ends: Vec<i64> = rows.keys().copied().collect();
    assert_eq!(ends, (12..42).map(|slide| slide * 10_000).collect::<Vec<_>>(), "(e - 5 min, e] covers 2:00");
    let row = &rows[&120_000];
    assert_eq!(
        (&row["window_start"], &row["domain"], &row["ab_group"]),
        (&(-180_000).into(), &"shop".into(), &"a".into())
    );
    assert_eq!((&row["pairs"], &row["missing"], &row["mean_dt_seconds"]), (&1.into(), &0.into(), &20.0.into()));
    let cosine = 0.5_f64.sqrt();
    assert!((row["mean_cosine"].as_f64().unwrap() - cosine).abs() < 1e-15);
    assert!((row["mean_decayed"].as_f64().unwrap() - cosine * (-0.02 * 20.0 / 3600.0_f64).exp()).abs() < 1e-15);
    assert_eq!(row["decayed_p05"], 0.707);
}

#[test]
fn a_day_at_a_decay_of_a_hundredth_leaves_787_thousandths_and_domains_may_have_their_own() {
    let mut settings = default_settings();
    settings.session_gap = 24 * HOUR;
    settings.decay = Decay { lambda: 0.01, by_domain: BTreeMap::from([("shop".to_owned(), 0.05)]) };
    let mut table = ItemTable::new(2);
    put(&mut table, "one", 0, "v", &[1.0, 0.0]);
    put(&mut table, "same", 0, "v", &[3.0, 0.0]);
    let mut clicks = [click("s", HOUR, "1", "one"), click("s", 25 * HOUR, "2", "same")];
    let row = &rows(settings.clone(), &clicks, &table)[&(25 * HOUR)];
    assert_eq!((&row["mean_cosine"], &row["decayed_p50"]), (&1.0.into(), &0.301.into()));
    // the later event's domain is the pair's
    clicks[1].dimensions[0] = "other".into();
    let row = &rows(settings, &clicks, &table)[&(25 * HOUR)];
    assert_eq!((&row["domain"], &row["decayed_p50"]), (&"other".into(), &0.787.into()));
}

#[test]
fn equal_items_long_gaps_and_other_sessions_make_no_pairs_but_are_the_last_click() {
    let clicks = [
        click("s", 100_000, "1", "east"),
        click("t", 101_000, "2", "between"),
        click("s", 102_000, "3", "east"),
        click("s", 103_000, "4", "north"),   // one pair, 1 s after the equal item
        click("t", 1_901_001, "5", "east"),  // 1 ms too late
        click("t", 3_701_001, "6", "north"), // just in time
    ];
    let rows = rows(default_settings(), &clicks, &three_items());
    let pairs: Vec<i64> = rows.values().map(|row| row["window_end"].as_i64().unwrap()).collect();
    let windows = |first: i64| (0..30).map(move |slide| first + slide * 10_000);
    assert_eq!(pairs, windows(110_000).chain(windows(3_710_000)).collect::<Vec<_>>());
    assert_eq!((&rows[&110_000]["mean_dt_seconds"], &rows[&110_000]["mean_cosine"]), (&1.0.into(), &0.0.into()));
    assert_eq!(rows[&3_710_000]["mean_dt_seconds"], 1800.0);
}

#[test]
fn the_fold_tells_how_many_pairs_had_no_vector() {
    let mut clicks = Clicks::new(default_settings(), 1, 1, 1);
    let table = three_items();
    for click in [click("s", 1000, "1", "east"), click("s", 2000, "2", "nowhere"), click("s", 3000, "3", "north")] {
        assert!(clicks.push(0, &click, &table, i64::MAX));
    }
    assert_eq!(clicks.figures(0), []);
    clicks.finish(400_000, &table);
    assert_eq!(clicks.figures(0), [("missing_vectors".to_owned(), "shop".to_owned(), 2)]);
}

#[test]
fn vectors_are_those_as_of_the_later_event_and_pairs_without_one_are_missing() {
    let mut table = ItemTable::new(2);
    put(&mut table, "a", 150_000, "v1", &[1.0, 0.0]);
    put(&mut table, "b", 0, "v2", &[1.0, 0.0]);
    put(&mut table, "b", 200_000, "v3", &[-1.0, 0.0]);
    let clicks = [
        click("s", 100_000, "1", "a"),
        click("s", 149_999, "2", "b"), // a has no vector yet
        click("s", 150_000, "3", "a"), // now it has
        click("s", 200_000, "4", "b"), // which has just turned round
    ];
    let rows = rows(default_settings(), &clicks, &table);
    assert_eq!((&rows[&150_000]["pairs"], &rows[&150_000]["missing"]), (&1.into(), &1.into()));
    assert_eq!(rows[&150_000]["mean_cosine"], 1.0);
    assert_eq!((&rows[&200_000]["pairs"], &rows[&200_000]["mean_cosine"]), (&2.into(), &0.0.into()));
    let last = &rows[&490_000];
    assert_eq!(
        (&last["pairs"], &last["mean_cosine"], &last["decayed_p05"]),
        (&1.into(), &(-1.0).into(), &(-1.0).into())
    );
    assert!(!rows.contains_key(&500_000));
}

#[test]
fn a_group_whose_pairs_are_all_missing_has_a_row_without_means() {
    let clicks = [click("s", 100_000, "1", "east"), click("s", 101_000, "2", "nowhere")];
    let rows = rows(default_settings(), &clicks, &three_items());
    let row = &rows[&110_000];
    assert_eq!((&row["pairs"], &row["missing"]), (&0.into(), &1.into()));
    assert!(["mean_cosine", "mean_decayed", "decayed_p50", "mean_dt_seconds"].iter().all(|name| row[*name].is_null()));
}

#[test]
fn damaged_snapshots_are_refused() {
    let mut fold = ClicksFold::<NoClicks>::new(&default_settings());
    let mut out = streaming::output::FoldOutput::new(1);
    for (time, item) in [(1_000, "east"), (2_000, "north"), (11_000, "between")] {
        fold.apply(&&click("s", time, "e", item), &mut out);
    }
    fold.close(10_000, &three_items(), &mut out);
    let mut bytes = Vec::new();
    fold.snapshot(&mut bytes);
    for cut in 0..bytes.len() {
        assert!(fold.restore(&bytes[..cut]).is_err(), "{cut} of {} bytes", bytes.len());
    }
    fold.restore(&bytes).unwrap();
    assert_eq!(fold.size().keys, 1);

    // the decay of the click that waits: what no configuration can be
    let lambda = default_settings().decay.lambda.to_le_bytes();
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&lambda)).collect();
    assert_eq!(places.len(), 1);
    for wrong in [f64::NAN, f64::INFINITY, -1.0] {
        let mut damaged = bytes.clone();
        damaged[places[0]..places[0] + 8].copy_from_slice(&wrong.to_le_bytes());
        assert!(fold.restore(&damaged).is_err(), "{wrong}");
    }
}

#[derive(Debug, Clone)]
struct Case {
    windows: (i64, i64),
    session_gap: i64,
    dimensions: Vec<Dimension>,
    /// In order of time, with what orders their arrival: below the bound, so that none is late.
    clicks: Vec<(Click, i64)>,
    /// Item, time, event id, vector.
    versions: Vec<(String, i64, String, [f32; 2])>,
}

const BOUND: i64 = 5000;

impl Case {
    fn settings(&self) -> Settings {
        let (slide, slides) = self.windows;
        Settings {
            windows: Windows::new(slide * slides, slide).unwrap(),
            grouping: Grouping::new(&self.dimensions, &[Dimension::Domain]),
            session_gap: self.session_gap,
            // so strong that a second is seen
            decay: Decay { lambda: 20.0, by_domain: BTreeMap::from([("a".to_owned(), 70.0)]) },
            ..default_settings()
        }
    }

    fn table(&self) -> ItemTable {
        let mut table = ItemTable::new(2);
        for (item, time, event, vector) in &self.versions {
            put(&mut table, item, *time, event, vector);
        }
        table
    }

    fn by_arrival(&self) -> Vec<&Click> {
        let mut arrivals: Vec<&(Click, i64)> = self.clicks.iter().collect();
        arrivals.sort_by_key(|(click, delay)| click.time + delay);
        arrivals.into_iter().map(|(click, _)| click).collect()
    }

    fn by_time(&self) -> Vec<&Click> {
        self.clicks.iter().map(|(click, _)| click).collect()
    }

    /// `restarts` says at which clicks a partition is loaded anew, `complete` how far the table is complete then.
    fn run(
        &self,
        clicks: &[&Click],
        (partitions, merge_partitions): (usize, usize),
        restarts: impl Fn(usize) -> bool,
        complete: impl Fn(usize) -> i64,
    ) -> Clicks {
        let table = self.table();
        let mut pipeline = Clicks::new(self.settings(), BOUND, partitions, merge_partitions);
        for (at, click) in clicks.iter().enumerate() {
            let partition = click.session_id.bytes().map(usize::from).sum::<usize>() % partitions;
            assert!(pipeline.push(partition, click, &table, complete(at)), "nothing is late here");
            if restarts(at) {
                pipeline.restart(partition);
            }
        }
        pipeline.finish(1_000_000_000, &table);
        assert_eq!(pipeline.live_keys(), 0, "sessions that are over leave the state");
        pipeline
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let dimensions = prop::sample::subsequence(Dimension::ALL.to_vec(), 0..4);
    let step = prop_oneof![6 => 0_i64..1500, 3 => 0_i64..20_000, 1 => 0_i64..900_000];
    let value = prop::sample::select(vec!["", "a", "b"]);
    let one = (step, 0_u8..5, 0_u8..6, 0_u8..4, prop::collection::vec(value, 6), 0_i64..BOUND);
    let clicks = prop::collection::vec(one, 1..120).prop_map(|steps| {
        let mut time = 0;
        let click = |(step, session, item, id, values, delay): (i64, u8, u8, u8, Vec<&str>, i64)| {
            time += step;
            let click = Click {
                time,
                session_id: format!("session-{session}{}", "x".repeat(usize::from(session) * 9)),
                event_id: format!("e{id}"),
                item_id: format!("item-{item}{}", "x".repeat(usize::from(item) * 9)),
                dimensions: std::array::from_fn(|at| values[at].to_owned()),
            };
            (click, delay)
        };
        let mut clicks: Vec<_> = steps.into_iter().map(click).collect();
        // what a session does at one time in one event is one thing: two would not be told apart
        let mut names = BTreeSet::new();
        clicks.retain(|(click, _)| names.insert((click.time, click.event_id.clone(), click.session_id.clone())));
        clicks
    });
    let component = || prop::sample::select(vec![-2.0_f32, -0.5, 0.25, 1.0, 3.0]);
    let version = (0_u8..5, 0_i64..400_000, 0_u8..3, component(), component());
    let versions = prop::collection::vec(version, 0..25);
    let windows = (prop::sample::select(vec![1000_i64, 10_000, 7000]), 1_i64..40);
    let gap = prop::sample::select(vec![1000_i64, 30_000, 1_800_000]);
    (windows, gap, dimensions, clicks, versions).prop_map(|(windows, session_gap, dimensions, clicks, versions)| {
        let versions = versions.into_iter().map(|(item, time, event, x, y)| {
            (format!("item-{item}{}", "x".repeat(usize::from(item) * 9)), time, format!("v{event}"), [x, y])
        });
        Case { windows, session_gap, dimensions, clicks, versions: versions.collect() }
    })
}

/// (time, group, dt, cosine and decayed)
type Pair = (i64, Vec<String>, i64, Option<(f64, f64)>);

fn expected_pairs(case: &Case) -> Vec<Pair> {
    let mut clicks = case.by_time();
    clicks.sort_by_key(|click| (click.time, click.event_id.clone()));
    let mut versions: BTreeMap<(&str, i64, &str), [f32; 2]> = BTreeMap::new();
    for (item, time, event, vector) in &case.versions {
        versions.insert((item, *time, event), *vector);
    }
    let as_of = |wanted: &str, at: i64| {
        let of_item = versions.iter().filter(|((item, time, _), _)| *item == wanted && *time <= at);
        of_item.max_by_key(|((_, time, event), _)| (*time, *event)).map(|(_, vector)| vector.map(f64::from))
    };
    let mut before: BTreeMap<&str, &Click> = BTreeMap::new();
    let mut pairs = Vec::new();
    for click in clicks {
        let Some(earlier) = before.insert(&click.session_id, click) else { continue };
        let dt = click.time - earlier.time;
        if earlier.item_id == click.item_id || dt > case.session_gap {
            continue;
        }
        let lambda = if click.dimensions[0] == "a" { 70.0 } else { 20.0 };
        let vectors = as_of(&earlier.item_id, click.time).zip(as_of(&click.item_id, click.time));
        let similarity = vectors.map(|(a, b)| {
            let cosine = (a[0] * b[0] + a[1] * b[1]) / (a[0].hypot(a[1]) * b[0].hypot(b[1]));
            (cosine, cosine * (-lambda * dt as f64 / HOUR as f64).exp())
        });
        let group = case.dimensions.iter().map(|dimension| click.dimensions[*dimension as usize].clone());
        pairs.push((click.time, group.collect(), dt, similarity));
    }
    pairs
}

type Expected = BTreeMap<(i64, Vec<String>), BTreeMap<&'static str, Option<f64>>>;

fn expected(case: &Case, pairs: &[Pair]) -> Expected {
    let (slide, slides) = case.windows;
    let mut rows = Expected::new();
    let mut windows: BTreeMap<(i64, Vec<String>), Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        let first = (pair.0 + slide - 1).div_euclid(slide) * slide;
        for end in (0..slides).map(|at| first + at * slide) {
            windows.entry((end, pair.1.clone())).or_default().push(pair);
        }
    }
    for (key, pairs) in windows {
        let known: Vec<(i64, f64, f64)> =
            pairs.iter().filter_map(|pair| pair.3.map(|(cosine, decayed)| (pair.2, cosine, decayed))).collect();
        let n = known.len();
        let mut grid: Vec<f64> = known.iter().map(|(.., decayed)| (1000.0 * decayed + 0.5).floor() / 1000.0).collect();
        grid.sort_by(f64::total_cmp);
        let quantile = |per_cent: usize| grid.get((n * per_cent).div_ceil(100).max(1) - 1).copied();
        let mean = |sum: f64| (n > 0).then_some(sum / n as f64);
        let row = BTreeMap::from([
            ("window_start", Some((key.0 - slide * slides) as f64)),
            ("pairs", Some(n as f64)),
            ("missing", Some((pairs.len() - n) as f64)),
            ("mean_cosine", mean(known.iter().map(|pair| pair.1).sum())),
            ("mean_decayed", mean(known.iter().map(|pair| pair.2).sum())),
            ("mean_dt_seconds", mean(known.iter().map(|pair| pair.0 as f64 / 1000.0).sum())),
            ("decayed_p05", quantile(5)),
            ("decayed_p50", quantile(50)),
            ("decayed_p95", quantile(95)),
        ]);
        rows.insert(key, row);
    }
    rows
}

/// Where a tie on the grid lies within rounding, the last digit decides: no test can.
fn is_near_an_edge(decayed: f64) -> bool {
    let thousandths = 1000.0 * decayed + 0.5;
    (thousandths - thousandths.round()).abs() < 1e-6
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_those_of_a_recomputation_from_raw_clicks(case in cases(), partitions in 1_usize..5) {
        let pairs = expected_pairs(&case);
        prop_assume!(!pairs.iter().any(|pair| pair.3.is_some_and(|(_, decayed)| is_near_an_edge(decayed))));
        let expected = expected(&case, &pairs);
        let pipeline = case.run(&case.by_arrival(), (partitions, 2), |_| false, |_| i64::MAX);
        let rows = pipeline.merges.sorted();
        for row in &rows {
            let row: Value = serde_json::from_str(row).unwrap();
            let group = case.dimensions.iter().map(|dimension| row[dimension.name()].as_str().unwrap().to_owned());
            let key = (row["window_end"].as_i64().unwrap(), group.collect());
            let Some(fields) = expected.get(&key) else {
                return Err(TestCaseError::fail(format!("nobody expects {row}")));
            };
            for (name, value) in fields {
                let got = row[name].as_f64();
                prop_assert_eq!(got.is_some(), value.is_some(), "{} of {:?}", name, key);
                let difference = got.unwrap_or_default() - value.unwrap_or_default();
                prop_assert!(difference.abs() < 1e-9, "{} of {:?} is {:?}, not {:?}", name, key, got, value);
            }
        }
        prop_assert_eq!(rows.len(), expected.len(), "rows are missing");
    }

    #[test]
    fn neither_order_nor_partitions_restarts_or_a_late_table_change_a_bit(
        case in cases(), partitions in 2_usize..8, restarts: u64, lag in 0_i64..60_000
    ) {
        let plain = case.run(&case.by_time(), (1, 2), |_| false, |_| i64::MAX).merges.rows;
        let restarting = |at: usize| restarts >> (at % 61) & 1 == 1;
        let clicks = case.by_arrival();
        // the table is complete up to some time before the click, or not at all for a while
        let lagging = |at: usize| if at < clicks.len() / 3 { i64::MIN } else { clicks[at].time - lag };
        let disturbed = case.run(&clicks, (1, 2), restarting, lagging).merges.rows;
        prop_assert_eq!(&plain, &disturbed);
        let split = case.run(&clicks, (partitions, 2), restarting, lagging).merges.rows;
        prop_assert_eq!(&plain, &split);
    }
}

fn small_fold() -> ClicksFold<NoClicks> {
    let windows = Windows::new(300, 100).unwrap();
    ClicksFold::new(&Settings { windows, session_gap: 250, ..default_settings() })
}

fn apply(fold: &mut ClicksFold<NoClicks>, at: usize, time: i64) {
    fold.apply(&&click("s", time, &at.to_string(), ["east", "north"][at % 2]), &mut FoldOutput::new(1));
}

proptest! {
    #[test]
    fn closing_makes_progress_at_all_times(steps in fold_tests::any_steps()) {
        let windows = Windows::new(300, 100).unwrap();
        // the end at which its session expires besides
        fold_tests::closing_makes_progress(small_fold(), &three_items(), windows, 3 + 3, steps, apply)?;
    }

    #[test]
    fn damaged_snapshots_are_refused_or_gone_on_with_and_nothing_panics(damage in fold_tests::any_damage()) {
        fold_tests::damaged_snapshots_are_refused_or_gone_on_with(small_fold, &three_items(), damage, apply)?;
    }
}
