//! Whether something goes up or down.

/// The mean step of successive observations, `(last - first) / (n - 1)`; `None` for fewer than 2.
#[must_use]
pub fn slope(observations: &[f64]) -> Option<f64> {
    match observations {
        [first, between @ .., last] => Some((last - first) / (between.len() + 1) as f64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_observations_make_nine_steps() {
        let falling: Vec<f64> = (0..10).map(|at| 1.0 - 0.25 * f64::from(at)).collect();
        assert_eq!(slope(&falling), Some(-0.25));
        assert_eq!(slope(&[0.0, 100.0, -1.0]), Some(-0.5), "only the ends count");
    }

    #[test]
    fn less_than_two_observations_have_no_slope() {
        assert_eq!((slope(&[]), slope(&[1.0])), (None, None));
    }
}
