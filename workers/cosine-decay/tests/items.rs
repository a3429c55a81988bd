//! Versions of items: decay rates and requests for retraining by hand, and against a recomputation from all versions.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use cosine_decay::items::ItemsFold;
use cosine_decay::settings::{Retraining, Settings};
use proptest::prelude::*;
use serde_json::Value;
use streaming::operator::{Fold, Table};
use streaming::output::FoldOutput;
use streaming::window::Windows;
use support::{HOUR, Items, JsonRows, NoVersions, Version, default_settings};

const MINUTES: i64 = 60_000;

fn version(item_id: &str, time: i64, event_id: &str, vector: &[f32]) -> Version {
    let (item_id, event_id) = (item_id.to_owned(), event_id.to_owned());
    Version { time, event_id, item_id, domain: "shop".to_owned(), vector: vector.to_vec() }
}

fn run(settings: Settings, versions: &[Version]) -> Items {
    let mut items = Items::new(settings, 1, 1);
    for version in versions {
        assert!(items.push(0, version));
    }
    items.finish(1_000 * HOUR);
    items
}

/// Rows of decay rates by window end.
fn rates(items: &Items) -> BTreeMap<i64, Value> {
    let rows = items.merges.sorted().into_iter().map(|row| serde_json::from_str::<Value>(&row).unwrap());
    rows.map(|row| (row["window_end"].as_i64().unwrap(), row)).collect()
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap()
}

#[test]
fn a_rate_is_fitted_to_the_updates_of_a_day() {
    // 45 degrees in 12 h, and nothing in 18 h: 12 * ln(2) / 2 / (12^2 + 18^2)
    let versions = [
        version("a", HOUR, "1", &[1.0, 0.0]),
        version("b", HOUR, "2", &[0.0, 1.0]),
        version("a", 13 * HOUR, "3", &[2.0, 2.0]),
        version("b", 19 * HOUR, "4", &[0.0, 7.0]),
    ];
    let rates = rates(&run(default_settings(), &versions));
    let first = 13 * HOUR;
    assert_eq!(
        rates.keys().copied().collect::<Vec<_>>(),
        (0..180).map(|at| first + at * 10 * MINUTES).collect::<Vec<_>>()
    );
    let y = std::f64::consts::LN_2 / 2.0;
    let one = &rates[&first];
    assert_eq!(
        (&one["domain"], &one["updates"], &one["window_start"]),
        (&"shop".into(), &1.into(), &(-11 * HOUR).into())
    );
    assert!((number(one, "lambda_hat") - y / 12.0).abs() < 1e-12);
    assert!((number(one, "half_life_hours") - 24.0).abs() < 1e-9 && (number(one, "retention_24h") - 0.5).abs() < 1e-12);
    let both = &rates[&(19 * HOUR)];
    assert_eq!(both["updates"], 2);
    assert!((number(both, "lambda_hat") - 12.0 * y / 468.0).abs() < 1e-12);
    let last = &rates[&(42 * HOUR + 50 * MINUTES)];
    assert_eq!(
        (&last["updates"], &last["lambda_hat"], &last["half_life_hours"]),
        (&1.into(), &0.0.into(), &Value::Null)
    );
}

#[test]
fn versions_of_one_time_are_no_update_and_the_greater_id_is_the_newer_one() {
    let versions = [
        version("a", HOUR, "2", &[1.0, 0.0]),
        version("a", HOUR, "1", &[0.0, 1.0]),
        version("a", 2 * HOUR, "3", &[1.0, 0.0]),
    ];
    let items = run(default_settings(), &versions);
    let rates = rates(&items);
    assert_eq!((&rates[&(2 * HOUR)]["updates"], &rates[&(2 * HOUR)]["lambda_hat"]), (&1.into(), &0.0.into()));
    assert_eq!(items.table.as_of("a", HOUR), Some(&[1.0, 0.0][..]));
}

#[test]
fn an_update_belongs_to_the_domain_of_the_newer_version() {
    let mut versions = [version("a", HOUR, "1", &[1.0, 0.0]), version("a", 2 * HOUR, "2", &[1.0, 1.0])];
    versions[1].domain = "other".to_owned();
    assert_eq!(rates(&run(default_settings(), &versions))[&(2 * HOUR)]["domain"], "other");
}

#[test]
fn a_deletion_ends_an_items_history() {
    let versions = [
        version("a", HOUR, "1", &[1.0, 0.0]),
        version("a", 2 * HOUR, "", &[]),
        version("a", 3 * HOUR, "3", &[0.0, 1.0]),
        version("b", 3 * HOUR, "4", &[0.0, 1.0]),
        version("b", 4 * HOUR, "", &[]),
    ];
    let mut items = run(default_settings(), &versions);
    assert_eq!(rates(&items).len(), 0);
    let as_of = |items: &Items, time: i64| items.table.as_of("a", time).map(<[f32]>::to_vec);
    let vectors = [HOUR, 2 * HOUR, 3 * HOUR].map(|time| as_of(&items, time));
    assert_eq!(vectors, [Some(vec![1.0, 0.0]), None, Some(vec![0.0, 1.0])]);
    // the partition's mark is just below 4 h: nothing counts for sure before
    items.prune(4 * HOUR - 1);
    assert_eq!((items.table.size().keys, items.live_keys()), (5, 2));
    items.prune(4 * HOUR);
    assert_eq!((items.table.size().keys, items.live_keys()), (1, 1));
    assert_eq!(as_of(&items, 4 * HOUR), Some(vec![0.0, 1.0]));
}

/// An item of norm 0.25 turns away from its only neighbour, 0.05 of a cosine with each version.
fn drifting(norm: f32) -> Vec<Version> {
    let mut versions = vec![version("fixed", 0, "0", &[1.0, 0.0])];
    for step in 0..14_i32 {
        let cosine = 1.0 - 0.05 * step as f32;
        let vector = [norm * cosine, norm * (1.0 - cosine * cosine).sqrt()];
        versions.push(version("drifting", i64::from(step + 1) * HOUR, &format!("{step}"), &vector));
    }
    versions
}

#[test]
fn an_item_that_leaves_its_neighbours_and_is_weak_asks_for_retraining_once() {
    let items = run(default_settings(), &drifting(0.25));
    assert_eq!(items.requests.keys().collect::<Vec<_>>(), ["drifting"]);
    assert_eq!(items.requests["drifting"].len(), 1);
    let request: Value = serde_json::from_str(&items.requests["drifting"][0]).unwrap();
    // the first with ten observations; its cosine is 1 - 9 * 0.05
    assert_eq!((&request["event_time"], &request["observations"]), (&(10 * HOUR).into(), &10.into()));
    assert!((number(&request, "observation") - 0.55).abs() < 1e-6 && (number(&request, "slope") + 0.05).abs() < 1e-6);
    assert!((number(&request, "norm") - 0.25).abs() < 1e-6);
    assert_eq!((&request["domain"], &request["model_version"]), (&"shop".into(), &"model".into()));

    assert!(run(default_settings(), &drifting(0.3001)).requests.is_empty(), "its vector is strong enough");
    let never = Settings { retraining: None, ..default_settings() };
    assert!(run(never, &drifting(0.25)).requests.is_empty());
}

#[test]
fn damaged_snapshots_are_refused() {
    use cosine_decay::items::ItemsFold;
    use streaming::operator::Fold;
    let mut fold = ItemsFold::<support::NoVersions, _>::new(&default_settings(), support::JsonRows);
    let mut out = streaming::output::FoldOutput::new(1);
    for (at, version) in drifting(0.25).iter().enumerate().take(4) {
        fold.apply(&version, &mut out);
        if at == 2 {
            let table = cosine_decay::table::ItemTable::new(2);
            fold.close(2 * HOUR, &table, &mut out);
            assert_eq!(fold.go_on_closing(2 * HOUR, &table, &mut out), streaming::operator::Closing::Done);
        }
    }
    let mut bytes = Vec::new();
    fold.snapshot(&mut bytes);
    for cut in 0..bytes.len() {
        assert!(fold.restore(&bytes[..cut]).is_err(), "{cut} of {} bytes", bytes.len());
    }
    fold.restore(&bytes).unwrap();
    assert_eq!(fold.size().keys, 2);
}

#[derive(Debug, Clone)]
struct Case {
    slides: i64,
    rule: Retraining,
    /// In order of time, with what orders their arrival: below the bound, so that none is late.
    versions: Vec<(Version, i64)>,
}

const BOUND: i64 = 5000;
const SLIDE: i64 = 60_000;

impl Case {
    fn settings(&self) -> Settings {
        Settings {
            rate_windows: Windows::new(SLIDE * self.slides, SLIDE).unwrap(),
            retraining: Some(self.rule),
            ..default_settings()
        }
    }

    fn by_arrival(&self) -> Vec<&Version> {
        let mut arrivals: Vec<&(Version, i64)> = self.versions.iter().collect();
        arrivals.sort_by_key(|(version, delay)| version.time + delay);
        arrivals.into_iter().map(|(version, _)| version).collect()
    }

    fn by_time(&self) -> Vec<&Version> {
        self.versions.iter().map(|(version, _)| version).collect()
    }

    /// `disturbed` says after which versions a partition is loaded anew, and entries go that nobody needs.
    fn run(&self, versions: &[&Version], partitions: usize, disturbed: impl Fn(usize) -> bool) -> Items {
        self.run_on(Items::new(self.settings(), BOUND, partitions), versions, partitions, disturbed)
    }

    fn run_on(
        &self,
        mut items: Items,
        versions: &[&Version],
        partitions: usize,
        disturbed: impl Fn(usize) -> bool,
    ) -> Items {
        for (at, version) in versions.iter().enumerate() {
            let partition = version.item_id.bytes().map(usize::from).sum::<usize>() % partitions;
            assert!(items.push(partition, version), "nothing is late here");
            if disturbed(at) {
                items.restart(partition);
                items.prune(self.settings().rate_windows.floor(items.complete()));
            }
        }
        items.finish(1_000_000_020_000);
        items
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let step = prop_oneof![2 => Just(0), 6 => 0_i64..9000, 3 => 0_i64..100_000, 1 => 0_i64..900_000];
    let component = || prop::sample::select(vec![-2.0_f32, -0.5, -0.125, 0.25, 1.0, 3.0]);
    let one = (step, 0_u8..6, 0_u8..4, 0_u8..3, component(), component(), 0_i64..BOUND);
    let versions = prop::collection::vec(one, 1..100).prop_map(|steps| {
        let mut time = 0;
        let mut names = BTreeSet::new();
        let version = |(step, item, event, domain, x, y, delay): (i64, u8, u8, u8, f32, f32, i64)| {
            time += step;
            let version = Version {
                time,
                event_id: format!("v{event}"),
                item_id: format!("item-{item}{}", "x".repeat(usize::from(item) * 9)),
                domain: format!("domain-{domain}"),
                vector: vec![x, y],
            };
            (version, delay)
        };
        let mut versions: Vec<_> = steps.into_iter().map(version).collect();
        // one event says one thing
        versions.retain(|(version, _)| names.insert((version.item_id.clone(), version.time, version.event_id.clone())));
        versions
    });
    let rule = (1_usize..4, 2_usize..5, prop::sample::select(vec![-0.3, -0.01]), prop::sample::select(vec![0.7, 2.5]));
    (1_i64..20, rule, versions).prop_map(|(slides, (neighbours, observations, max_slope, max_norm), versions)| Case {
        slides,
        rule: Retraining { neighbours, observations, max_slope, max_norm },
        versions,
    })
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn ordered(case: &Case) -> Vec<&Version> {
    let mut versions = case.by_time();
    versions.sort_by_key(|version| (version.time, &version.event_id));
    versions
}

/// By window end and domain: updates and rate.
fn expected_rates(case: &Case) -> BTreeMap<(i64, String), (u64, f64)> {
    let mut before: BTreeMap<&str, &Version> = BTreeMap::new();
    let mut sums: BTreeMap<(i64, String), (u64, f64, f64)> = BTreeMap::new();
    for version in ordered(case) {
        let Some(old) = before.insert(&version.item_id, version).filter(|old| old.time < version.time) else {
            continue;
        };
        let x = (version.time - old.time) as f64 / HOUR as f64;
        let y = -cosine(&old.vector, &version.vector).clamp(1e-6, 1.0).ln();
        let first = (version.time + SLIDE - 1).div_euclid(SLIDE) * SLIDE;
        for end in (0..case.slides).map(|at| first + at * SLIDE) {
            let sums = sums.entry((end, version.domain.clone())).or_default();
            *sums = (sums.0 + 1, sums.1 + x * y, sums.2 + x * x);
        }
    }
    sums.into_iter().map(|(key, (updates, xy, xx))| (key, (updates, xy / xx))).collect()
}

/// (time, item, observations so far, slope); `None` where rounding decides.
fn expected_requests(case: &Case) -> Option<Vec<(i64, String, u64, f64)>> {
    let versions = ordered(case);
    let mut observed: BTreeMap<&str, (Vec<f64>, bool)> = BTreeMap::new();
    let mut requests = Vec::new();
    for version in &versions {
        let mut newest: BTreeMap<&str, &Version> = BTreeMap::new();
        for other in versions.iter().filter(|other| other.time <= version.time) {
            newest.insert(&other.item_id, other);
        }
        // the item itself as of then, too: of its versions of one time the newest
        let Some(own) = newest.remove(version.item_id.as_str()) else { continue };
        let mut cosines: Vec<f64> = newest.values().map(|other| cosine(&other.vector, &own.vector)).collect();
        if cosines.is_empty() {
            continue;
        }
        cosines.sort_by(|left, right| right.total_cmp(left));
        cosines.truncate(case.rule.neighbours);
        let (all, asked) = observed.entry(&version.item_id).or_default();
        all.push(cosines.iter().sum::<f64>() / cosines.len() as f64);
        let Some(first) = all.len().checked_sub(case.rule.observations) else { continue };
        let slope = (all[all.len() - 1] - all[first]) / (case.rule.observations - 1) as f64;
        let norm = version.vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if (slope - case.rule.max_slope).abs() < 1e-9 || (norm - case.rule.max_norm).abs() < 1e-9 {
            return None;
        }
        let asks = slope < case.rule.max_slope && norm < case.rule.max_norm;
        if asks && !*asked {
            requests.push((version.time, version.item_id.clone(), all.len() as u64, slope));
        }
        *asked = asks;
    }
    requests.sort_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
    Some(requests)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rates_and_requests_are_those_of_a_recomputation_from_all_versions(case in cases(), partitions in 1_usize..5) {
        let requests = expected_requests(&case);
        prop_assume!(requests.is_some());
        let items = case.run(&case.by_arrival(), partitions, |_| false);
        let expected = expected_rates(&case);
        let rows = items.merges.sorted();
        for row in &rows {
            let row: Value = serde_json::from_str(row).unwrap();
            let key = (row["window_end"].as_i64().unwrap(), row["domain"].as_str().unwrap().to_owned());
            let Some((updates, rate)) = expected.get(&key) else {
                return Err(TestCaseError::fail(format!("nobody expects {row}")));
            };
            prop_assert_eq!(&row["updates"], *updates);
            prop_assert!((number(&row, "lambda_hat") - rate).abs() < 1e-9 * (1.0 + rate), "{row}: {rate}");
        }
        prop_assert_eq!(rows.len(), expected.len(), "rows are missing");

        let got = items.requests.values().flatten().map(|row| serde_json::from_str::<Value>(row).unwrap());
        let mut got: Vec<_> = got.map(|row| {
            let item = row["item_id"].as_str().unwrap().to_owned();
            (row["event_time"].as_i64().unwrap(), item, row["observations"].as_u64().unwrap(), number(&row, "slope"))
        }).collect();
        got.sort_by(|left, right| (left.0, &left.1).cmp(&(right.0, &right.1)));
        let requests = requests.unwrap();
        prop_assert_eq!(got.len(), requests.len());
        for (got, expected) in got.iter().zip(&requests) {
            prop_assert_eq!((got.0, &got.1, got.2), (expected.0, &expected.1, expected.2));
            prop_assert!((got.3 - expected.3).abs() < 1e-9);
        }
    }

    #[test]
    fn neither_order_nor_partitions_restarts_pruning_or_closing_in_pieces_change_a_bit(
        case in cases(), partitions in 2_usize..8, disturbances: u64, piece in 1_usize..60
    ) {
        let plain = case.run(&case.by_time(), 1, |_| false);
        let disturbed = |at: usize| disturbances >> (at % 61) & 1 == 1;
        for partitions in [1, partitions] {
            let items = Items::new(case.settings(), BOUND, partitions).in_pieces_of(piece);
            let mut items = case.run_on(items, &case.by_arrival(), partitions, disturbed);
            prop_assert_eq!(&plain.merges.rows, &items.merges.rows);
            prop_assert_eq!(&plain.requests, &items.requests);
            items.prune(i64::MAX);
            let names: BTreeSet<_> = case.versions.iter().map(|(version, _)| &version.item_id).collect();
            prop_assert_eq!(items.table.size().keys, names.len() as u64, "the newest versions stay");
            for name in names {
                prop_assert_eq!(items.table.as_of(name, i64::MAX), plain.table.as_of(name, i64::MAX));
            }
        }
    }
}

fn small_settings() -> Settings {
    Settings { rate_windows: Windows::new(300, 100).unwrap(), retraining: None, ..default_settings() }
}

type SmallFold = ItemsFold<NoVersions, JsonRows>;

fn small_fold() -> SmallFold {
    ItemsFold::new(&small_settings(), JsonRows)
}

fn apply(fold: &mut SmallFold, at: usize, time: i64) {
    fold.apply(&&version(["a", "b"][at % 2], time, &at.to_string(), &[1.0, 2.0]), &mut FoldOutput::new(1));
}

proptest! {
    #[test]
    fn closing_makes_progress_at_all_times(steps in fold_tests::any_steps()) {
        let table = Items::new(small_settings(), 1, 1).table;
        fold_tests::closing_makes_progress(small_fold(), &table, small_settings().rate_windows, 3 + 2, steps, apply)?;
    }

    #[test]
    fn damaged_snapshots_are_refused_or_gone_on_with_and_nothing_panics(damage in fold_tests::any_damage()) {
        let table = Items::new(small_settings(), 1, 1).table;
        fold_tests::damaged_snapshots_are_refused_or_gone_on_with(small_fold, &table, damage, apply)?;
    }
}
