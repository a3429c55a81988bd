//! The folds without broker: versions of items, each compared with all items, and clicks that look their items up.

use std::collections::BTreeMap;
use std::hint::black_box;

use cosine_decay::avro::{AvroRows, SchemaIds};
use cosine_decay::clicks::ClicksFold;
use cosine_decay::event::{ClickEvent, ItemEvent, NewVersion};
use cosine_decay::items::ItemsFold;
use cosine_decay::settings::{Decay, Retraining, Settings};
use cosine_decay::table::ItemTable;
use cosine_decay::version::{VersionKey, encode_vector};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use grouping::{Dimension, Grouping};
use measures::SplitMix64;
use records::{Reason, Rejection};
use streaming::operator::{Closing, Fold, Record, Source, SourceError, Table, Timed};
use streaming::output::FoldOutput;
use streaming::window::Windows;

const DIMENSIONS: usize = 64;
const VERSIONS: usize = 64;
const CLICKS: usize = 200_000;
/// Items of one cluster.
const CLUSTER: usize = 100;

/// A click or a version.
struct Event {
    time: i64,
    key: String,
    event_id: String,
    item_id: String,
    vector: Vec<f32>,
}

impl Timed for &Event {
    fn event_time(&self) -> i64 {
        self.time
    }
}

impl ItemEvent for &Event {
    fn item_id(&self) -> &str {
        &self.item_id
    }
    fn event_id(&self) -> &str {
        &self.event_id
    }
    fn version(&self) -> Option<NewVersion<'_>> {
        Some(NewVersion { domain: "shop", model_version: "model", vector: &self.vector })
    }
}

impl ClickEvent for &Event {
    fn session_id(&self) -> &str {
        &self.key
    }
    fn event_id(&self) -> &str {
        &self.event_id
    }
    fn item_id(&self) -> &str {
        &self.item_id
    }
    fn dimension(&self, dimension: Dimension) -> &str {
        if dimension == Dimension::Domain { "shop" } else { "" }
    }
}

struct NoSource;

impl Source for NoSource {
    type Event<'a> = &'a Event;
    fn decode<'a>(&mut self, _: &Record<'a>) -> Result<&'a Event, SourceError> {
        Err(Rejection::new(Reason::Undecodable, "this source decodes nothing").into())
    }
}

fn settings() -> Settings {
    Settings {
        windows: Windows::new(300_000, 10_000).unwrap(),
        grouping: Grouping::new(&[Dimension::Domain], &[Dimension::Domain]),
        max_groups: 10_000,
        session_gap: 1_800_000,
        decay: Decay { lambda: 0.02, by_domain: BTreeMap::new() },
        vector_dimensions: DIMENSIONS,
        rate_windows: Windows::new(86_400_000, 600_000).unwrap(),
        retraining: Some(Retraining { neighbours: 5, observations: 10, max_slope: -0.015, max_norm: 0.3 }),
        revision: 1,
    }
}

fn normals(count: usize, seed: u64) -> Vec<f32> {
    let mut sequence = SplitMix64::new(seed);
    (0..count.div_ceil(2)).flat_map(|_| sequence.next_normals()).map(|x| x as f32).take(count).collect()
}

/// Vectors of items, one behind the other: around nothing, or around centres that some items share.
fn vectors(items: usize, clustered: bool) -> Vec<f32> {
    let mut vectors = normals(items * DIMENSIONS, 1);
    if clustered {
        let centres = normals(items / CLUSTER * DIMENSIONS, 2);
        let centres = centres.chunks_exact(DIMENSIONS).cycle();
        for (vector, centre) in vectors.chunks_exact_mut(DIMENSIONS).zip(centres) {
            vector.iter_mut().zip(centre).for_each(|(component, centre)| *component = 0.3 * *component + centre);
        }
    }
    vectors
}

fn item_id(item: usize) -> String {
    format!("item-{item:08}")
}

fn table(vectors: &[f32]) -> ItemTable {
    let mut table = ItemTable::new(DIMENSIONS);
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for (item, vector) in vectors.chunks_exact(DIMENSIONS).enumerate() {
        key.clear();
        value.clear();
        let event_id = format!("00000000-0000-0000-0000-{item:012}");
        VersionKey { item_id: &item_id(item), event_time: item as i64 % 1000, event_id: &event_id }.encode(&mut key);
        encode_vector(vector, &mut value);
        table.put(&key, &value, None).unwrap();
    }
    table
}

fn close_all<F: Fold>(fold: &mut F, table: &F::Table, out: &mut FoldOutput) {
    let mut closed = i64::MIN;
    while let Some(end) = fold.next_end(closed).filter(|end| *end <= 1_000_000) {
        fold.close(end, table, out);
        while fold.go_on_closing(end, table, out) == Closing::Unfinished {}
        closed = end;
    }
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cosine-decay");
    group.sample_size(10).measurement_time(std::time::Duration::from_secs(2));
    for (items, clustered) in [(10_000, false), (100_000, false), (100_000, true), (1_000_000, false)] {
        let vectors = vectors(items, clustered);
        let table = table(&vectors);
        let version = |number: usize| Event {
            time: 1000 + number as i64,
            key: String::new(),
            event_id: format!("{number}"),
            item_id: item_id(number * (items / VERSIONS)),
            vector: vectors[number * (items / VERSIONS) * DIMENSIONS..][..DIMENSIONS].iter().map(|x| x * 0.9).collect(),
        };
        let versions: Vec<Event> = (0..VERSIONS).map(version).collect();
        for count in [1, VERSIONS] {
            group.throughput(Throughput::Elements(count as u64));
            let kind = if clustered { "clustered" } else { "random" };
            group.bench_function(format!("versions, {count} a slide, among {items} {kind} items"), |bencher| {
                bencher.iter_batched(
                    || ItemsFold::<NoSource, _>::new(&settings(), AvroRows::new(SchemaIds::default())),
                    |mut fold| {
                        let mut out = FoldOutput::new(1);
                        versions[..count].iter().for_each(|version| fold.apply(&version, &mut out));
                        close_all(&mut fold, &table, &mut out);
                        (fold, out)
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        if items != 100_000 || clustered {
            continue;
        }
        let mut sequence = SplitMix64::new(7);
        let clicks = (0..CLICKS).map(|number| Event {
            time: 2000 + number as i64 * 600_000 / CLICKS as i64,
            key: format!("session-{}", sequence.next_u64() % 20_000),
            event_id: format!("00000000-0000-0000-0000-{number:012}"),
            item_id: item_id(sequence.next_u64() as usize % items),
            vector: Vec::new(),
        });
        let clicks: Vec<Event> = clicks.collect();
        group.throughput(Throughput::Elements(CLICKS as u64));
        group.bench_function(format!("clicks on {items} items"), |bencher| {
            bencher.iter_batched(
                || ClicksFold::<NoSource>::new(&settings()),
                |mut fold| {
                    let mut out = FoldOutput::new(1);
                    let mut closed = i64::MIN;
                    for click in &clicks {
                        fold.apply(&click, &mut out);
                        let watermark = click.time - 5000;
                        while let Some(end) = fold.next_end(closed).filter(|end| *end <= watermark) {
                            fold.close(end, &table, &mut out);
                            closed = end;
                        }
                    }
                    black_box(out.summaries().count());
                    fold
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(folds, benches);
criterion_main!(folds);
