//! What a pair of vectors costs, and the nearest neighbours of one.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use measures::{Nearest, Search, Side, SplitMix64, cosine, reciprocal_norm};

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

        let mut nearest = Nearest::new(5);
        group.throughput(Throughput::Elements(CANDIDATES as u64));
        group.bench_function(
            format!("5 nearest of {CANDIDATES} in {dimensions} dimensions, all computed"),
            |bencher| {
                bencher.iter(|| {
                    nearest.clear();
                    let side = Side::new(one);
                    vectors.chunks_exact(dimensions).for_each(|vector| nearest.offer(side.cosine(vector)));
                    black_box(nearest.mean())
                });
            },
        );
        let reciprocals: Vec<f32> = vectors.chunks_exact(dimensions).map(reciprocal_norm).collect();
        for asking in [1, 4, Search::MOST] {
            group.throughput(Throughput::Elements((CANDIDATES * asking) as u64));
            group.bench_function(
                format!("5 nearest of {CANDIDATES} in {dimensions} dimensions, {asking} at once"),
                |bencher| {
                    bencher.iter(|| {
                        let mut search = Search::new(vectors.chunks_exact(dimensions).take(asking), 5);
                        for (vector, reciprocal) in vectors.chunks_exact(dimensions).zip(&reciprocals) {
                            search.offer(vector, *reciprocal, |_| true);
                        }
                        search
                    });
                },
            );
        }
    }
    group.finish();
}

criterion_group!(cosines, benches);
criterion_main!(cosines);
