//! The distances between samples: known values, what makes them distances, and how near histograms come to them.

use measures::{Histogram, Scale, wasserstein};
use proptest::prelude::*;

const BINS: u32 = 256;

fn samples() -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(-1.0..=1.0_f64, 1..60)
}

/// Some of them hold a value more than once.
fn weighted() -> impl Strategy<Value = Vec<(f64, f64)>> {
    prop::collection::vec(((-8_i32..=8).prop_map(|value| f64::from(value) / 4.0), 0.01..5.0_f64), 1..30)
}

fn equally(values: &[f64]) -> Vec<(f64, f64)> {
    values.iter().map(|value| (*value, 1.0)).collect()
}

fn histogram(values: &[f64], scale: &Scale) -> Histogram {
    let mut counts = vec![0; scale.bins() as usize];
    values.iter().for_each(|value| counts[scale.bin(scale.place(*value)) as usize] += 1);
    Histogram::of_counts(&counts)
}

/// The integral over the line of `of`, a function of both distribution functions, step by step.
fn integral(left: &[f64], right: &[f64], of: impl Fn(f64, f64) -> f64) -> f64 {
    let mut edges: Vec<f64> = left.iter().chain(right).copied().collect();
    edges.sort_by(f64::total_cmp);
    let share =
        |values: &[f64], edge: f64| values.iter().filter(|value| **value <= edge).count() as f64 / values.len() as f64;
    edges.windows(2).map(|pair| of(share(left, pair[0]), share(right, pair[0])) * (pair[1] - pair[0])).sum()
}

fn noise_floor(left: &[f64], right: &[f64]) -> f64 {
    let (n, m) = (left.len() as f64, right.len() as f64);
    let pooled = |left: f64, right: f64| (n * left + m * right) / (n + m);
    let spread = integral(left, right, |left, right| {
        let f = pooled(left, right);
        (f * (1.0 - f)).sqrt()
    });
    (2.0 / std::f64::consts::PI).sqrt() * (1.0 / n + 1.0 / m).sqrt() * spread
}

fn near(left: f64, right: f64) -> bool {
    (left - right).abs() <= 1e-9 * (1.0 + left.abs())
}

#[test]
fn distances_are_those_of_scipy() {
    let distance = wasserstein(&equally(&[0.0, 1.0, 3.0]), &equally(&[5.0, 6.0, 8.0, 9.5]));
    assert!(near(distance.unwrap(), 5.791_666_666_666_667), "{distance:?}");
    let left = [(0.5, 1.0), (1.25, 2.0), (3.0, 0.5), (-2.0, 3.0)];
    let distance = wasserstein(&left, &[(4.0, 2.0), (-1.0, 2.0), (0.125, 1.0)]);
    assert!(near(distance.unwrap(), 1.559_615_384_615_384_8), "{distance:?}");
    let distance = wasserstein(&equally(&[1.0, 2.0]), &equally(&[1.5; 3]));
    assert!(near(distance.unwrap(), 0.5), "{distance:?}");
}

#[test]
fn a_side_without_weight_has_no_distance() {
    assert_eq!(wasserstein(&[], &equally(&[1.0])), None);
    assert_eq!(wasserstein(&equally(&[1.0]), &[(1.0, 0.0)]), None);
    let (empty, full) = (Histogram::default(), Histogram::of_counts(&[0, 2]));
    assert_eq!((empty.wasserstein(&full), full.noise_floor(&empty)), (None, None));
}

#[test]
fn a_noise_floor_by_hand() {
    // one value on either side, 512 bins apart: F is 1/2 between them
    let (mut left, mut right) = (Histogram::default(), Histogram::default());
    left.push(100, 1);
    right.push(612, 1);
    let expected = (2.0 / std::f64::consts::PI).sqrt() * 2.0_f64.sqrt() * 0.5 * 512.0;
    assert!(near(left.noise_floor(&right).unwrap(), expected));
    assert_eq!(left.wasserstein(&right), Some(512.0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_distance_is_a_metric(a in weighted(), b in weighted(), c in weighted()) {
        let distance = |left: &[(f64, f64)], right: &[(f64, f64)]| wasserstein(left, right).unwrap();
        prop_assert!(near(distance(&a, &a), 0.0));
        prop_assert!(near(distance(&a, &b), distance(&b, &a)));
        prop_assert!(distance(&a, &b) >= 0.0);
        prop_assert!(distance(&a, &c) <= distance(&a, &b) + distance(&b, &c) + 1e-9);
    }

    #[test]
    fn it_shifts_and_scales_with_the_values(a in weighted(), b in weighted(), shift in -50.0..50.0_f64, factor in -5.0..5.0_f64) {
        let distance = wasserstein(&a, &b).unwrap();
        let changed = |sample: &[(f64, f64)], shift: f64, factor: f64| -> Vec<(f64, f64)> {
            sample.iter().map(|(value, weight)| (value * factor + shift, *weight)).collect()
        };
        let scaled = wasserstein(&changed(&a, shift, factor), &changed(&b, shift, factor)).unwrap();
        prop_assert!(near(scaled, factor.abs() * distance));
        let moved = wasserstein(&a, &changed(&a, shift, 1.0)).unwrap();
        prop_assert!(near(moved, shift.abs()));
        // weights are relative
        let heavier: Vec<(f64, f64)> = a.iter().map(|(value, weight)| (*value, weight * 7.0)).collect();
        prop_assert!(near(wasserstein(&heavier, &b).unwrap(), distance));
    }

    #[test]
    fn weights_are_repetitions(values in samples(), other in samples(), times in prop::collection::vec(1_usize..4, 60)) {
        let weighted: Vec<(f64, f64)> = values.iter().zip(&times).map(|(value, times)| (*value, *times as f64)).collect();
        let repeated: Vec<f64> = values.iter().zip(&times).flat_map(|(value, times)| vec![*value; *times]).collect();
        let distance = wasserstein(&weighted, &equally(&other)).unwrap();
        prop_assert!(near(distance, wasserstein(&equally(&repeated), &equally(&other)).unwrap()));
        prop_assert!(near(distance, integral(&repeated, &other, |left, right| (left - right).abs())));
    }

    #[test]
    fn a_histogram_is_off_by_one_width_at_most(left in samples(), right in samples()) {
        let scale = Scale::new(-1.0, 1.0, BINS).unwrap();
        let exact = wasserstein(&equally(&left), &equally(&right)).unwrap();
        let (left_histogram, right_histogram) = (histogram(&left, &scale), histogram(&right, &scale));
        let width = scale.bin_width();
        let distance = left_histogram.wasserstein(&right_histogram).unwrap() * width;
        prop_assert!((distance - exact).abs() <= width * (1.0 + 1e-6), "{} is not {}", distance, exact);
        prop_assert_eq!(left_histogram.wasserstein(&left_histogram), Some(0.0));

        // sqrt(F (1 - F)) is at most 1/2, and the edges of each step move by at most half a width
        let steps = (left.len() + right.len()) as f64;
        let floor = left_histogram.noise_floor(&right_histogram).unwrap() * width;
        prop_assert!((floor - noise_floor(&left, &right)).abs() <= width * steps, "{}", floor);
    }

    #[test]
    fn histograms_on_the_middles_of_bins_are_exact(left in prop::collection::vec(0_u32..BINS, 1..60), right in prop::collection::vec(0_u32..BINS, 1..60)) {
        let counts = |bins: &[u32]| {
            let mut counts = vec![0; BINS as usize];
            bins.iter().for_each(|bin| counts[*bin as usize] += 1);
            Histogram::of_counts(&counts)
        };
        let values = |bins: &[u32]| bins.iter().map(|bin| f64::from(*bin)).collect::<Vec<f64>>();
        let (left_histogram, right_histogram) = (counts(&left), counts(&right));
        let (left, right) = (values(&left), values(&right));
        let exact = wasserstein(&equally(&left), &equally(&right)).unwrap();
        prop_assert!(near(left_histogram.wasserstein(&right_histogram).unwrap(), exact));
        prop_assert!(near(left_histogram.noise_floor(&right_histogram).unwrap(), noise_floor(&left, &right)));

        let mut merged = left_histogram.clone();
        merged.merge(&right_histogram);
        let pooled: Vec<f64> = left.iter().chain(&right).copied().collect();
        prop_assert_eq!(merged.total(), pooled.len() as u64);
        prop_assert!(near(merged.wasserstein(&left_histogram).unwrap(), wasserstein(&equally(&pooled), &equally(&left)).unwrap()));
        let mut other_way = right_histogram;
        other_way.merge(&left_histogram);
        prop_assert_eq!(merged, other_way);
    }
}
