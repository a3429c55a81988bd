//! A whole task without broker: vectors into a fold, its summaries into a merge, rows as Avro; and snapshots.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use domain_drift::avro::AvroRows;
use domain_drift::distance::ScaledBy;
use domain_drift::event::VectorEvent;
use domain_drift::fold::DriftFold;
use domain_drift::merge::DriftMerge;
use domain_drift::pairs::Pairs;
use domain_drift::projector::{Normalise, Projector};
use domain_drift::settings::Settings;
use domain_drift::summary::Summary;
use measures::{Directions, Scale, Sinkhorn, SplitMix64};
use records::{Reason, Rejection};
use streaming::operator::{Fold, Merge, NoTable, Record, Source, SourceError, Timed};
use streaming::output::{FoldOutput, MergeOutput};
use streaming::window::Windows;

const DIMENSIONS: usize = 64;
const SLIDE: i64 = 300_000;
/// Vectors that events share: a million of their own would measure the memory.
const VECTORS: usize = 4096;

struct Event {
    time: i64,
    domain: &'static str,
    user_id: String,
    event_id: String,
    vector: usize,
}

struct View<'a>(&'a Event, &'a [f32]);

impl Timed for View<'_> {
    fn event_time(&self) -> i64 {
        self.0.time
    }
}

impl VectorEvent for View<'_> {
    fn user_id(&self) -> &str {
        &self.0.user_id
    }
    fn domain(&self) -> &str {
        self.0.domain
    }
    fn event_id(&self) -> &str {
        &self.0.event_id
    }
    fn vector(&self) -> &[f32] {
        self.1
    }
}

struct NoSource;

impl Source for NoSource {
    type Event<'a> = View<'a>;
    fn decode<'a>(&mut self, _: &Record<'a>) -> Result<View<'a>, SourceError> {
        Err(Rejection::new(Reason::Undecodable, "this source decodes nothing").into())
    }
}

type BenchFold = DriftFold<NoSource>;

fn settings(sinkhorn: bool) -> Settings {
    let scale = Scale::new(-1.0, 1.0, 2048).unwrap();
    Settings {
        windows: Windows::new(12 * SLIDE, SLIDE).unwrap(),
        projector: Projector::new(Directions::new(32, DIMENSIONS, 42), scale, Normalise::L2),
        scaled_by: ScaledBy::TargetSigma,
        reference: 0.9,
        min_users: 30,
        pairs: Pairs::All { max: 4096 },
        self_offset: None,
        sinkhorn: sinkhorn.then_some((Sinkhorn { epsilon: 0.01, iterations: 50 }, 256)),
        max_domains: 64,
        revision: 1,
    }
}

fn vectors() -> Vec<f32> {
    let mut sequence = SplitMix64::new(1);
    (0..VECTORS * DIMENSIONS / 2).flat_map(|_| sequence.next_normals()).map(|x| x as f32).collect()
}

/// `count` updates of `users` users over 8 domains, `slides` slides of event time long.
fn events(count: usize, users: u64, slides: i64) -> Vec<Event> {
    let mut sequence = SplitMix64::new(7);
    let domains = ["books", "films", "music", "games", "sport", "news", "travel", "food"];
    (0..count)
        .map(|number| {
            let time = 1_400_000_000_000 + number as i64 * slides * SLIDE / count as i64;
            let user = sequence.next_u64() % users;
            Event {
                time: time - (sequence.next_u64() % 4000) as i64,
                domain: domains[(user % 8) as usize],
                user_id: format!("user-{user:08x}"),
                event_id: format!("{:08x}-{number:027x}", sequence.next_u64() as u32),
                vector: (sequence.next_u64() % VECTORS as u64) as usize,
            }
        })
        .collect()
}

fn view<'a>(event: &'a Event, vectors: &'a [f32]) -> View<'a> {
    View(event, &vectors[event.vector * DIMENSIONS..][..DIMENSIONS])
}

fn merged(out: &FoldOutput, merge: &DriftMerge<AvroRows>) -> BTreeMap<Box<[u8]>, Summary> {
    out.summaries().map(|(_, _, group, summary)| (group.into(), merge.decode(summary).unwrap())).collect()
}

fn play(fold: &mut BenchFold, merge: &mut DriftMerge<AvroRows>, events: &[Event], vectors: &[f32]) -> usize {
    let mut out = FoldOutput::new(1);
    let (mut watermark, mut closed, mut rows) = (i64::MIN, i64::MIN, 0);
    for event in events {
        fold.apply(&view(event, vectors), &mut out);
        watermark = watermark.max(event.time - 5000);
        if watermark < closed.saturating_add(SLIDE) {
            continue;
        }
        while let Some(end) = fold.next_end(closed).filter(|end| *end <= watermark) {
            out = FoldOutput::new(1);
            fold.close(end, &NoTable, &mut out);
            closed = end;
            let mut rows_out = MergeOutput::default();
            merge.close(end, merged(&out, merge), &mut rows_out);
            rows += rows_out.records.len();
        }
    }
    rows
}

fn benches(criterion: &mut Criterion) {
    let vectors = vectors();
    let mut group = criterion.benchmark_group("domain-drift");
    group.sample_size(10);
    for (name, users, slides) in [
        ("10 k users, 24 slides", 10_000, 24),
        ("200 k users, 24 slides", 200_000, 24),
        ("200 k users, 2 slides", 200_000, 2),
    ] {
        let events = events(1_000_000, users, slides);
        group.throughput(Throughput::Elements(events.len() as u64));
        group.bench_function(format!("fold and merge, {name}"), |bencher| {
            bencher.iter_batched(
                || (DriftFold::new(&settings(false)), DriftMerge::new(&settings(false), AvroRows::new(1))),
                |(mut fold, mut merge)| {
                    black_box(play(&mut fold, &mut merge, &events, &vectors));
                    (fold, merge)
                },
                BatchSize::PerIteration,
            );
        });
    }

    for sinkhorn in [false, true] {
        let settings = settings(sinkhorn);
        let mut fold: BenchFold = DriftFold::new(&settings);
        let events = events(500_000, 200_000, 1);
        events.iter().for_each(|event| fold.apply(&view(event, &vectors), &mut FoldOutput::new(1)));
        let end = fold.next_end(i64::MIN).unwrap() + SLIDE;
        let mut out = FoldOutput::new(1);
        fold.close(end, &NoTable, &mut out);
        let merge = DriftMerge::new(&settings, AvroRows::new(1));
        let bytes: usize = out.summaries().map(|(.., summary)| summary.len()).sum();
        let size = fold.size();
        println!("sinkhorn {sinkhorn}: {} users take {} bytes, 8 summaries {bytes}", size.keys, size.bytes);
        group.throughput(Throughput::Elements(28));
        group.bench_function(format!("28 rows of 8 domains, sinkhorn {sinkhorn}"), |bencher| {
            bencher.iter_batched(
                || (DriftMerge::new(&settings, AvroRows::new(1)), merged(&out, &merge)),
                |(mut merge, groups)| {
                    let mut rows = MergeOutput::default();
                    merge.close(end, groups, &mut rows);
                    rows
                },
                BatchSize::PerIteration,
            );
        });
        if sinkhorn {
            continue;
        }
        let mut bytes = Vec::new();
        fold.snapshot(&mut bytes);
        println!("a snapshot of {} users takes {} bytes", fold.size().keys, bytes.len());
        group.throughput(Throughput::Elements(fold.size().keys));
        group.bench_function("write a snapshot of 200 k users", |bencher| {
            bencher.iter(|| {
                bytes.clear();
                fold.snapshot(&mut bytes);
            });
        });
        group.bench_function("restore 200 k users", |bencher| {
            bencher.iter_batched(
                || BenchFold::new(&settings),
                |mut fold| fold.restore(&bytes).map(|()| fold).unwrap(),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(fold_and_merge, benches);
criterion_main!(fold_and_merge);
