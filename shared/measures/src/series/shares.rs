/// Shannon entropy, in bits, of the shares that `parts` have in their sum; 0 where the sum is. Parts are 0 or more.
#[must_use]
pub fn share_entropy(parts: impl Iterator<Item = f64> + Clone) -> f64 {
    let total: f64 = parts.clone().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let of = |share: f64| if share > 0.0 { -share * share.log2() } else { 0.0 };
    parts.map(|part| of(part / total)).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concentrated_shares_have_less_entropy_than_even_ones() {
        let of = |parts: &[f64]| share_entropy(parts.iter().copied());
        assert_eq!((of(&[]), of(&[0.0, 0.0]), of(&[3.0, 0.0])), (0.0, 0.0, 0.0));
        assert!((of(&[7.0, 3.0]) - 0.881_290_899_230_692_6).abs() < 1e-15, "0.7 and 0.3, as METRICS.md checks by hand");
        assert_eq!((of(&[2.0, 2.0]), of(&[1.0; 8])), (1.0, 3.0));
    }
}
