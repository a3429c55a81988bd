//! Fold and merge against a recomputation of every window from its raw events.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use grouping::{Dimension, Grouping, OTHER};
use measures::{Bins, Estimator, Normalise, Scorer};
use proptest::prelude::*;
use serde_json::Value;
use session_entropy::settings::Settings;
use streaming::operator::{Fold, NoTable};
use streaming::output::FoldOutput;
use streaming::window::Windows;
use support::{Driver, Event, Rows};

#[derive(Debug, Clone)]
struct Case {
    slide: i64,
    slides: i64,
    bound: i64,
    log2_bins: Option<(i64, u32)>,
    linear_bins: (i64, u32),
    estimator: Estimator,
    normalise: Normalise,
    min_events: u32,
    dimensions: Vec<Dimension>,
    merge_key: Vec<Dimension>,
    max_groups: usize,
    merge_partitions: usize,
    /// Events in order of time, with what orders their arrival: below the bound, so that none is late.
    events: Vec<(Event, i64)>,
}

impl Case {
    fn settings(&self) -> Settings {
        let bins = match self.log2_bins {
            Some((unit, count)) => Bins::log2(unit, count),
            None => Bins::linear(1000, 1000 + self.linear_bins.0 * i64::from(self.linear_bins.1), self.linear_bins.1),
        };
        Settings {
            windows: Windows::new(self.slide * self.slides, self.slide).unwrap(),
            scorer: Scorer::new(bins.unwrap(), self.estimator, self.normalise),
            min_events: self.min_events,
            grouping: Grouping::new(&self.dimensions, &self.merge_key),
            max_groups: self.max_groups,
            revision: 7,
        }
    }

    fn by_arrival(&self) -> Vec<&Event> {
        let mut arrivals: Vec<&(Event, i64)> = self.events.iter().collect();
        arrivals.sort_by_key(|(event, delay)| event.time + delay);
        arrivals.into_iter().map(|(event, _)| event).collect()
    }

    fn by_time(&self) -> Vec<&Event> {
        self.events.iter().map(|(event, _)| event).collect()
    }

    /// `restarts` says at which events a partition is loaded anew.
    fn run(&self, events: &[&Event], partitions: usize, restarts: impl Fn(usize) -> bool) -> Rows {
        let mut driver = Driver::new(self.settings(), self.bound, partitions, self.merge_partitions);
        for (at, event) in events.iter().enumerate() {
            let partition = event.session_id.bytes().map(usize::from).sum::<usize>() % partitions;
            assert!(driver.push(partition, event), "nothing is late here");
            if restarts(at) {
                driver.restart(partition);
            }
            if at % 3 == 0 {
                driver.advance_merges();
            }
        }
        driver.finish(Some(1_000_000_000));
        assert_eq!(driver.live_keys(), 0, "sessions without events leave the state");
        driver.rows
    }
}

fn dimension_sets() -> impl Strategy<Value = (Vec<Dimension>, Vec<Dimension>)> {
    let any = Just(Dimension::ALL.to_vec()).prop_shuffle();
    (any, 0_usize..=4, 0_usize..=4).prop_map(|(all, count, keys)| {
        let dimensions = all[..count].to_vec();
        let merge_key = dimensions[..keys.min(count)].to_vec();
        (dimensions, merge_key)
    })
}

fn events() -> impl Strategy<Value = Vec<(Event, i64)>> {
    let step = prop_oneof![6 => 0_i64..1500, 3 => 0_i64..20_000, 1 => 0_i64..900_000];
    let value = prop::sample::select(vec!["", "a", "b", "a\0", OTHER]);
    let one = (step, 0_u8..12, 0_u8..4, prop::collection::vec(value, 6), 0_i64..5000);
    prop::collection::vec(one, 1..150).prop_map(|steps| {
        let mut time = 0;
        steps
            .into_iter()
            .map(|(step, session, id, values, delay)| {
                time += step;
                let event = Event {
                    time,
                    session_id: format!("session-{session}{}", "x".repeat(usize::from(session) * 5)),
                    event_id: format!("e{id}"),
                    dimensions: std::array::from_fn(|at| values[at].to_owned()),
                };
                (event, delay)
            })
            .collect()
    })
}

fn cases() -> impl Strategy<Value = Case> {
    let windows = (prop::sample::select(vec![1000_i64, 10_000, 7000]), 1_i64..40);
    let bins = (prop::option::of((1_i64..3000, 2_u32..20)), (prop::sample::select(vec![1000_i64, 5000]), 2_u32..40));
    let estimator = prop::sample::select(vec![Estimator::PlugIn, Estimator::MillerMadow, Estimator::ChaoShen]);
    let normalise = prop::sample::select(vec![Normalise::All, Normalise::Occupied]);
    let limits = (1_u32..5, prop_oneof![1_usize..5, Just(1000)], 1_usize..4);
    (windows, bins, estimator, normalise, limits, dimension_sets(), events()).prop_map(
        |((slide, slides), (log2_bins, linear_bins), estimator, normalise, limits, (dimensions, merge_key), events)| {
            Case {
                slide,
                slides,
                bound: 5000,
                log2_bins,
                linear_bins,
                estimator,
                normalise,
                min_events: limits.0,
                dimensions,
                merge_key,
                max_groups: limits.1,
                merge_partitions: limits.2,
                events,
            }
        },
    )
}

/// The expected rows: by window end, session or group, the fields' values.
type Expected = BTreeMap<(i64, Vec<String>), BTreeMap<&'static str, Option<f64>>>;

fn score(case: &Case, times: &[i64]) -> (f64, f64) {
    let bins = case.log2_bins.map_or(case.linear_bins.1, |(_, count)| count);
    let mut counts = vec![0_u32; bins as usize];
    for pair in times.windows(2) {
        let gap = pair[1] - pair[0];
        match case.log2_bins {
            Some((unit, count)) => {
                let bin = (0..count - 1).find(|bin| gap < unit << bin).unwrap_or(count - 1);
                counts[bin as usize] += 1;
            }
            None => {
                let (width, count) = case.linear_bins;
                if (1000..=1000 + width * i64::from(count)).contains(&gap) {
                    counts[((gap - 1000) / width).min(i64::from(count) - 1) as usize] += 1;
                }
            }
        }
    }
    let occupied: Vec<f64> = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count)).collect();
    let n: f64 = occupied.iter().sum();
    if n == 0.0 {
        return (0.0, 0.0);
    }
    let plug_in: f64 = occupied.iter().map(|c| -(c / n) * (c / n).log2()).sum();
    let entropy = match case.estimator {
        Estimator::PlugIn => plug_in,
        Estimator::MillerMadow => plug_in + (occupied.len() as f64 - 1.0) / (2.0 * n * 2.0_f64.ln()),
        Estimator::ChaoShen => {
            let singles = occupied.iter().filter(|c| **c == 1.0).count() as f64;
            let coverage = if singles == n { 1.0 / n } else { 1.0 - singles / n };
            let share = |c: &f64| coverage * c / n;
            occupied.iter().map(share).map(|p| -p * p.log2() / (1.0 - (1.0 - p).powf(n))).sum()
        }
    };
    let entropy = entropy.min(f64::from(bins).log2());
    let size = match case.normalise {
        Normalise::All => f64::from(bins),
        Normalise::Occupied => occupied.len() as f64,
    };
    (entropy, if size > 1.0 { (entropy / size.log2()).clamp(0.0, 1.0) } else { 0.0 })
}

/// The group in which a window's group is reported: groups of one merge partition compete.
fn reported_groups(case: &Case, groups: &BTreeSet<Vec<String>>) -> BTreeMap<Vec<String>, Vec<String>> {
    let mut by_partition: BTreeMap<u64, Vec<&Vec<String>>> = BTreeMap::new();
    for group in groups {
        let values = case.dimensions.iter().zip(group).filter(|(dimension, _)| case.merge_key.contains(dimension));
        let key: Vec<String> = values.map(|(_, value)| value.replace('\0', "\0\u{1}")).collect();
        // as the runtime does it: 0 bytes inside of values are escaped, then the values are joined
        let bytes: Vec<u8> = key.join("\0").bytes().collect();
        let mut escaped = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            let is_escape = *byte == 1 && at > 0 && bytes[at - 1] == 0;
            escaped.push(if is_escape { 0xff } else { *byte });
        }
        let partition = xxhash_rust::xxh64::xxh64(&escaped, 0) % case.merge_partitions as u64;
        by_partition.entry(partition).or_default().push(group);
    }
    let mut reported = BTreeMap::new();
    for groups in by_partition.into_values() {
        for (rank, group) in groups.into_iter().enumerate() {
            let as_other = case.dimensions.iter().zip(group).map(|(dimension, value)| {
                if case.merge_key.contains(dimension) { value.clone() } else { OTHER.to_owned() }
            });
            let to = if rank < case.max_groups { group.clone() } else { as_other.collect() };
            reported.insert(group.clone(), to);
        }
    }
    reported
}

fn expected(case: &Case) -> (Expected, Expected) {
    let group_of = |event: &Event| -> Vec<String> {
        case.dimensions.iter().map(|dimension| event.dimensions[*dimension as usize].clone()).collect()
    };
    let mut events = case.by_time();
    events.sort_by_key(|event| (event.time, event.event_id.clone(), group_of(event)));
    let size = case.slide * case.slides;
    let (mut freshness, mut entropy) = (Expected::new(), Expected::new());
    let ends: BTreeSet<i64> = events
        .iter()
        .flat_map(|event| {
            let first = (event.time + case.slide - 1).div_euclid(case.slide) * case.slide;
            (0..case.slides).map(move |slide| first + slide * case.slide)
        })
        .collect();
    for end in ends {
        let mut sessions: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in events.iter().filter(|event| event.time > end - size && event.time <= end) {
            sessions.entry(&event.session_id).or_default().push(event);
        }
        let groups: BTreeSet<_> = sessions.values().map(|events| group_of(events[events.len() - 1])).collect();
        let reported = reported_groups(case, &groups);
        let mut by_group: BTreeMap<Vec<String>, Vec<(usize, f64, f64)>> = BTreeMap::new();
        for (session_id, events) in sessions {
            let times: Vec<i64> = events.iter().map(|event| event.time).collect();
            let (bits, h) = score(case, &times);
            let newest = events[events.len() - 1];
            by_group.entry(reported[&group_of(newest)].clone()).or_default().push((events.len(), bits, h));
            if newest.time > end - case.slide {
                let mut key = vec![session_id.to_owned()];
                key.extend(group_of(newest));
                let factor = if h < 0.3 {
                    0.95
                } else if h < 0.7 {
                    0.82
                } else {
                    0.6
                };
                let row = BTreeMap::from([
                    ("events", Some(events.len() as f64)),
                    ("entropy", Some(bits)),
                    ("normalised", Some(h)),
                    ("freshness", Some(1.0 - h)),
                    ("decay_factor", Some(factor)),
                    ("window_start", Some((end - size) as f64)),
                ]);
                freshness.insert((end, key), row);
            }
        }
        for (group, sessions) in by_group {
            let scored: Vec<_> = sessions.iter().filter(|(n, ..)| *n >= case.min_events as usize).collect();
            let n = scored.len();
            let mut fresh: Vec<f64> =
                scored.iter().map(|(.., h)| (1000.0 * (1.0 - h) + 0.5).floor() / 1000.0).collect();
            fresh.sort_by(f64::total_cmp);
            let quantile = |per_cent: usize| fresh.get((n * per_cent).div_ceil(100).max(1) - 1).copied();
            let mean = |sum: f64| (n > 0).then_some(sum / n as f64);
            let share = |from: f64, to: f64| mean(scored.iter().filter(|(.., h)| *h >= from && *h < to).count() as f64);
            let row = BTreeMap::from([
                ("sessions_total", Some(sessions.len() as f64)),
                ("events", Some(sessions.iter().map(|(n, ..)| *n).sum::<usize>() as f64)),
                ("sessions", Some(n as f64)),
                ("mean_entropy", mean(scored.iter().map(|(_, bits, _)| bits).sum())),
                ("mean_freshness", mean(scored.iter().map(|(.., h)| 1.0 - h).sum())),
                ("freshness_p05", quantile(5)),
                ("freshness_p50", quantile(50)),
                ("freshness_p95", quantile(95)),
                ("share_focused", share(0.0, 0.3)),
                ("share_balanced", share(0.3, 0.7)),
                ("share_scattered", share(0.7, 2.0)),
                ("window_start", Some((end - size) as f64)),
            ]);
            entropy.insert((end, group), row);
        }
    }
    (freshness, entropy)
}

/// Where a tie on the grid or a band's edge lies within rounding, the last digit decides: no test can.
fn is_near_an_edge(h: f64) -> bool {
    let thousandths = 1000.0 * (1.0 - h) + 0.5;
    (thousandths - thousandths.round()).abs() < 1e-6 || (h - 0.3).abs() < 1e-9 || (h - 0.7).abs() < 1e-9
}

fn check(case: &Case, rows: &[String], expected: &Expected, of_session: bool) -> Result<(), TestCaseError> {
    let mut seen = BTreeSet::new();
    for row in rows {
        let row: Value = serde_json::from_str(row).unwrap();
        let text = |name: &str| row[name].as_str().unwrap().to_owned();
        let mut key: Vec<String> = case.dimensions.iter().map(|dimension| text(dimension.name())).collect();
        if of_session {
            key.insert(0, text("session_id"));
        }
        for dimension in Dimension::ALL.iter().filter(|dimension| !case.dimensions.contains(dimension)) {
            prop_assert_eq!(text(dimension.name()), "");
        }
        prop_assert_eq!(&row["revision"], 7);
        let key = (row["window_end"].as_i64().unwrap(), key);
        let Some(fields) = expected.get(&key) else {
            return Err(TestCaseError::fail(format!("nobody expects {key:?}: {row}")));
        };
        for (name, value) in fields {
            let got = row[name].as_f64();
            prop_assert_eq!(got.is_some(), value.is_some(), "{} of {:?}", name, key);
            let difference = got.unwrap_or_default() - value.unwrap_or_default();
            prop_assert!(difference.abs() < 1e-9, "{} of {:?} is {:?}, not {:?}", name, key, got, value);
        }
        prop_assert!(seen.insert(key), "twice: {}", row);
    }
    prop_assert_eq!(seen.len(), expected.len(), "rows are missing");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_those_of_a_recomputation_from_raw_events(case in cases(), partitions in 1_usize..5) {
        let (freshness, entropy) = expected(&case);
        prop_assume!(!freshness.values().any(|row| is_near_an_edge(row["normalised"].unwrap())));
        let rows = case.run(&case.by_arrival(), partitions, |_| false);
        check(&case, &rows.sorted_freshness(), &freshness, true)?;
        check(&case, &rows.sorted_entropy(), &entropy, false)?;
    }

    #[test]
    fn neither_order_nor_partitions_nor_restarts_change_a_bit(case in cases(), partitions in 2_usize..8, restarts: u64) {
        let plain = case.run(&case.by_time(), 1, |_| false);
        let shuffled = case.run(&case.by_arrival(), 1, |_| false);
        prop_assert_eq!(&plain, &shuffled, "not even the order of rows depends on that of arrival");
        let restarted = case.run(&case.by_arrival(), 1, |at| restarts >> (at % 64) & 1 == 1);
        prop_assert_eq!(&plain, &restarted);

        let split = case.run(&case.by_arrival(), partitions, |at| restarts >> (at % 61) & 1 == 1);
        prop_assert_eq!(plain.sorted_freshness(), split.sorted_freshness());
        prop_assert_eq!(&plain.entropy, &split.entropy);
    }
}

fn small_fold() -> support::TestFold {
    let settings = Settings { windows: Windows::new(300, 100).unwrap(), ..support::default_settings() };
    support::TestFold::new(&settings, support::JsonRows)
}

fn apply(fold: &mut support::TestFold, at: usize, time: i64) {
    let event = Event { time, session_id: format!("s{}", at % 3), ..Event::default() };
    fold.apply(&support::View(&event), &mut FoldOutput::new(1));
}

proptest! {
    #[test]
    fn closing_makes_progress_at_all_times(steps in fold_tests::any_steps()) {
        let windows = Windows::new(300, 100).unwrap();
        fold_tests::closing_makes_progress(small_fold(), &NoTable, windows, 3 + 2, steps, apply)?;
    }

    #[test]
    fn damaged_snapshots_are_refused_or_gone_on_with_and_nothing_panics(damage in fold_tests::any_damage()) {
        fold_tests::damaged_snapshots_are_refused_or_gone_on_with(small_fold, &NoTable, damage, apply)?;
    }
}
