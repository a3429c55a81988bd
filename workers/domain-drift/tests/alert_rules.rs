//! The rules that ship: quiet weeks page nobody, domains that drift apart for hours do.

use alerting::{Evaluator, Row};
use domain_drift::alerts::ROWS;
use domain_drift::config::{Configuration, defaults};
use measures::SplitMix64;
use service::{Sources, load};

const WINDOW: i64 = 3_600_000;

fn evaluator() -> Evaluator {
    let defaults = defaults();
    let sources = Sources { defaults: &defaults, file: None, environment: Vec::new(), sets: &[] };
    let configuration = load::<Configuration>(sources).unwrap().settings;
    let kinds = configuration.row_kinds();
    Evaluator::new("domain-drift", kinds[0].clone(), 1, configuration.alerts.rules(&kinds, ROWS))
}

/// What is told, as (reason, target, window), of 50 pairs of domains whose coefficients wander around 0.2 to 0.45; from
/// `drifts` on for five windows the first one's is 0.75.
fn told(windows: i64, drifts: i64) -> Vec<(String, String, i64)> {
    let (mut evaluator, mut random) = (evaluator(), SplitMix64::new(9));
    let _ = evaluator.begin(&mut |_| {});
    let mut wandered = [0.0_f64; 50];
    let mut told = Vec::new();
    for at in 1..=windows {
        let rows = wandered.iter_mut().enumerate().map(|(number, wandered)| {
            *wandered = 0.7 * *wandered + 0.03 * random.next_normals()[0];
            let level = 0.2 + 0.005 * number as f64 + *wandered;
            let level = if number == 0 && (drifts..drifts.saturating_add(5)).contains(&at) { 0.75 } else { level };
            let gamma = level.clamp(0.05, 0.95);
            let users = 30.0 + 10.0 * number as f64;
            // n, m, w1, max_sliced, w1_scaled, noise_floor, significant, gamma_raw, gamma, traffic_share, sinkhorn, outside
            let values =
                [users, users, 0.1, 0.2, 0.9 * level, 0.01, 1.0, level, gamma, 0.25, 0.0, 0.0].map(Some).to_vec();
            let target = format!("d{number:02}");
            Row { group: ["pair", "a", &target].map(Into::into).into(), values, traceparent: None }
        });
        let rows: Vec<Row> = rows.collect();
        evaluator.close(at * WINDOW, &rows, &mut |alert| {
            told.push((alert.reason.to_string(), alert.group[2].value.to_string(), at));
        });
    }
    told
}

#[test]
fn thirty_quiet_days_of_fifty_pairs_fire_at_most_twice() {
    let told = told(720, i64::MAX);
    assert!(told.iter().filter(|(reason, ..)| reason == "fired").count() <= 2, "{told:?}");
}

#[test]
fn domains_that_drift_apart_are_told_with_the_second_window_again_after_four_hours_and_when_they_are_back() {
    let of = |reason: &str, at| (reason.to_owned(), "d00".to_owned(), at);
    assert_eq!(told(60, 40), [of("fired", 41), of("repeated", 45), of("cleared", 46)]);
}
