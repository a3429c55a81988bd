//! Statistics of alerts against an independent batch implementation (`alert_statistics/make.py` says how its results were
//! made), and CUSUM against published run lengths.

use std::collections::BTreeMap;
use std::path::Path;

use measures::{BetaBaseline, Cusum, CusumBaseline, CusumThreshold, Quantile, SortedWindow, cusum_step};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

const HOUR: i64 = 3_600_000;
const REFRESH: i64 = 30_000;

#[expect(clippy::disallowed_methods, reason = "a test reads what was recorded")]
fn lines(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alert_statistics").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Name, and (time, value) in the order of time.
fn series(name: &str) -> BTreeMap<String, Vec<(i64, f64)>> {
    let mut series: BTreeMap<String, Vec<(i64, f64)>> = BTreeMap::new();
    for line in lines(name) {
        let point = (line["time"].as_i64().unwrap(), number(&line, "value"));
        series.entry(line["series"].as_str().unwrap().to_owned()).or_default().push(point);
    }
    series
}

fn number(row: &Value, field: &str) -> f64 {
    row[field].as_f64().unwrap_or_else(|| panic!("{field} is no number in {row}"))
}

fn assert_close(found: f64, row: &Value, field: &str) {
    let expected = number(row, field);
    assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1e-3), "{field} is {found} in place of {row}");
}

#[test]
fn quantiles_of_the_last_hour_are_the_batch_ones() {
    let mut expected = lines("expected-p95.ndjson").into_iter();
    for (name, points) in series("hours.ndjson") {
        let (first, last) = (points[0].0, points[points.len() - 1].0);
        let (mut window, mut points) = (SortedWindow::default(), points.into_iter().peekable());
        let mut time = (first + REFRESH - 1) / REFRESH * REFRESH;
        while time <= last {
            while let Some((at, value)) = points.next_if(|(at, _)| *at <= time) {
                window.push(at, value);
            }
            window.evict(time - HOUR);
            if let Some(median) = window.quantile(Quantile::P50) {
                let row = expected.next().unwrap();
                assert_eq!((row["series"].as_str().unwrap(), row["time"].as_i64().unwrap()), (name.as_str(), time));
                assert_eq!(row["count"], window.len());
                assert_eq!(window.quantile(Quantile::P05), row["p05"].as_f64(), "{row}");
                assert_eq!(Some(median), row["p50"].as_f64(), "{row}");
                assert_eq!(window.quantile(Quantile::P95), row["p95"].as_f64(), "{row}");
            }
            time += REFRESH;
        }
    }
    assert_eq!(expected.next(), None);
}

fn assert_cusum(expected: &str, threshold: CusumThreshold, sign: f64) {
    let mut expected = lines(expected).into_iter();
    let mut fired = 0;
    for (name, points) in series("days.ndjson") {
        let mut cusum = Cusum::default();
        for (time, value) in points {
            let step = cusum.observe(time, sign * value, &CusumBaseline::default(), threshold);
            let Some(step) = step else { continue };
            let row = expected.next().unwrap();
            assert_eq!((row["series"].as_str().unwrap(), row["time"].as_i64().unwrap()), (name.as_str(), time));
            for (found, field) in [(step.mean, "baseline"), (step.sigma, "sigma"), (step.threshold, "threshold")] {
                assert_close(found, &row, field);
            }
            assert!((step.c - number(&row, "c")).abs() < 1e-9, "c is {} in place of {row}", step.c);
            assert_eq!(row["fired"], step.fired, "{row}");
            fired += u32::from(step.fired);
        }
    }
    assert_eq!(expected.next(), None);
    assert!(fired > 0, "a series that never fires shows little");
}

#[test]
fn cusum_is_the_batch_one() {
    assert_cusum("expected-cusum-up.ndjson", CusumThreshold::Sigmas(8.0), 1.0);
}

#[test]
fn cusum_downward_with_a_learned_threshold_is_the_batch_one() {
    assert_cusum("expected-cusum-learned-down.ndjson", CusumThreshold::learned(8.0), -1.0);
}

#[test]
fn beta_baselines_are_the_batch_ones() {
    let mut expected = lines("expected-beta.ndjson").into_iter();
    for (name, points) in series("weeks.ndjson") {
        let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
        for (end, values) in values.windows(BetaBaseline::VALUES).enumerate() {
            let row = expected.next().unwrap();
            let time = points[end + BetaBaseline::VALUES - 1].0;
            assert_eq!((row["series"].as_str().unwrap(), row["time"].as_i64().unwrap()), (name.as_str(), time));
            let Some(baseline) = BetaBaseline::of(values) else {
                assert_eq!(row["alpha"], Value::Null, "{row}");
                continue;
            };
            for (found, field) in [
                (baseline.mean, "mean"),
                (baseline.variance, "variance"),
                (baseline.alpha, "alpha"),
                (baseline.beta, "beta"),
                (baseline.lower_bound().unwrap(), "lower_bound"),
            ] {
                assert_close(found, &row, field);
            }
        }
    }
    assert_eq!(expected.next(), None);
}

/// Mean number of steps to the first alarm of either side, on normal values of this mean and sigma 1.
fn mean_run_length(threshold: f64, mean: f64, runs: u32) -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut normal = || {
        let (u, v): (f64, f64) = (random.random(), random.random());
        mean + (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let mut steps = 0_u64;
    for _ in 0..runs {
        let (mut up, mut down) = (0.0, 0.0);
        while up <= threshold && down <= threshold {
            let value = normal();
            up = cusum_step(up, value, 0.0, 1.0);
            down = cusum_step(down, -value, 0.0, 1.0);
            steps += 1;
        }
    }
    steps as f64 / f64::from(runs)
}

#[test]
fn run_lengths_are_those_of_montgomerys_tables() {
    // the standard deviation of a run length is about its mean, or half of it with a shift: four standard errors
    for (threshold, shift, expected, runs) in
        [(4.0, 0.0, 168.0, 4_000), (4.0, 1.0, 8.4, 20_000), (5.0, 0.0, 465.0, 4_000), (5.0, 1.0, 10.4, 20_000)]
    {
        let found = mean_run_length(threshold, shift, runs);
        let tolerance = 4.0 * expected / f64::from(runs).sqrt() + 0.05;
        assert!((found - expected).abs() < tolerance, "threshold {threshold}, shift {shift}: {found}, not {expected}");
    }
}

#[test]
fn eight_sigmas_give_the_run_lengths_of_the_definition() {
    // one side is twice as long as two
    for (shift, expected, runs, within) in
        [(0.0, 19_000.0 / 2.0, 600, 1.5), (1.0, 16.0, 5_000, 1.1), (3.0, 3.0, 5_000, 1.3)]
    {
        let found = mean_run_length(8.0, shift, runs);
        assert!(found > expected / within && found < expected * within, "shift {shift}: {found}, not {expected}");
    }
}
