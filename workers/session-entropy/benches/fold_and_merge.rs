//! A whole task without broker: events into a fold, its summaries into a merge, rows as Avro; and snapshots.

use std::collections::BTreeMap;
use std::hint::black_box;

use alerting::AlertStage;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use grouping::{Dimension, GroupMerge, Grouping, WithExample};
use measures::{Bins, Estimator, Normalise, Scorer};
use records::{Reason, Rejection};
use session_entropy::avro::AvroRows;
use session_entropy::event::SessionEvent;
use session_entropy::fold::SessionFold;
use session_entropy::settings::Settings;
use session_entropy::summary::Summary;
use streaming::operator::{Fold, Merge, NoTable, Record, Source, SourceError, Timed};
use streaming::output::{FoldOutput, MergeOutput};
use streaming::window::Windows;

struct Event {
    time: i64,
    session_id: String,
    event_id: String,
    domain: &'static str,
    segment: &'static str,
}

struct View<'a>(&'a Event);

impl Timed for View<'_> {
    fn event_time(&self) -> i64 {
        self.0.time
    }
}

impl SessionEvent for View<'_> {
    fn session_id(&self) -> &str {
        &self.0.session_id
    }
    fn event_id(&self) -> &str {
        &self.0.event_id
    }
    fn dimension(&self, dimension: Dimension) -> &str {
        match dimension {
            Dimension::Domain => self.0.domain,
            Dimension::UserSegment => self.0.segment,
            _ => "",
        }
    }
}

struct NoSource;

impl Source for NoSource {
    type Event<'a> = View<'a>;
    fn decode<'a>(&mut self, _: &Record<'a>) -> Result<View<'a>, SourceError> {
        Err(Rejection::new(Reason::Undecodable, "this source decodes nothing").into())
    }
}

type BenchFold = SessionFold<NoSource, AvroRows>;
type BenchMerge = GroupMerge<Summary, AvroRows>;

fn settings() -> Settings {
    use Dimension::{AbGroup, Domain, RecStrategy, UserSegment};
    Settings {
        windows: Windows::new(300_000, 10_000).unwrap(),
        scorer: Scorer::new(Bins::log2(1000, 10).unwrap(), Estimator::PlugIn, Normalise::All),
        min_events: 2,
        grouping: Grouping::new(&[Domain, UserSegment, RecStrategy, AbGroup], &[Domain]),
        max_groups: 10_000,
        revision: 1,
    }
}

/// `rate` events a second of event time, by sessions that come and go: each lives for about ten minutes.
fn events(count: usize, rate: i64, live: u64) -> Vec<Event> {
    let mut state = 7_u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    (0..count)
        .map(|number| {
            let time = 1_400_000_000_000 + number as i64 * 1000 / rate;
            let session = random(live) + live * (time as u64 / 600_000);
            Event {
                time: time - random(4000) as i64,
                session_id: format!("session-{session:08x}"),
                event_id: format!("{:08x}-{number:027x}", random(1 << 32)),
                domain: ["books", "films", "music", "games"][(session % 4) as usize],
                segment: ["new", "regular", "vip"][(session % 3) as usize],
            }
        })
        .collect()
}

fn play(fold: &mut BenchFold, merge: &mut BenchMerge, events: &[Event]) -> usize {
    let mut out = FoldOutput::new(1);
    let (mut watermark, mut next, mut rows) = (i64::MIN, i64::MAX, 0);
    let mut closed = i64::MIN;
    for event in events {
        fold.apply(&View(event), &mut out);
        watermark = watermark.max(event.time - 5000);
        if next == i64::MAX || next > watermark {
            if watermark < closed + 10_000 && closed > i64::MIN {
                continue;
            }
            next = fold.next_end(closed).unwrap_or(i64::MAX);
        }
        while next <= watermark {
            out = FoldOutput::new(1);
            fold.close(next, &NoTable, &mut out);
            closed = next;
            let mut groups: BTreeMap<Box<[u8]>, WithExample<Summary>> = BTreeMap::new();
            for (_, _, group, summary) in out.summaries() {
                groups.insert(group.into(), merge.decode(summary).unwrap());
            }
            let mut merged = MergeOutput::default();
            merge.close(next, groups, &mut merged);
            rows += out.records.len() + merged.records.len();
            next = fold.next_end(closed).unwrap_or(i64::MAX);
        }
    }
    rows
}

fn new_merge() -> BenchMerge {
    let settings = settings();
    GroupMerge::new(settings.windows, settings.limit(), 1, AvroRows::new(1, 2), AlertStage::default())
}

fn new_fold() -> BenchFold {
    SessionFold::new(&settings(), AvroRows::new(1, 2))
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("session-entropy");
    group.sample_size(10);
    for (name, rate, live) in
        [("2 k events/s, 20 k sessions", 2000, 20_000), ("20 k events/s, 200 k sessions", 20_000, 200_000)]
    {
        let events = events(1_000_000, rate, live);
        group.throughput(Throughput::Elements(events.len() as u64));
        group.bench_function(format!("fold and merge, {name}"), |bencher| {
            bencher.iter_batched(
                || (new_fold(), new_merge()),
                |(mut fold, mut merge)| {
                    black_box(play(&mut fold, &mut merge, &events));
                    (fold, merge)
                },
                BatchSize::PerIteration,
            );
        });
    }

    let mut fold = new_fold();
    let sessions = 1_000_000;
    let mut out = FoldOutput::new(1);
    for event in events(4 * sessions, 4 * sessions as i64 / 290, sessions as u64) {
        fold.apply(&View(&event), &mut out);
    }
    let mut closed = i64::MIN;
    while let Some(end) = fold.next_end(closed).filter(|end| *end <= 1_400_000_280_000) {
        fold.close(end, &NoTable, &mut FoldOutput::new(1));
        closed = end;
    }
    let mut bytes = Vec::new();
    fold.snapshot(&mut bytes);
    println!("a snapshot of {} sessions takes {} bytes", fold.size().keys, bytes.len());
    group.throughput(Throughput::Elements(fold.size().keys));
    group.bench_function("write a snapshot of 1 M sessions", |bencher| {
        bencher.iter(|| {
            bytes.clear();
            fold.snapshot(&mut bytes);
        });
    });
    group.bench_function("restore 1 M sessions", |bencher| {
        bencher.iter_batched(
            new_fold,
            |mut fold| fold.restore(&bytes).map(|()| fold).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(fold_and_merge, benches);
criterion_main!(fold_and_merge);
