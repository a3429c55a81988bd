//! What a pair of vectors costs, and the nearest neighbours of one.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use measures::{Nearest, Side, SplitMix64, cosine, dot};

const CANDIDATES: usize = 30_000;

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cosine");
    for dimensions in [32, 64, 256] {
        let mut sequence = SplitMix64::new(1);
        let vectors: Vec<f32> =
            (0..CANDIDATES * dimensions / 2).flat_map(|_| sequence.next_normals()).map(|x| x as f32).collect();
        let (one, other) = vectors.split_at(dimensions);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("a pair of {dimensions} dimensions"), |bencher| {
            bencher.iter(|| cosine(black_box(one), black_box(&other[..dimensions])));
        });

        let squares: Vec<f64> = vectors.chunks_exact(dimensions).map(|vector| dot(vector, vector)).collect();
        let mut nearest = Nearest::new(5);
        group.throughput(Throughput::Elements(CANDIDATES as u64));
        group.bench_function(format!("5 nearest of {CANDIDATES} in {dimensions} dimensions"), |bencher| {
            bencher.iter(|| {
                nearest.clear();
                let side = Side::new(one);
                for (vector, squares) in vectors.chunks_exact(dimensions).zip(&squares) {
                    nearest.offer(side.with_squares(vector, *squares));
                }
                black_box(nearest.mean())
            });
        });
        group.bench_function(
            format!("5 nearest of {CANDIDATES} in {dimensions} dimensions, squares unknown"),
            |bencher| {
                bencher.iter(|| {
                    nearest.clear();
                    let side = Side::new(one);
                    vectors.chunks_exact(dimensions).for_each(|vector| nearest.offer(side.cosine(vector)));
                    black_box(nearest.mean())
                });
            },
        );
    }
    group.finish();
}

criterion_group!(cosines, benches);
criterion_main!(cosines);
