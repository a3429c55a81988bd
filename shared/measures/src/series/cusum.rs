//! CUSUM, one-sided upward: small shifts that last add up, noise does not.

use std::collections::VecDeque;

use super::UpperTail;

/// What is subtracted at each step, in sigmas: half of the shift that is to be found.
const DRIFT: f64 = 0.5;

/// What a step adds up to: `max(0, c + (value - mean) - sigma / 2)`.
#[must_use]
pub fn cusum_step(c: f64, value: f64, mean: f64, sigma: f64) -> f64 {
    (c + (value - mean) - DRIFT * sigma).max(0.0)
}

/// Which values make the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CusumBaseline {
    /// A value must be this old, ms.
    pub guard: i64,
    /// Older values than this beyond the guard count no more, ms.
    pub window: i64,
    /// So many values are needed.
    pub min_values: usize,
}

impl Default for CusumBaseline {
    /// Values 1 to 25 hours old, at least 24 of them.
    fn default() -> Self {
        Self { guard: 3_600_000, window: 24 * 3_600_000, min_values: 24 }
    }
}

/// Beyond what it fires.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CusumThreshold {
    /// So many sigmas.
    Sigmas(f64),
    /// The 0.995 quantile of all earlier `c`s, before their reset, once there are `min_history` of them; until then so many
    /// sigmas.
    Learned {
        /// Until enough is learned.
        sigmas: f64,
        /// What is enough.
        min_history: u64,
    },
}

impl CusumThreshold {
    /// The usual 200 values of history.
    #[must_use]
    pub fn learned(sigmas: f64) -> Self {
        Self::Learned { sigmas, min_history: 200 }
    }
}

/// One value, judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CusumStep {
    /// Mean of the baseline.
    pub mean: f64,
    /// Its standard deviation, the population's; above 0.
    pub sigma: f64,
    /// The sum, before a reset.
    pub c: f64,
    /// What it is compared with.
    pub threshold: f64,
    /// Whether it is above; the sum is 0 again then.
    pub fired: bool,
}

/// The state of one series: values of the last 25 hours, the sum, and what was learned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cusum {
    /// Values with their times, ascending.
    pub values: VecDeque<(i64, f64)>,
    /// The sum so far.
    pub c: f64,
    /// Earlier sums; only where the threshold is learned from them.
    pub history: UpperTail,
}

impl Cusum {
    /// Judges a finite value; times (epoch ms) come ascending. `None` where there is no baseline: too few values, or without
    /// any spread. For shifts downward, negate the series.
    pub fn observe(
        &mut self,
        time: i64,
        value: f64,
        baseline: &CusumBaseline,
        threshold: CusumThreshold,
    ) -> Option<CusumStep> {
        let from = time.saturating_sub(baseline.guard).saturating_sub(baseline.window);
        while self.values.pop_front_if(|(oldest, _)| *oldest <= from).is_some() {}
        let moments = self.moments(time.saturating_sub(baseline.guard), baseline.min_values);
        self.values.push_back((time, value));
        let (mean, sigma) = moments?;
        let limit = match threshold {
            CusumThreshold::Sigmas(sigmas) => sigmas * sigma,
            CusumThreshold::Learned { sigmas, min_history } => {
                let learned = self.history.quantile().filter(|_| self.history.count() >= min_history);
                learned.unwrap_or(sigmas * sigma)
            }
        };
        let step = self.step(value, mean, sigma, limit);
        if matches!(threshold, CusumThreshold::Learned { .. }) {
            self.history.add(step.c);
        }
        Some(step)
    }

    fn step(&mut self, value: f64, mean: f64, sigma: f64, threshold: f64) -> CusumStep {
        let c = cusum_step(self.c, value, mean, sigma);
        let fired = c > threshold;
        self.c = if fired { 0.0 } else { c };
        CusumStep { mean, sigma, c, threshold, fired }
    }

    /// Mean and standard deviation of the values up to `until`. They are summed anew each time, at most a day of values, so
    /// that no error grows.
    fn moments(&self, until: i64, min_values: usize) -> Option<(f64, f64)> {
        let values = || self.values.iter().take_while(|(time, _)| *time <= until).map(|(_, value)| *value);
        let count = values().count();
        if count < min_values.max(1) {
            return None;
        }
        let mean = values().sum::<f64>() / count as f64;
        let variance = values().map(|value| (value - mean) * (value - mean)).sum::<f64>() / count as f64;
        Some((mean, variance.sqrt())).filter(|(_, sigma)| *sigma > 0.0)
    }
}
