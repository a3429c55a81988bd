//! Hostile input, point 4: an acknowledgement is checked. And of point 12: a writer whose insert cannot succeed ends at
//! SIGTERM within its deadline.

use std::ops::Range;
use std::time::{Duration, Instant};

use records::{Encoder, Registry, RegistryConfig, SessionFreshness};
use testkit::{Outgoing, produce, unique};

use crate::fault_proxy::{Fault, FaultProxy, Faults};
use crate::rig::{Instance, Rig, alone};

const ROWS: i64 = 5_000;
const FIRST_END: i64 = 1_767_600_000_000;

/// A writer of one table behind a proxy, with a database of its own and [`ROWS`] rows that wait in the topic.
struct Case {
    rig: Rig,
    proxy: FaultProxy,
    database: String,
}

impl Case {
    fn new(settings: &[&str], faults: Faults) -> Self {
        let stack = testkit::clickhouse();
        let proxy = FaultProxy::before(&stack.clickhouse_url(), Faults::default());
        let database = unique("acknowledged").replace(['-', '.'], "_");
        let mut rig = Rig::new("clickhouse-writer", 1);
        let own = [
            "tables=[\"session_freshness\"]".to_owned(),
            "clickhouse.longest_pause=500ms".to_owned(),
            format!("clickhouse.url={}", proxy.url),
            format!("clickhouse.database={database}"),
        ];
        for setting in own.iter().map(String::as_str).chain(settings.iter().copied()) {
            rig = rig.set(setting);
        }
        rig.run(&["--apply-ddl"]);
        let topic = rig.topic("topics.session_freshness");
        stack.create_topic(topic, 1, &[]).unwrap();
        produce(topic, rows(topic, 0..ROWS));
        proxy.set(faults);
        Self { rig, proxy, database }
    }

    /// Rows as they are stored, different sessions, sum of the events; then rows under FINAL.
    fn stored(&self) -> String {
        let of = |table: &str| {
            let columns = "count(), uniqExact(session_id), sum(events)";
            testkit::clickhouse().clickhouse_query(&format!("SELECT {columns} FROM {}.{table}", self.database)).unwrap()
        };
        format!("{}{}", of("session_freshness"), of("session_freshness_final"))
    }

    fn wait_for_all_rows(&self, writer: &Instance) {
        let sum: i64 = (0..ROWS).sum();
        let once = format!("{ROWS}\t{ROWS}\t{sum}\n");
        writer.eventually("each row once, also before merges", || (self.stored() == once.repeat(2)).then_some(()));
        writer.eventually("the commit", || {
            (writer.metric("recwatch_clickhouse_writer_committed", &[]) == Some(ROWS as f64)).then_some(())
        });
        assert!(self.rig.records("topics.dead_letters").is_empty());
    }
}

/// Rows with these numbers, which are their sessions and their `events`.
pub(crate) fn rows(topic: &str, numbers: Range<i64>) -> Vec<Outgoing> {
    let registry = Registry::new(RegistryConfig::new(testkit::clickhouse().registry_url()), || false);
    let id = registry.unwrap().register_for::<SessionFreshness<'_>>(topic).unwrap();
    let mut encoder = Encoder::<SessionFreshness<'static>>::new(id);
    numbers
        .map(|number| {
            let session = format!("session {number}");
            let window_end = FIRST_END + number % 7 * 10_000;
            let row = SessionFreshness {
                window_start: window_end - 300_000,
                window_end,
                session_id: session.as_str().into(),
                domain: "books".into(),
                surface: "".into(),
                user_segment: "n\u{e9}\nw".into(),
                rec_strategy: "".into(),
                ab_group: "".into(),
                item_type: "".into(),
                events: number,
                entropy: 0.25,
                normalised: 0.125,
                freshness: 0.875,
                decay_factor: 0.95,
                band: "focused".into(),
                revision: 1,
            };
            let mut value = Vec::new();
            encoder.encode(&row, &mut value).unwrap();
            Outgoing::new(session, value)
        })
        .collect()
}

/// Each of them once as a proxy might answer for a moment; what it answers to the rows meanwhile costs none of them.
#[test]
fn rows_count_when_clickhouse_itself_has_acknowledged_them() {
    let _alone = alone();
    let pages = [401, 403, 404, 407, 302, 502, 429].into_iter().flat_map(|status| [Fault::Page(status); 2]);
    let six = [Fault::Page(200), Fault::Empty].into_iter().flat_map(|fault| [fault; 6]);
    let faults = Faults {
        next: six.chain(pages).chain([Fault::LoseAnswer; 3]).collect(),
        limit: Some(65_536),
        ..Faults::default()
    };
    let case = Case::new(&["clickhouse.compression=none"], faults);
    let writer = case.rig.start();
    case.wait_for_all_rows(&writer);
    assert_eq!(case.proxy.left(), 0);
    let metric = |name| writer.metric(&format!("recwatch_clickhouse_writer_{name}"), &[]).unwrap();
    assert!(metric("unexpected_answers_total") >= 20.0, "{}", metric("unexpected_answers_total"));
    assert!(metric("insert_splits_total") >= 7.0, "{}", metric("insert_splits_total"));
    assert!(writer.terminate().success());
}

/// Such a proxy takes the headers from answers, too: then the rows themselves are the proof.
#[test]
fn behind_a_proxy_that_keeps_the_headers_for_itself_rows_are_read_back() {
    let _alone = alone();
    let next = [Fault::Empty; 6].into_iter().chain([Fault::LoseAnswer, Fault::Page(200)]).collect();
    let faults = Faults { next, limit: Some(65_536), strips_headers: true, ..Faults::default() };
    let case = Case::new(&["clickhouse.compression=none"], faults);
    let writer = case.rig.start();
    case.wait_for_all_rows(&writer);
    assert!(writer.worker.log_tail(1_000).contains("X-ClickHouse-Query-Id"), "the log says what is missing");
    assert!(writer.terminate().success());
}

/// LZ4, as configured by default.
#[test]
fn a_page_that_stays_ends_the_writer_with_a_message_and_the_next_start_loses_nothing() {
    let _alone = alone();
    for status in [200, 403] {
        let always = Some(Fault::Page(status));
        let case = Case::new(&["clickhouse.unexpected_answer_timeout=2s"], Faults::default());
        // at the start already
        case.proxy.set(Faults { always, ..Faults::default() });
        let writer = case.rig.start();
        let exit = writer.worker.wait(crate::rig::PATIENCE).unwrap();
        assert!(!exit.success(), "{exit}");
        assert!(writer.worker.log_tail(50).contains(&format!("{status} of a proxy")), "{}", writer.worker.log_tail(50));
        // and at the first insert
        case.proxy.set(Faults { next: [Fault::Page(status); 1_000].into(), ..Faults::default() });
        let writer = case.rig.start();
        let exit = writer.worker.wait(crate::rig::PATIENCE).unwrap();
        assert!(!exit.success(), "{exit}");
        let log = writer.worker.log_tail(50);
        for part in [&format!("HTTP {status}"), "unexpected_answer_timeout", "clickhouse.url"] {
            assert!(log.contains(part), "{part} in {log}");
        }
        case.proxy.set(Faults::default());
        let writer = case.rig.start();
        case.wait_for_all_rows(&writer);
        assert!(writer.terminate().success());
    }
}

#[test]
fn a_writer_whose_insert_cannot_succeed_ends_at_sigterm_within_its_deadline() {
    let _alone = alone();
    let limit = Duration::from_secs(30);
    for fault in [Fault::Hang, Fault::Page(404)] {
        let case = Case::new(&[], Faults::default());
        // while it looks for its tables
        case.proxy.set(Faults { always: Some(fault), ..Faults::default() });
        let writer = case.rig.start();
        writer.eventually("an answer", || writer.get("/readyz"));
        let begun = Instant::now();
        assert!(writer.terminate().success());
        assert!(begun.elapsed() < limit, "{fault:?}: {:?}", begun.elapsed());
        // while its rows are under way
        case.proxy.set(Faults { next: [fault; 10_000].into(), ..Faults::default() });
        let writer = case.rig.start();
        writer.eventually("an insert", || (case.proxy.left() < 10_000).then_some(()));
        let begun = Instant::now();
        let exit = writer.terminate();
        assert!(exit.success(), "{fault:?}: {exit}\n{}", writer.worker.log_tail(20));
        assert!(begun.elapsed() < limit, "{fault:?}: {:?}", begun.elapsed());
        let log = writer.worker.log_tail(20);
        assert!(log.contains("the next start reads them again"), "{fault:?}: {log}");
        case.proxy.set(Faults::default());
        let writer = case.rig.start();
        case.wait_for_all_rows(&writer);
        assert!(writer.terminate().success());
    }
}
