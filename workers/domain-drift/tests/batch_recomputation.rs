//! Fold and merge against a recomputation of every window from its raw events, with exact distances.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use domain_drift::distance::ScaledBy;
use domain_drift::limit::OTHER;
use domain_drift::pairs::{Pair, Pairs};
use domain_drift::projector::{Normalise, Projector};
use domain_drift::settings::Settings;
use measures::{Directions, Scale, Sinkhorn, wasserstein};
use proptest::prelude::*;
use serde_json::Value;
use streaming::operator::{Fold, NoTable};
use streaming::output::FoldOutput;
use streaming::window::Windows;
use support::{Driver, Event};
use xxhash_rust::xxh64::xxh64;

const DIRECTIONS: usize = 5;
const DIMENSIONS: usize = 3;
const BINS: u32 = 4096;
const DOMAINS: [&str; 5] = ["", "a", "b", OTHER, "é"];
const SINKHORN: Sinkhorn = Sinkhorn { epsilon: 0.05, iterations: 20 };

#[derive(Debug, Clone)]
struct Case {
    slide: i64,
    slides: i64,
    normalise: Normalise,
    scaled_by: ScaledBy,
    min_users: u64,
    pairs: Pairs,
    self_offset: Option<i64>,
    sample: usize,
    max_domains: usize,
    /// Events in order of time, with what orders their arrival: below the bound, so that none is late.
    events: Vec<(Event, i64)>,
}

impl Case {
    fn range(&self) -> [f64; 2] {
        match self.normalise {
            Normalise::L2 => [-1.0, 1.0],
            Normalise::None => [-4.0, 4.0],
        }
    }

    fn settings(&self) -> Settings {
        let [low, high] = self.range();
        let scale = Scale::new(low, high, BINS).unwrap();
        Settings {
            windows: Windows::new(self.slide * self.slides, self.slide).unwrap(),
            projector: Projector::new(Directions::new(DIRECTIONS, DIMENSIONS, 42), scale, self.normalise),
            scaled_by: self.scaled_by,
            reference: 0.9,
            min_users: self.min_users,
            pairs: self.pairs.clone(),
            self_offset: self.self_offset.map(|slides| slides * self.slide),
            sinkhorn: (self.sample > 0).then_some((SINKHORN, self.sample)),
            max_domains: self.max_domains,
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

    /// `restarts` says at which events the tasks are loaded anew.
    fn run(&self, events: &[&Event], partitions: usize, restarts: impl Fn(usize) -> bool) -> Vec<(String, String)> {
        let mut driver = Driver::new(self.settings(), 5000, partitions);
        for (at, event) in events.iter().enumerate() {
            let partition = event.user_id.bytes().map(usize::from).sum::<usize>() % partitions;
            assert!(driver.push(partition, event), "nothing is late here");
            if restarts(at) {
                driver.restart_fold(partition);
                driver.restart_merge();
            }
            if at % 3 == 0 {
                driver.advance_merge();
            }
        }
        driver.finish(Some(1_000_000_000));
        assert_eq!(driver.live_keys(), 0, "users without vectors leave the state");
        driver.rows
    }
}

fn events() -> impl Strategy<Value = Vec<(Event, i64)>> {
    let step = prop_oneof![6 => 0_i64..1500, 3 => 0_i64..20_000, 1 => 0_i64..200_000];
    let component = prop_oneof![4 => -2.0_f32..2.0, 1 => Just(0.0_f32), 1 => Just(1.0_f32)];
    let vector = prop::collection::vec(component, DIMENSIONS);
    let one = (step, prop::sample::select(DOMAINS.to_vec()), 0_u8..9, 0_u8..4, vector, 0_i64..5000);
    prop::collection::vec(one, 1..120).prop_map(|steps| {
        let mut time = 0;
        steps
            .into_iter()
            .map(|(step, domain, user, id, mut vector, delay)| {
                time += step;
                if vector.iter().all(|component| *component == 0.0) {
                    vector[0] = 1.0;
                }
                let user_id = format!("user-{user}{}", "x".repeat(usize::from(user) * 6));
                (Event { time, domain: domain.into(), user_id, event_id: format!("e{id}"), vector }, delay)
            })
            .collect()
    })
}

fn pairs() -> impl Strategy<Value = Pairs> {
    let domain = prop::sample::select(vec!["", "a", "b", OTHER, "é", "gone"]);
    let pair = (prop::collection::btree_set(domain.clone(), 1..4), domain).prop_map(|(sources, target)| Pair {
        sources: sources.into_iter().map(str::to_owned).collect(),
        target: target.to_owned(),
    });
    let listed = prop::collection::btree_set(pair, 0..4).prop_map(|pairs| Pairs::Listed(pairs.into_iter().collect()));
    prop_oneof![3 => Just(Pairs::All { max: 1000 }), 1 => (1_usize..4).prop_map(|max| Pairs::All { max }), 2 => listed]
}

fn cases() -> impl Strategy<Value = Case> {
    let windows = (prop::sample::select(vec![1000_i64, 10_000, 7000]), 1_i64..12);
    let normalise = prop::sample::select(vec![Normalise::L2, Normalise::None]);
    let scaled_by = prop::sample::select(vec![ScaledBy::TargetSigma, ScaledBy::Nothing]);
    let limits = (1_u64..4, prop::sample::select(vec![0_usize, 0, 0, 4]), prop_oneof![1_usize..4, Just(100)]);
    (windows, normalise, scaled_by, limits, pairs(), prop::option::of(1_i64..6), events()).prop_map(
        |((slide, slides), normalise, scaled_by, (min_users, sample, max_domains), pairs, self_offset, events)| Case {
            slide,
            slides,
            normalise,
            scaled_by,
            min_users,
            pairs,
            self_offset,
            sample,
            max_domains,
            events,
        },
    )
}

/// A user of a window, by the newest vector.
#[derive(Debug, Clone)]
struct Sample {
    hash: u64,
    vector: Vec<f64>,
}

type Window = BTreeMap<String, Vec<Sample>>;

/// The domains of a window, after the limit.
fn window(case: &Case, end: i64) -> Window {
    let mut newest: BTreeMap<(&str, &str), &Event> = BTreeMap::new();
    for (event, _) in &case.events {
        if event.time > end - case.slide * case.slides && event.time <= end {
            let kept = newest.entry((&event.domain, &event.user_id)).or_insert(event);
            if (event.time, &event.event_id) > (kept.time, &kept.event_id) {
                *kept = event;
            }
        }
    }
    let names: BTreeSet<&str> = newest.keys().map(|(domain, _)| *domain).collect();
    let named = case.pairs.named();
    let unnamed: Vec<&str> = names.into_iter().filter(|name| !named.contains(*name)).collect();
    let mut samples = Window::new();
    for ((domain, user), event) in newest {
        let is_one_too_many = unnamed.iter().position(|name| *name == domain).is_some_and(|at| at >= case.max_domains);
        let vector: Vec<f64> = event.vector.iter().map(|x| f64::from(*x)).collect();
        let length = match case.normalise {
            Normalise::L2 => vector.iter().map(|x| x * x).sum::<f64>().sqrt(),
            Normalise::None => 1.0,
        };
        let sample = Sample {
            hash: xxh64(format!("{domain}\0{user}").as_bytes(), 0),
            vector: vector.iter().map(|x| x / length).collect(),
        };
        samples.entry(if is_one_too_many { OTHER } else { domain }.to_owned()).or_default().push(sample);
    }
    samples
}

/// The numbers of a row, exactly.
#[derive(Debug)]
struct Numbers {
    n: usize,
    m: usize,
    w1: f64,
    max_sliced: f64,
    w1_scaled: Option<f64>,
    noise_floor: f64,
    /// The smallest deviation of the target's projections: errors of scaled distances grow as it falls.
    least_sigma: f64,
    gamma_raw: Option<f64>,
    sinkhorn: Option<f64>,
}

fn numbers(case: &Case, source: &[Sample], target: &[Sample]) -> Numbers {
    let directions = Directions::new(DIRECTIONS, DIMENSIONS, 42);
    let project = |samples: &[Sample], k: usize| -> Vec<f64> {
        let dot = |v: &[f64]| (0..DIMENSIONS).map(|j| v[j] * directions.component(k, j)).sum();
        samples.iter().map(|sample| dot(&sample.vector)).collect()
    };
    let (mut distances, mut floors, mut sigmas) = (Vec::new(), Vec::new(), Vec::new());
    let (n, m) = (source.len() as f64, target.len() as f64);
    for k in 0..DIRECTIONS {
        let (here, there) = (project(target, k), project(source, k));
        let equally = |values: &[f64]| values.iter().map(|value| (*value, 1.0)).collect::<Vec<_>>();
        distances.push(wasserstein(&equally(&there), &equally(&here)).unwrap());
        let mean = here.iter().sum::<f64>() / m;
        sigmas.push((here.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / m).sqrt());
        let mut pooled = [there, here].concat();
        pooled.sort_by(f64::total_cmp);
        let integral: f64 = (1_u32..)
            .zip(pooled.windows(2))
            .map(|(below, pair)| {
                let f = f64::from(below) / (n + m);
                (f * (1.0 - f)).sqrt() * (pair[1] - pair[0])
            })
            .sum();
        floors.push((2.0 / std::f64::consts::PI).sqrt() * (1.0 / n + 1.0 / m).sqrt() * integral);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let least_sigma = sigmas.iter().copied().fold(f64::INFINITY, f64::min);
    let scaled: Vec<f64> = distances.iter().zip(&sigmas).map(|(distance, sigma)| distance / sigma).collect();
    let w1_scaled = (least_sigma >= 1e-6).then(|| mean(&scaled));
    let measured = match case.scaled_by {
        ScaledBy::TargetSigma => w1_scaled,
        ScaledBy::Nothing => Some(mean(&distances)),
    };
    let smallest = |samples: &[Sample]| -> Vec<Vec<f64>> {
        let mut samples = samples.to_vec();
        samples.sort_by_key(|sample| sample.hash);
        samples.into_iter().take(case.sample).map(|sample| sample.vector).collect()
    };
    Numbers {
        n: source.len(),
        m: target.len(),
        w1: mean(&distances),
        max_sliced: distances.iter().copied().fold(0.0, f64::max),
        w1_scaled,
        noise_floor: mean(&floors),
        least_sigma,
        gamma_raw: measured.filter(|_| source.len().min(target.len()) as u64 >= case.min_users).map(|d| d / 0.9),
        sinkhorn: (case.sample > 0).then(|| SINKHORN.divergence(&smallest(source), &smallest(target)).unwrap()),
    }
}

/// All rows by window end, kind, sources and target.
fn expected(case: &Case) -> BTreeMap<(i64, String), Numbers> {
    let ends: BTreeSet<i64> = case
        .events
        .iter()
        .flat_map(|(event, _)| {
            let first = (event.time + case.slide - 1).div_euclid(case.slide) * case.slide;
            (0..case.slides).map(move |slide| first + slide * case.slide)
        })
        .collect();
    let mut rows = BTreeMap::new();
    for end in ends {
        let now = window(case, end);
        match &case.pairs {
            Pairs::All { max } => {
                let names: Vec<&String> = now.keys().collect();
                let all =
                    names.iter().enumerate().flat_map(|(at, source)| names[at + 1..].iter().map(move |t| (source, t)));
                for (source, target) in all.take(*max) {
                    rows.insert((end, format!("pair|{source}|{target}")), numbers(case, &now[*source], &now[*target]));
                }
            }
            Pairs::Listed(pairs) => {
                for Pair { sources, target } in pairs {
                    let pooled: Vec<Sample> = sources.iter().filter_map(|s| now.get(s)).flatten().cloned().collect();
                    if let Some(target_samples) = now.get(target).filter(|_| !pooled.is_empty()) {
                        let key = format!("pair|{}|{target}", sources.join("+"));
                        rows.insert((end, key), numbers(case, &pooled, target_samples));
                    }
                }
            }
        }
        if let Some(offset) = case.self_offset {
            let then = window(case, end - offset * case.slide);
            for (domain, samples) in &now {
                if let Some(then) = then.get(domain) {
                    rows.insert((end, format!("self|{domain}|{domain}")), numbers(case, then, samples));
                }
            }
        }
    }
    rows
}

fn check(case: &Case, key: &str, row: &Value, expected: &Numbers) -> Result<(), TestCaseError> {
    let [low, high] = case.range();
    let width = (high - low) / f64::from(BINS);
    prop_assert_eq!((&row["n"], &row["m"]), (&expected.n.into(), &expected.m.into()), "{}", key);
    let samples = (expected.n + expected.m) as f64;
    // the deviations themselves are off by a place's width at most
    let of_scaled = |scaled: f64| width / expected.least_sigma + scaled * 1e-7 / expected.least_sigma + 1e-9;
    let floats = [
        ("w1", Some(expected.w1), width),
        ("max_sliced", Some(expected.max_sliced), width),
        ("noise_floor", Some(expected.noise_floor), width * samples),
        ("w1_scaled", expected.w1_scaled, of_scaled(expected.w1_scaled.unwrap_or_default())),
        ("gamma_raw", expected.gamma_raw, of_scaled(expected.w1_scaled.unwrap_or_default()).max(width) / 0.9),
        ("sinkhorn", expected.sinkhorn, 1e-9),
    ];
    for (field, value, tolerance) in floats {
        let got = row[field].as_f64();
        prop_assert_eq!(got.is_some(), value.is_some(), "{} of {}: {}", field, key, row);
        if let (Some(got), Some(value)) = (got, value) {
            let is_near = (got - value).abs() <= tolerance * 1.000_001;
            prop_assert!(is_near, "{} of {} is {}, not {} within {}", field, key, got, value, tolerance);
        }
    }
    prop_assert_eq!(row["out_of_range"].as_u64(), Some(0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_those_of_a_recomputation_from_raw_events(case in cases(), partitions in 1_usize..5) {
        // two versions of one time and id have no order in the definition
        let versions: BTreeSet<_> =
            case.events.iter().map(|(e, _)| (&e.domain, &e.user_id, e.time, &e.event_id)).collect();
        prop_assume!(versions.len() == case.events.len());
        let expected = expected(&case);
        // whether so little is a deviation depends on which places the worker rounds the projections to
        prop_assume!(expected.values().all(|numbers| !(1e-12..=1e-7).contains(&numbers.least_sigma)));
        let mut seen = BTreeSet::new();
        for (key, row) in case.run(&case.by_arrival(), partitions, |_| false) {
            let row: Value = serde_json::from_str(&row).unwrap();
            let end = row["window_end"].as_i64().unwrap();
            prop_assert_eq!(row["window_start"].as_i64(), Some(end - case.slide * case.slides));
            let Some(numbers) = expected.get(&(end, key.clone())) else {
                return Err(TestCaseError::fail(format!("nobody expects {end} {key}: {row}")));
            };
            check(&case, &key, &row, numbers)?;
            prop_assert!(seen.insert((end, key)), "twice: {}", row);
        }
        prop_assert_eq!(seen.len(), expected.len(), "rows are missing");
    }

    #[test]
    fn neither_order_nor_partitions_nor_restarts_change_a_bit(case in cases(), partitions in 2_usize..8, restarts: u64) {
        let plain = case.run(&case.by_time(), 1, |_| false);
        prop_assert_eq!(&plain, &case.run(&case.by_arrival(), 1, |_| false));
        prop_assert_eq!(&plain, &case.run(&case.by_arrival(), 1, |at| restarts >> (at % 64) & 1 == 1));
        prop_assert_eq!(&plain, &case.run(&case.by_arrival(), partitions, |at| restarts >> (at % 61) & 1 == 1));
    }
}

fn small_settings() -> Settings {
    Settings {
        windows: Windows::new(300, 100).unwrap(),
        projector: Projector::new(Directions::new(1, 2, 42), Scale::new(-1.0, 1.0, 8).unwrap(), Normalise::L2),
        scaled_by: ScaledBy::TargetSigma,
        reference: 0.9,
        min_users: 1,
        pairs: Pairs::All { max: 10 },
        self_offset: None,
        sinkhorn: None,
        max_domains: 10,
        revision: 1,
    }
}

fn small_fold() -> support::TestFold {
    support::TestFold::new(&small_settings())
}

fn apply(fold: &mut support::TestFold, at: usize, time: i64) {
    let user_id = format!("u{}", at % 3);
    let event = Event { time, domain: "d".into(), user_id, event_id: "e".into(), vector: vec![1.0, 2.0] };
    fold.apply(&support::View(&event), &mut FoldOutput::new(1));
}

proptest! {
    #[test]
    fn closing_makes_progress_at_all_times(steps in fold_tests::any_steps()) {
        fold_tests::closing_makes_progress(small_fold(), &NoTable, small_settings().windows, 3 + 2, steps, apply)?;
    }

    #[test]
    fn damaged_snapshots_are_refused_or_gone_on_with_and_nothing_panics(damage in fold_tests::any_damage()) {
        fold_tests::damaged_snapshots_are_refused_or_gone_on_with(small_fold, &NoTable, damage, apply)?;
    }
}
