//! Entropy of the gaps' histogram, in bits, and what is reported of it.

use crate::{BinCounts, Bins, Fixed, log2};

/// How the entropy of the underlying distribution is estimated from few gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Estimator {
    /// `-sum p log2 p` of the observed shares; biased low with few gaps.
    #[default]
    PlugIn,
    /// Plug-in plus `(m - 1) / (2 N ln 2)`, at most `log2 K`.
    MillerMadow,
    /// Chao and Shen 2003: by sample coverage, at most `log2 K`. Costs a step for each non-empty bin.
    ChaoShen,
}

/// What the entropy is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Normalise {
    /// `log2` of the number of bins.
    #[default]
    All,
    /// `log2` of the number of non-empty bins; 0 where that is at most 1.
    Occupied,
}

/// A session's entropy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// In bits, at least 0.
    pub entropy: f64,
    /// From 0 to 1.
    pub normalised: f64,
}

impl Score {
    /// `1 - normalised`: 1 is a session in one steady rhythm.
    #[must_use]
    pub fn freshness(&self) -> f64 {
        1.0 - self.normalised
    }
}

/// Scores counts. Equal counts give equal bits, whatever their history.
#[derive(Debug, Clone, PartialEq)]
pub struct Scorer {
    bins: Bins,
    estimator: Estimator,
    normalise: Normalise,
    log2_bins: f64,
}

impl Scorer {
    /// A scorer for histograms with these bins.
    #[must_use]
    pub fn new(bins: Bins, estimator: Estimator, normalise: Normalise) -> Self {
        let log2_bins = log2_f64(bins.count());
        Self { bins, estimator, normalise, log2_bins }
    }

    /// The bins that gaps are counted in.
    #[must_use]
    pub fn bins(&self) -> &Bins {
        &self.bins
    }

    /// The score of these counts; both parts are exactly 0 for no gaps and, but for the estimators' corrections, for
    /// gaps of one bin.
    #[must_use]
    pub fn score(&self, counts: &BinCounts) -> Score {
        let total = counts.total();
        if total <= 1 {
            return Score::default();
        }
        let entropy = match self.estimator {
            Estimator::PlugIn => plug_in(counts, total),
            Estimator::MillerMadow => {
                let correction = f64::from(counts.occupied() - 1) / (2.0 * total as f64 * std::f64::consts::LN_2);
                (plug_in(counts, total) + correction).min(self.log2_bins)
            }
            Estimator::ChaoShen => chao_shen(counts, total).min(self.log2_bins),
        };
        Score { entropy, normalised: self.normalised(entropy, counts) }
    }

    fn normalised(&self, entropy: f64, counts: &BinCounts) -> f64 {
        let most = match self.normalise {
            Normalise::All => self.log2_bins,
            Normalise::Occupied => log2_f64(counts.occupied()),
        };
        // 0 for a single bin, where there is nothing to divide by
        if most > 0.0 { (entropy / most).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// `log2` of a number of bins, rounded once; at least one bin.
fn log2_f64(bins: u32) -> f64 {
    Fixed::from_raw(log2::log2(u64::from(bins.max(1)))).mean(1).unwrap_or_default()
}

/// `log2 N - (sum c log2 c) / N`, as `(N log2 N - sum c log2 c) / N`: exact but for the last rounding.
fn plug_in(counts: &BinCounts, total: u64) -> f64 {
    let difference = log2::count_log2_count(total) - counts.sum_count_log2_count();
    // the logarithms' own rounding could leave some units below 0
    Fixed::from_raw(difference.max(0)).mean(total).unwrap_or_default()
}

fn chao_shen(counts: &BinCounts, total: u64) -> f64 {
    let total_f64 = total as f64;
    let singles = counts.iter().filter(|count| *count == 1).count() as u64;
    let unseen = if singles == total { total - 1 } else { singles };
    let coverage = 1.0 - unseen as f64 / total_f64;
    let sum: f64 = counts
        .iter()
        .map(|count| {
            let share = coverage * count as f64 / total_f64;
            // 1 - (1 - share)^total without cancellation
            let seen = -(total_f64 * (-share).ln_1p()).exp_m1();
            share * share.log2() / seen
        })
        .sum();
    0.0 - sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts_of(counts: &[u32]) -> BinCounts {
        let mut bins = BinCounts::default();
        for (bin, count) in (0..).zip(counts) {
            (0..*count).for_each(|_| bins.add(bin));
        }
        bins
    }

    fn score(counts: &[u32], bins: u32, estimator: Estimator, normalise: Normalise) -> Score {
        Scorer::new(Bins::log2(1000, bins).unwrap(), estimator, normalise).score(&counts_of(counts))
    }

    fn entropy(counts: &[u32], estimator: Estimator) -> f64 {
        score(counts, 100, estimator, Normalise::All).entropy
    }

    #[test]
    fn the_hand_checks_of_the_definition_hold() {
        assert!((entropy(&[7, 3], Estimator::PlugIn) - 0.8813).abs() < 5e-5);
        assert_eq!(entropy(&[10], Estimator::PlugIn), 0.0);
        assert_eq!(entropy(&[], Estimator::PlugIn), 0.0);
    }

    #[test]
    fn one_occupied_bin_is_exactly_0_whatever_the_count() {
        for count in [1, 2, 3, 7, 100, 1000, 5000] {
            for estimator in [Estimator::PlugIn, Estimator::MillerMadow, Estimator::ChaoShen] {
                for normalise in [Normalise::All, Normalise::Occupied] {
                    let score = score(&[0, 0, count], 10, estimator, normalise);
                    assert_eq!((score.entropy.to_bits(), score.normalised.to_bits()), (0, 0), "{count} {estimator:?}");
                    assert_eq!(score.freshness(), 1.0);
                }
            }
        }
    }

    #[test]
    fn equal_shares_have_the_logarithm_of_their_number() {
        assert_eq!(entropy(&[5, 5], Estimator::PlugIn), 1.0);
        assert_eq!(entropy(&[1; 4], Estimator::PlugIn), 2.0);
        assert_eq!(entropy(&[300; 8], Estimator::PlugIn), 3.0);
        assert_eq!(entropy(&[2; 3], Estimator::PlugIn), 3.0_f64.log2());
        let full = score(&[1; 10], 10, Estimator::PlugIn, Normalise::All);
        assert_eq!((full.entropy, full.normalised, full.freshness()), (10.0_f64.log2(), 1.0, 0.0));
    }

    #[test]
    fn estimators_are_as_computed_by_hand() {
        // counts 2 and 1: H = log2 3 - 2/3
        let plug_in = 3.0_f64.log2() - 2.0 / 3.0;
        assert!((entropy(&[2, 1], Estimator::PlugIn) - plug_in).abs() < 1e-15);
        let corrected = plug_in + 1.0 / (6.0 * 2.0_f64.ln());
        assert!((entropy(&[2, 1], Estimator::MillerMadow) - corrected).abs() < 1e-15);
        // f1 = 1, C = 2/3, p = 4/9 and 2/9
        let term = |p: f64| -p * p.log2() / (1.0 - (1.0 - p).powi(3));
        let expected = term(4.0 / 9.0) + term(2.0 / 9.0);
        assert!((entropy(&[2, 1], Estimator::ChaoShen) - expected).abs() < 1e-14);
        // all singles: C = 1/2, p = 1/4 twice: 2 * (1/4 * 2) / (1 - 9/16)
        assert!((entropy(&[1, 1], Estimator::ChaoShen) - 16.0 / 7.0).abs() < 1e-14);
    }

    #[test]
    fn corrected_estimates_are_capped_at_the_logarithm_of_all_bins() {
        for estimator in [Estimator::MillerMadow, Estimator::ChaoShen] {
            let score = score(&[1, 1], 2, estimator, Normalise::All);
            assert_eq!((score.entropy, score.normalised), (1.0, 1.0), "{estimator:?}");
        }
    }

    #[test]
    fn normalising_by_the_occupied_bins_divides_by_their_logarithm() {
        let occupied = score(&[3, 0, 3, 0, 0, 3, 3], 10, Estimator::PlugIn, Normalise::Occupied);
        assert_eq!((occupied.entropy, occupied.normalised), (2.0, 1.0));
        assert_eq!(score(&[9], 1, Estimator::PlugIn, Normalise::All).normalised, 0.0);
    }
}
