//! The Wasserstein-1 distance of two samples on a line, exactly.

/// The distance of two weighted samples, each a list of values with their weights: the integral of the absolute difference
/// of their distribution functions, as `scipy.stats.wasserstein_distance` has it. In the unit of the values; weights need not
/// add up to 1, and both sides may be of any length.
///
/// `None` where the weights of a side do not add up to a positive number.
///
/// ```
/// let moved = measures::wasserstein(&[(0.0, 1.0), (1.0, 3.0)], &[(5.0, 1.0), (6.0, 3.0)]);
/// assert_eq!(moved, Some(5.0));
/// ```
#[must_use]
pub fn wasserstein(left: &[(f64, f64)], right: &[(f64, f64)]) -> Option<f64> {
    let total = |sample: &[(f64, f64)]| sample.iter().map(|(_, weight)| weight).sum::<f64>();
    let (left_total, right_total) = (total(left), total(right));
    if !(left_total > 0.0 && right_total > 0.0) {
        return None;
    }
    // each point moves the difference of the distribution functions by its share: up on the left, down on the right
    let mut points: Vec<(f64, f64, f64)> = Vec::with_capacity(left.len() + right.len());
    points.extend(left.iter().map(|(value, weight)| (*value, *weight, 0.0)));
    points.extend(right.iter().map(|(value, weight)| (*value, 0.0, *weight)));
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut below_left, mut below_right, mut distance) = (0.0, 0.0, 0.0);
    for pair in points.windows(2) {
        below_left += pair[0].1;
        below_right += pair[0].2;
        let difference: f64 = below_left / left_total - below_right / right_total;
        distance += difference.abs() * (pair[1].0 - pair[0].0);
    }
    Some(distance)
}
