//! The incremental entropy against a direct recomputation, over random histories of insertion and eviction.

use measures::{Band, Bins, Estimator, GapEntropy, Normalise, Scorer};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum BinKind {
    Log2 { unit: i64, count: u32 },
    Linear { min: i64, width: i64, count: u32 },
}

impl BinKind {
    fn bins(self) -> Bins {
        match self {
            Self::Log2 { unit, count } => Bins::log2(unit, count).unwrap(),
            Self::Linear { min, width, count } => Bins::linear(min, min + width * i64::from(count), count).unwrap(),
        }
    }

    fn count(self) -> u32 {
        match self {
            Self::Log2 { count, .. } | Self::Linear { count, .. } => count,
        }
    }

    /// By the definition; widths of whole seconds, so that numpy's edges are exact.
    fn naive_index(self, gap: i64) -> Option<usize> {
        match self {
            Self::Log2 { unit, count } => {
                let mut bin = 0;
                while bin < count as usize - 1 && gap >= unit * (1 << bin) {
                    bin += 1;
                }
                Some(bin)
            }
            Self::Linear { min, width, count } => {
                let top = min + width * i64::from(count);
                (min..=top).contains(&gap).then(|| ((gap - min) / width).min(i64::from(count) - 1) as usize)
            }
        }
    }
}

fn direct(times: &[i64], kind: BinKind, estimator: Estimator, normalise: Normalise) -> (f64, f64) {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let mut counts = vec![0_u64; kind.count() as usize];
    for pair in sorted.windows(2) {
        if let Some(bin) = kind.naive_index(pair[1] - pair[0]) {
            counts[bin] += 1;
        }
    }
    let n = counts.iter().sum::<u64>() as f64;
    let occupied: Vec<f64> = counts.iter().filter(|c| **c > 0).map(|c| *c as f64).collect();
    let log2_bins = f64::from(kind.count()).log2();
    let plug_in = || -occupied.iter().map(|c| c / n * (c / n).log2()).sum::<f64>();
    let entropy = if n == 0.0 {
        0.0
    } else {
        match estimator {
            Estimator::PlugIn => plug_in(),
            Estimator::MillerMadow => {
                (plug_in() + (occupied.len() as f64 - 1.0) / (2.0 * n * 2.0_f64.ln())).min(log2_bins)
            }
            Estimator::ChaoShen => {
                let singles = occupied.iter().filter(|c| **c == 1.0).count() as f64;
                let coverage = if singles == n { 1.0 / n } else { 1.0 - singles / n };
                let shares = occupied.iter().map(|c| coverage * c / n);
                (-shares.map(|p| p * p.log2() / (1.0 - (1.0 - p).powf(n))).sum::<f64>()).min(log2_bins)
            }
        }
    };
    let size = match normalise {
        Normalise::All => f64::from(kind.count()),
        Normalise::Occupied => occupied.len() as f64,
    };
    (entropy, if size > 1.0 { (entropy / size.log2()).clamp(0.0, 1.0) } else { 0.0 })
}

fn kinds() -> impl Strategy<Value = BinKind> {
    prop_oneof![
        (1_i64..3000, 1_u32..24).prop_map(|(unit, count)| BinKind::Log2 { unit, count }),
        Just(BinKind::Log2 { unit: 1000, count: 10 }),
        (0_i64..5, 1_i64..9, 1_u32..400).prop_map(|(min, width, count)| BinKind::Linear {
            min: 1000 * min,
            width: 1000 * width,
            count
        }),
    ]
}

fn estimators() -> impl Strategy<Value = Estimator> {
    prop::sample::select(vec![Estimator::PlugIn, Estimator::MillerMadow, Estimator::ChaoShen])
}

fn normalises() -> impl Strategy<Value = Normalise> {
    prop::sample::select(vec![Normalise::All, Normalise::Occupied])
}

/// Steps forward in time with jitter back, some of them large; true evicts what is older than a window.
fn histories() -> impl Strategy<Value = Vec<(i64, i64, bool)>> {
    let step = prop_oneof![0_i64..50, 0_i64..3000, 0_i64..60_000];
    prop::collection::vec((step, 0_i64..6000, prop::bool::weighted(0.3)), 0..500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_window_scores_as_its_events_do_directly(
        history in histories(), kind in kinds(), estimator in estimators(), normalise in normalises(), window in 1_i64..400_000
    ) {
        let scorer = Scorer::new(kind.bins(), estimator, normalise);
        let mut incremental = GapEntropy::new();
        let mut events: Vec<i64> = Vec::new();
        let mut now = 0;
        for (step, back, evicts) in history {
            now += step;
            incremental.insert(now - back, &scorer);
            events.push(now - back);
            if evicts {
                incremental.evict(now - window, &scorer);
                events.retain(|time| *time > now - window);
            }
            prop_assert_eq!(incremental.len(), events.len());
        }
        let score = incremental.score(&scorer);
        let (entropy, normalised) = direct(&events, kind, estimator, normalise);
        prop_assert!((score.entropy - entropy).abs() < 1e-12, "H = {} directly {}", score.entropy, entropy);
        prop_assert!((score.normalised - normalised).abs() < 1e-12, "h = {} directly {}", score.normalised, normalised);
        prop_assert!((0.0..=1.0).contains(&score.freshness()));
        prop_assert_eq!(Band::of(score.normalised).decay_factor(), match score.normalised {
            h if h < 0.3 => 0.95,
            h if h < 0.7 => 0.82,
            _ => 0.60,
        });
    }

    #[test]
    fn equal_events_give_equal_bits_whatever_their_order_and_what_came_before(
        times in prop::collection::vec(0_i64..400_000, 0..120).prop_flat_map(|times| (Just(times.clone()), Just(times).prop_shuffle())),
        earlier in prop::collection::vec(-600_000_i64..0, 0..400), kind in kinds(), estimator in estimators(), normalise in normalises()
    ) {
        let (times, shuffled) = times;
        let scorer = Scorer::new(kind.bins(), estimator, normalise);
        let mut plain = GapEntropy::new();
        times.iter().for_each(|time| plain.insert(*time, &scorer));
        let mut other = GapEntropy::new();
        earlier.iter().chain(&shuffled).for_each(|time| other.insert(*time, &scorer));
        other.evict(-1, &scorer);
        let (plain, other) = (plain.score(&scorer), other.score(&scorer));
        prop_assert_eq!(plain.entropy.to_bits(), other.entropy.to_bits());
        prop_assert_eq!(plain.normalised.to_bits(), other.normalised.to_bits());
    }
}
