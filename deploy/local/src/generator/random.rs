//! The few distributions that the shoppers need.

use rand::{Rng, RngExt};

/// True with probability `share` (0 to 1).
pub(super) fn chance(random: &mut impl Rng, share: f64) -> bool {
    random.random::<f64>() < share
}

/// Exponential with mean 1.
pub(super) fn exponential(random: &mut impl Rng) -> f64 {
    -(1.0 - random.random::<f64>()).ln()
}

/// Normal with mean 0 and deviation 1.
pub(super) fn normal(random: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    let angle = std::f64::consts::TAU * random.random::<f64>();
    radius * angle.cos()
}

/// Log-normal: `median` times `e` to the power of a normal value with deviation `sigma`.
pub(super) fn log_normal(random: &mut impl Rng, median: f64, sigma: f64) -> f64 {
    median * (sigma * normal(random)).exp()
}

/// One of `choices`, each with its weight.
pub(super) fn weighted<T: Copy>(random: &mut impl Rng, choices: &[(T, f64)]) -> T {
    let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
    let mut left = random.random::<f64>() * total;
    for &(choice, weight) in choices {
        left -= weight;
        if left < 0.0 {
            return choice;
        }
    }
    choices[choices.len() - 1].0
}
