//! What is usual for a rate.

use statrs::distribution::{Beta, ContinuousCDF};

/// A rate below this quantile is low.
const LOW: f64 = 0.05;

/// A Beta distribution that has the mean and the variance of past values of a rate, usually 168 hourly ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BetaBaseline {
    /// Mean of the values.
    pub mean: f64,
    /// Their variance, the population's.
    pub variance: f64,
    /// First parameter.
    pub alpha: f64,
    /// Second parameter.
    pub beta: f64,
}

impl BetaBaseline {
    /// Hourly values of a week.
    pub const VALUES: usize = 168;

    /// Of values from 0 to 1. `None` where no Beta distribution has their moments: without values, without spread, or with
    /// more than a rate of this mean can have.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count;
        if !(variance > 0.0 && variance < mean * (1.0 - mean)) {
            return None;
        }
        let alpha = mean * mean * (1.0 - mean) / variance - mean;
        Some(Self { mean, variance, alpha, beta: alpha * (1.0 - mean) / mean })
    }

    /// The 0.05 quantile; `None` where the parameters are none of a Beta distribution that can be computed.
    #[must_use]
    pub fn lower_bound(&self) -> Option<f64> {
        let bound = Beta::new(self.alpha, self.beta).ok()?.inverse_cdf(LOW);
        bound.is_finite().then_some(bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_without_spread_or_with_too_much_have_no_baseline() {
        assert_eq!(BetaBaseline::of(&[]), None);
        assert_eq!(BetaBaseline::of(&[0.3; 5]), None);
        assert_eq!(BetaBaseline::of(&[0.0, 1.0]), None, "its variance is mean (1 - mean)");
    }

    #[test]
    fn the_uniform_distribution_is_found_by_its_moments() {
        // two values at mean 1/2 and variance 1/12
        let spread = (1.0_f64 / 12.0).sqrt();
        let baseline = BetaBaseline::of(&[0.5 - spread, 0.5 + spread]).unwrap();
        assert!((baseline.alpha - 1.0).abs() < 1e-12 && (baseline.beta - 1.0).abs() < 1e-12);
        assert!((baseline.lower_bound().unwrap() - 0.05).abs() < 1e-9);
    }
}
