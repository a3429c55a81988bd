//! The numbers of a row: how far two summaries of users lie apart.

use measures::Sinkhorn;

use crate::projector::Projector;
use crate::summary::{Sampled, Summary};

/// A distance is significant above so many noise floors.
const SIGNIFICANT: f64 = 3.0;

/// The limits of the coefficient.
const GAMMA: (f64, f64) = (0.05, 0.95);

/// Below this standard deviation of its projections in some direction, in the unit of projections, a target has collapsed
/// (METRICS.md §4): it is no scale for a distance.
const COLLAPSED: f64 = 1e-6;

/// By what the coefficient's distance is divided before the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaledBy {
    /// In each direction the standard deviation of the target's projections.
    TargetSigma,
    /// Nothing.
    Nothing,
}

/// How distances are measured and judged.
#[derive(Debug, Clone)]
pub struct Measure {
    /// Range, bins and normalisation.
    pub projector: Projector,
    /// What the coefficient is made of.
    pub scaled_by: ScaledBy,
    /// The distance at which the coefficient is 1; above 0.
    pub reference: f64,
    /// Users that either side needs for a coefficient.
    pub min_users: u64,
    /// The cross-check, where samples are taken.
    pub sinkhorn: Option<Sinkhorn>,
}

/// How far two samples lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Users of the source.
    pub n: u64,
    /// Users of the target.
    pub m: u64,
    /// The sliced Wasserstein-1 distance: the mean over the directions.
    pub w1: f64,
    /// The largest distance of all directions.
    pub max_sliced: f64,
    /// The mean of the distances in standard deviations of the target; `None` where the target has collapsed.
    pub w1_scaled: Option<f64>,
    /// The distance that two samples of one distribution would show, as a mean over the directions.
    pub noise_floor: f64,
    /// Whether `w1` is well above the noise floor; never with too few users.
    pub significant: bool,
    /// The coefficient; `None` where there are too few users. By a target that has collapsed nothing can be scaled: then there
    /// is one where the distance is significant only.
    pub coefficient: Option<Coefficient>,
    /// The Sinkhorn divergence of the samples; `None` where none are taken.
    pub sinkhorn: Option<f64>,
    /// Projections of both sides outside of the range.
    pub out_of_range: u64,
}

/// What follows from a distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coefficient {
    /// The scaled distance by the reference; `None` for a target that has collapsed.
    pub raw: Option<f64>,
    /// The same from 0.05 to 0.95; 0.95 for a target that has collapsed.
    pub gamma: f64,
    /// Share of the traffic for the experiment's arm.
    pub traffic_share: f64,
}

impl Coefficient {
    /// `raw` is `None` where the target has collapsed and the distance is significant: no drift is greater.
    fn of(raw: Option<f64>) -> Self {
        let gamma = raw.map_or(GAMMA.1, |raw| raw.clamp(GAMMA.0, GAMMA.1));
        let traffic_share = if gamma < 0.3 {
            0.10
        } else if gamma < 0.6 {
            0.25
        } else {
            0.40
        };
        Self { raw, gamma, traffic_share }
    }
}

impl Measure {
    /// The distance from `source` to `target`; `None` where either has no users.
    #[must_use]
    pub fn distance(&self, source: &Summary, target: &Summary) -> Option<Distance> {
        let scale = self.projector.scale();
        let directions = target.directions.len() as f64;
        let (mut sum, mut max_sliced, mut floors) = (0.0, 0.0_f64, 0.0);
        let mut scaled = Some(0.0);
        for (source, here) in source.directions.iter().zip(&target.directions) {
            let distance = source.histogram.wasserstein(&here.histogram)? * scale.bin_width();
            sum += distance;
            max_sliced = max_sliced.max(distance);
            floors += source.histogram.noise_floor(&here.histogram)? * scale.bin_width();
            let sigma = here.moments.standard_deviation(target.users) * scale.place_width();
            scaled = scaled.filter(|_| sigma >= COLLAPSED).map(|scaled: f64| scaled + distance / sigma);
        }
        let (w1, noise_floor) = (sum / directions, floors / directions);
        let w1_scaled = scaled.map(|scaled| scaled / directions);
        let measured = match self.scaled_by {
            ScaledBy::TargetSigma => w1_scaled,
            ScaledBy::Nothing => Some(w1),
        };
        let enough = source.users.min(target.users) >= self.min_users;
        let significant = enough && w1 > SIGNIFICANT * noise_floor;
        let raw = measured.map(|measured| measured / self.reference);
        let coefficient = (enough && (raw.is_some() || significant)).then(|| Coefficient::of(raw));
        Some(Distance {
            n: source.users,
            m: target.users,
            w1,
            max_sliced,
            w1_scaled,
            noise_floor,
            significant,
            coefficient,
            sinkhorn: self.divergence(&source.sample, &target.sample),
            out_of_range: source.out_of_range + target.out_of_range,
        })
    }

    fn divergence(&self, source: &[Sampled], target: &[Sampled]) -> Option<f64> {
        let vectors = |sample: &[Sampled]| -> Vec<Vec<f64>> {
            sample.iter().map(|sampled| self.projector.normalised(&sampled.vector)).collect()
        };
        self.sinkhorn?.divergence(&vectors(source), &vectors(target))
    }
}

#[cfg(test)]
mod tests {
    use measures::{Directions, Scale};

    use super::*;
    use crate::projector::Normalise;
    use crate::totals::Totals;

    /// One direction, so that a distance is what the projections say: in `[0, 4]`, bins of 0.01.
    fn measure(scaled_by: ScaledBy, min_users: u64) -> Measure {
        let scale = Scale::new(0.0, 4.0, 400).unwrap();
        let projector = Projector::new(Directions::new(1, 1, 42), scale, Normalise::None);
        Measure { projector, scaled_by, reference: 0.9, min_users, sinkhorn: None }
    }

    fn summary(projections: &[f64]) -> Summary {
        let scale = Scale::new(0.0, 4.0, 400).unwrap();
        let mut totals = Totals::new(1);
        projections.iter().for_each(|projection| totals.add(&[scale.place(*projection)], &scale));
        totals.summary(&scale)
    }

    fn near(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn without_scale_the_coefficients_are_those_of_the_hand_check() {
        let measure = measure(ScaledBy::Nothing, 2);
        let target = summary(&[0.005, 0.105]);
        for (shift, coefficient, share) in [(0.82, 0.911_111, 0.4), (1.37, 1.522_222, 0.4), (0.65, 0.722_222, 0.4)] {
            let distance = measure.distance(&summary(&[0.005 + shift, 0.105 + shift]), &target).unwrap();
            let got = distance.coefficient.unwrap();
            let raw = got.raw.unwrap();
            assert!(near(distance.w1, shift) && near(raw, coefficient), "{distance:?}");
            assert_eq!((got.gamma, got.traffic_share), (raw.min(0.95), share));
        }
    }

    #[test]
    fn by_default_a_distance_counts_in_standard_deviations_of_the_target() {
        let measure = measure(ScaledBy::TargetSigma, 2);
        // the target's deviation is 0.5, the distance 0.25
        let distance = measure.distance(&summary(&[1.255, 2.255]), &summary(&[1.005, 2.005])).unwrap();
        assert!(near(distance.w1, 0.25) && near(distance.w1_scaled.unwrap(), 0.5), "{distance:?}");
        let coefficient = distance.coefficient.unwrap();
        assert!(near(coefficient.raw.unwrap(), 0.5 / 0.9) && coefficient.traffic_share == 0.25, "{coefficient:?}");
        // the other way round it is the same, since the deviations are equal; by a wider target it is less
        let wider = measure.distance(&summary(&[1.005, 2.005]), &summary(&[0.505, 2.505])).unwrap();
        assert!(near(wider.w1_scaled.unwrap(), 0.5), "{wider:?}");
    }

    #[test]
    fn equal_samples_have_the_least_coefficient_and_are_not_significant() {
        let sample = summary(&[0.5, 1.5, 2.5]);
        let distance = measure(ScaledBy::TargetSigma, 3).distance(&sample, &sample).unwrap();
        assert_eq!(
            (distance.w1, distance.max_sliced, distance.w1_scaled, distance.significant),
            (0.0, 0.0, Some(0.0), false)
        );
        let coefficient = distance.coefficient.unwrap();
        assert_eq!((coefficient.raw, coefficient.gamma, coefficient.traffic_share), (Some(0.0), 0.05, 0.10));
    }

    #[test]
    fn too_few_users_have_no_coefficient_and_nothing_of_theirs_is_significant() {
        let (three, equal) = (summary(&[0.5, 1.5, 2.5]), summary(&[3.5, 3.5, 3.5]));
        for scaled_by in [ScaledBy::TargetSigma, ScaledBy::Nothing] {
            for (source, target) in [(&equal, &three), (&three, &equal)] {
                let too_few = measure(scaled_by, 4).distance(source, target).unwrap();
                assert!(too_few.coefficient.is_none() && !too_few.significant, "{too_few:?}");
            }
        }
        assert_eq!(measure(ScaledBy::Nothing, 1).distance(&summary(&[]), &three), None);
    }

    /// Ten users of the source between 0.5 and 1.5, and as many of the target, all at `at`, but for one at `at + apart`.
    fn narrow_target(scaled_by: ScaledBy, at: f64, apart: f64) -> Distance {
        let source: Vec<f64> = (0..10).map(|user| 0.555 + f64::from(user) / 10.0).collect();
        let mut target = vec![at; 9];
        target.push(at + apart);
        measure(scaled_by, 10).distance(&summary(&source), &summary(&target)).unwrap()
    }

    #[test]
    fn a_target_that_has_collapsed_far_away_is_the_greatest_drift() {
        let distance = narrow_target(ScaledBy::TargetSigma, 3.0, 0.0);
        assert!(distance.significant && distance.w1_scaled.is_none(), "{distance:?}");
        assert_eq!(distance.coefficient, Some(Coefficient { raw: None, gamma: 0.95, traffic_share: 0.40 }));
    }

    #[test]
    fn a_target_that_has_collapsed_where_the_source_lies_has_no_coefficient() {
        // the distance to the middle of a row of users is a quarter of its length: less than three noise floors of so few
        let distance = narrow_target(ScaledBy::TargetSigma, 1.0, 0.0);
        assert!(
            !distance.significant && distance.w1_scaled.is_none() && distance.coefficient.is_none(),
            "{distance:?}"
        );
        assert!((0.2..0.3).contains(&distance.w1), "{distance:?}");
    }

    #[test]
    fn without_scale_a_target_that_has_collapsed_has_its_coefficient_as_any_other() {
        for (at, significant) in [(3.0, true), (1.0, false)] {
            let distance = narrow_target(ScaledBy::Nothing, at, 0.0);
            assert_eq!((distance.significant, distance.w1_scaled), (significant, None), "{distance:?}");
            let raw = distance.coefficient.unwrap().raw.unwrap();
            assert!(near(raw, distance.w1 / 0.9), "{distance:?}");
        }
    }

    #[test]
    fn a_target_has_collapsed_below_a_deviation_of_one_millionth() {
        // one of ten users apart by d: the deviation is 0.3 d, and 1e-6 at d = 3.33e-6; places are 1.5e-8 wide
        assert!(narrow_target(ScaledBy::TargetSigma, 3.0, 3.2e-6).w1_scaled.is_none());
        let spread = narrow_target(ScaledBy::TargetSigma, 3.0, 3.5e-6);
        assert!(spread.w1_scaled.unwrap() > 1e6, "{spread:?}");
        assert_eq!(spread.coefficient.unwrap().gamma, 0.95);
    }

    #[test]
    fn a_distance_is_significant_above_three_noise_floors() {
        let spread = |shift: f64, count: usize| -> Summary {
            summary(&(0..count).map(|at| 1.005 + shift + at as f64 / count as f64).collect::<Vec<_>>())
        };
        let measure = measure(ScaledBy::TargetSigma, 2);
        let few = measure.distance(&spread(0.2, 10), &spread(0.0, 10)).unwrap();
        let many = measure.distance(&spread(0.2, 1000), &spread(0.0, 1000)).unwrap();
        assert!(!few.significant && few.w1 < 3.0 * few.noise_floor, "{few:?}");
        assert!(many.significant && many.w1 > 3.0 * many.noise_floor, "{many:?}");
    }
}
