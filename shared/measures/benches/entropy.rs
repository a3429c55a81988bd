//! What an event costs: it enters a window, an old one leaves, and, apart, the entropy is read.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use measures::{Bins, Estimator, GapEntropy, Normalise, Scorer};

const WINDOW: i64 = 300_000;
const EVENTS: usize = 100_000;

/// Times of one busy session: gaps from 0 to 40 s, each time moved back by up to 4 s as jitter does.
fn times() -> Vec<i64> {
    let mut state = 42_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut time = 1_400_000_000_000;
    (0..EVENTS)
        .map(|_| {
            time += 1 << random(16);
            time - random(4000) as i64
        })
        .collect()
}

fn benches(criterion: &mut Criterion) {
    let times = times();
    let bins = [
        ("log2", Bins::log2(1000, 10).unwrap()),
        ("linear", Bins::linear(0, 600_000, 10).unwrap()),
        ("linear of 500", Bins::linear(0, 60_000, 500).unwrap()),
    ];
    let mut group = criterion.benchmark_group("entropy");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for (name, bins) in bins {
        for estimator in [Estimator::PlugIn, Estimator::MillerMadow, Estimator::ChaoShen] {
            let scorer = Scorer::new(bins.clone(), estimator, Normalise::All);
            if estimator == Estimator::PlugIn {
                group.bench_function(format!("insert and evict, {name}"), |bencher| {
                    bencher.iter_batched_ref(
                        GapEntropy::new,
                        |window| {
                            for time in &times {
                                window.insert(*time, &scorer);
                                window.evict(*time - WINDOW, &scorer);
                            }
                        },
                        BatchSize::SmallInput,
                    );
                });
            }
            group.bench_function(format!("insert, evict and score, {name}, {estimator:?}"), |bencher| {
                bencher.iter_batched_ref(
                    GapEntropy::new,
                    |window| {
                        for time in &times {
                            window.insert(*time, &scorer);
                            window.evict(*time - WINDOW, &scorer);
                            black_box(window.score(&scorer));
                        }
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(entropy, benches);
criterion_main!(entropy);
