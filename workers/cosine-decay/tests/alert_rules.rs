//! The rules that ship: quiet weeks page nobody, vectors that change twice as fast do.

use alerting::{Evaluator, Row};
use cosine_decay::alerts::RATES;
use cosine_decay::config::{Configuration, defaults};
use measures::SplitMix64;
use service::{Sources, load};

const EVERY: i64 = 600_000;

fn evaluator() -> Evaluator {
    let defaults = defaults();
    let sources = Sources { defaults: &defaults, file: None, environment: Vec::new(), sets: &[] };
    let configuration = load::<Configuration>(sources).unwrap().settings;
    let kinds = configuration.row_kinds();
    let kind = kinds.iter().find(|kind| kind.name == RATES).unwrap().clone();
    Evaluator::new("cosine-decay", kind, 1, configuration.alerts.rules(&kinds, RATES))
}

/// Fired alerts as (domain, evaluation), of 50 domains whose half-lives wander, each by a tenth, for so many `evaluations`;
/// from `halved` on the first one's is a third.
fn fired(evaluations: i64, halved: i64) -> Vec<(String, i64)> {
    let (mut evaluator, mut random) = (evaluator(), SplitMix64::new(3));
    let _ = evaluator.begin(&mut |_| {});
    let mut wandered = [0.0_f64; 50];
    let mut fired = Vec::new();
    for at in 1..=evaluations {
        let rows = wandered.iter_mut().enumerate().map(|(number, wandered)| {
            // windows of a day that end every ten minutes are much alike
            *wandered = 0.98 * *wandered + 0.02 * random.next_normals()[0];
            let factor = if number == 0 && at >= halved { 1.0 / 3.0 } else { 1.0 };
            let half_life = (10.0 + number as f64) * wandered.exp() * factor;
            let lambda = std::f64::consts::LN_2 / half_life;
            let values = [500.0, lambda, half_life, (-24.0 * lambda).exp()].map(Some).to_vec();
            Row { group: [format!("d{number:02}").into()].into(), values, traceparent: None }
        });
        let rows: Vec<Row> = rows.collect();
        evaluator.close(at * EVERY, &rows, &mut |alert| {
            if alert.reason == *"fired" {
                fired.push((alert.group[0].value.to_string(), at));
            }
        });
    }
    fired
}

#[test]
fn thirty_quiet_days_of_fifty_domains_fire_at_most_twice() {
    let fired = fired(30 * 144, i64::MAX);
    assert!(fired.len() <= 2, "{fired:?}");
}

#[test]
fn a_half_life_that_falls_to_a_third_is_told_after_three_evaluations() {
    assert_eq!(fired(200, 150), [("d00".to_owned(), 152)]);
}
