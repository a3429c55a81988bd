//! What a vector costs: its norm, its projections, their places and bins.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use measures::{Directions, Histogram, Scale, SplitMix64, norm};

const VECTORS: usize = 1000;

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("projection");
    let scale = Scale::new(-1.0, 1.0, 2048).unwrap();
    for dimensions in [32, 64, 256] {
        let directions = Directions::new(32, dimensions, 42);
        let mut sequence = SplitMix64::new(1);
        let vectors: Vec<f32> =
            (0..VECTORS * dimensions / 2).flat_map(|_| sequence.next_normals()).map(|x| x as f32).collect();
        group.throughput(Throughput::Elements(VECTORS as u64));
        let mut projections = vec![0.0; directions.count()];
        group.bench_function(format!("{dimensions} dimensions on 32 directions"), |bencher| {
            bencher.iter(|| {
                for vector in vectors.chunks_exact(dimensions) {
                    directions.project(vector, &mut projections);
                    black_box(&projections);
                }
            });
        });
        group.bench_function(format!("{dimensions} dimensions on 32 directions, with norm and bins"), |bencher| {
            bencher.iter(|| {
                for vector in vectors.chunks_exact(dimensions) {
                    directions.project(vector, &mut projections);
                    let norm = norm(vector);
                    for projection in &projections {
                        black_box(scale.bin(scale.place(projection / norm)));
                    }
                }
            });
        });
    }

    let mut sequence = SplitMix64::new(2);
    let mut sample = |shift: f64| {
        let mut counts = vec![0; 2048];
        for _ in 0..50_000 {
            let [one, other] = sequence.next_normals();
            for value in [one, other] {
                counts[scale.bin(scale.place(value * 0.2 + shift)) as usize] += 1;
            }
        }
        Histogram::of_counts(&counts)
    };
    let (left, right) = (sample(0.0), sample(0.05));
    group.throughput(Throughput::Elements(1));
    group.bench_function("distance of two histograms of 100,000 values in 2048 bins", |bencher| {
        bencher.iter(|| black_box(&left).wasserstein(black_box(&right)));
    });
    group.bench_function("noise floor of two histograms of 100,000 values in 2048 bins", |bencher| {
        bencher.iter(|| black_box(&left).noise_floor(black_box(&right)));
    });
    group.finish();
}

criterion_group!(projection, benches);
criterion_main!(projection);
