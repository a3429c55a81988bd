//! SplitMix64: from a seed the same numbers everywhere (Steele, Lea and Flood, "Fast splittable pseudorandom number
//! generators", 2014).

/// The sequence of a seed.
#[derive(Debug, Clone)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// The sequence that `seed` stands for.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number; all 2^64 come equally often.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number's upper 53 bits as a fraction in `[0, 1)`.
    pub fn next_fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Two independent standard normal values, by Box and Muller's transformation of two fractions.
    pub fn next_normals(&mut self) -> [f64; 2] {
        let (u1, u2) = (self.next_fraction(), self.next_fraction());
        let radius = (-2.0 * (1.0 - u1).ln()).sqrt();
        let angle = 2.0 * std::f64::consts::PI * u2;
        [radius * angle.cos(), radius * angle.sin()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequences_are_those_of_the_reference_implementation() {
        let mut of_zero = SplitMix64::new(0);
        let expected = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        assert_eq!([(); 3].map(|()| of_zero.next_u64()), expected);
        let mut of_42 = SplitMix64::new(42);
        let expected = [13_679_457_532_755_275_413, 2_949_826_092_126_892_291, 5_139_283_748_462_763_858];
        assert_eq!([(); 3].map(|()| of_42.next_u64()), expected);
    }

    #[test]
    fn normal_values_have_mean_0_and_variance_1() {
        let mut sequence = SplitMix64::new(7);
        let values: Vec<f64> = (0..50_000).flat_map(|_| sequence.next_normals()).collect();
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|value| value * value).sum::<f64>() / n;
        // six standard errors
        assert!(mean.abs() < 6.0 / n.sqrt(), "{mean}");
        assert!((variance - 1.0).abs() < 6.0 * (2.0 / n).sqrt(), "{variance}");
    }
}
