//! The rules that ship: quiet weeks page nobody, sessions that scatter do; and alerts on their way through the merge.

mod support;

use std::collections::BTreeMap;

use alerting::{AlertStage, Evaluator, Row, RuleSet};
use grouping::{Examples, WithExample};
use measures::{Score, SplitMix64};
use records::{Alert, AvroRecord, Decoder, DecoderConfig, FixedSchemas};
use service::{Sources, load};
use session_entropy::alerts::ROWS;
use session_entropy::config::{Configuration, defaults};
use session_entropy::rows::{ALERTS_TOPIC, ENTROPY_TOPIC};
use session_entropy::settings::Settings;
use session_entropy::summary::Summary;
use streaming::operator::Merge;
use streaming::output::MergeOutput;
use streaming::window::Windows;
use support::{Driver, Event, TestMerge, default_settings, merge};

const WINDOW: i64 = 300_000;
const SCHEMA: i32 = 7;

fn evaluator(sets: &[&str]) -> Evaluator {
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    let defaults = defaults();
    let sources = Sources { defaults: &defaults, file: None, environment: Vec::new(), sets: &sets };
    let configuration = load::<Configuration>(sources).unwrap().settings;
    let kinds = configuration.row_kinds();
    let rules: RuleSet = configuration.alerts.rules(&kinds, ROWS);
    Evaluator::new("session-entropy", kinds[0].clone(), 1, rules)
}

/// Groups whose freshness wanders around a level of its own, with the noise of their sessions.
struct Simulation {
    random: SplitMix64,
    /// Name, level, sessions, how far it has wandered.
    groups: Vec<(String, f64, u32, f64)>,
}

impl Simulation {
    fn new(groups: usize) -> Self {
        let mut random = SplitMix64::new(11);
        let group = |number| {
            let (level, sessions) =
                (0.65 + 0.25 * random.next_fraction(), 30 + (100.0 * random.next_fraction()) as u32);
            (format!("g{number:02}"), level, sessions, 0.0)
        };
        let groups = (0..groups).map(group).collect();
        Self { random, groups }
    }

    /// The rows of the `at`-th window; the level of the first group is multiplied by `factor`.
    fn rows(&mut self, at: i64, factor: f64) -> Vec<Row> {
        let daily = 0.02 * (at as f64 / 288.0 * std::f64::consts::TAU).sin();
        let Self { random, groups } = self;
        let row = |(number, (name, level, sessions, wandered)): (usize, &mut (String, f64, u32, f64))| {
            *wandered = 0.8 * *wandered + 0.012 * random.next_normals()[0];
            let level = (*level + daily + *wandered) * if number == 0 { factor } else { 1.0 };
            // sessions are fresh (0.95) or not (0.5): they spread by 0.2, as recorded ones do
            let share = ((level - 0.5) / 0.45).clamp(0.0, 1.0);
            let fresh = (0..*sessions).filter(|_| random.next_fraction() < share).count() as f64;
            let mean = 0.5 + 0.45 * fresh / f64::from(*sessions);
            let count = Some(f64::from(*sessions));
            let mut values = vec![None; 11];
            (values[0], values[1], values[2], values[4]) = (count, count, count, Some(mean));
            Row { group: [name, "", "", ""].map(Into::into).into(), values, traceparent: None }
        };
        groups.iter_mut().enumerate().map(row).collect()
    }
}

#[test]
fn thirty_quiet_days_of_fifty_groups_fire_at_most_twice() {
    let (mut evaluator, mut simulation, mut fired) = (evaluator(&[]), Simulation::new(50), 0);
    let _ = evaluator.begin(&mut |_| {});
    for at in 1..=30 * 288 {
        evaluator
            .close(at * WINDOW, &simulation.rows(at, 1.0), &mut |alert| fired += u32::from(alert.reason == *"fired"));
    }
    assert_eq!(evaluator.counts().evaluations, 50 * (30 * 288 - 6), "without those that found no past");
    assert!(fired <= 2, "{fired} alerts");
}

#[test]
fn a_scatter_episode_is_told_within_five_windows_and_ends() {
    let (mut evaluator, mut simulation) = (evaluator(&[]), Simulation::new(50));
    let _ = evaluator.begin(&mut |_| {});
    let mut told = Vec::new();
    for at in 1..=200 {
        let factor = if (100..120).contains(&at) { 0.65 } else { 1.0 };
        evaluator.close(at * WINDOW, &simulation.rows(at, factor), &mut |alert| {
            told.push((alert.reason.to_string(), alert.group[0].value.to_string(), at, alert.attribution.len()));
        });
    }
    let [(fired, group, fired_at, attributions), .., (cleared, ..)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((fired.as_str(), group.as_str(), cleared.as_str()), ("fired", "g00", "cleared"), "{told:?}");
    assert!((100..105).contains(fired_at), "{told:?}");
    assert_eq!(*attributions, 1, "of the domain alone: the other dimensions are empty");
}

/// Sessions of three domains, those of `scattered` less fresh.
fn groups(scattered: &str) -> BTreeMap<Box<[u8]>, WithExample<Summary>> {
    let group = |domain: &str| {
        let mut summary = Summary::default();
        for session in 0..40 {
            let normalised = if domain == scattered { 0.5 } else { 0.2 } + f64::from(session) * 0.0004;
            summary.add(3, Some(Score { entropy: 1.0, normalised }));
        }
        let share = WithExample { share: summary, example: None };
        (format!("{domain}\0new\0\0").into_bytes().into_boxed_slice(), share)
    };
    ["books", "films", "music"].map(group).into()
}

/// Domain, reason and end of the window of each alert of a rule for domains that are silent for three minutes, where the
/// last of three domains is for ten.
fn told_of_silence(partitions: usize, merge_partitions: usize) -> Vec<(String, String, i64)> {
    let rules = [
        r#"alerts.rules.silent={ kind = "absence", match = { domain = "d*" }, every = "1m", windows = 3 }"#,
        "alerts.rules.freshness-scattered.enabled=false",
    ];
    let windows = Windows::new(60_000, 60_000).unwrap();
    let settings = Settings { windows, ..default_settings() };
    let stage = || AlertStage::new(evaluator(&rules), SCHEMA, ALERTS_TOPIC);
    let mut driver = Driver::new(settings, 60_000, partitions, merge_partitions).with_alerts(stage);
    let minute = |at: i64| at * 60_000;
    for at in 0..40 {
        for (number, domain) in ["d1", "d2", "d3"].into_iter().enumerate() {
            if number == 2 && (20..30).contains(&at) {
                continue;
            }
            for event in 0..3 {
                let dimensions = std::array::from_fn(|at| if at == 0 { domain.to_owned() } else { String::new() });
                let (time, session_id) = (minute(at) + 1 + event * 10_000, format!("{domain}-{at}"));
                let event = Event { time, session_id, event_id: format!("{at}-{event}"), dimensions };
                assert!(driver.push(number % partitions, &event));
            }
        }
        driver.advance_merges();
    }
    driver.finish(None);
    let lookup = FixedSchemas::default().with(SCHEMA, <Alert<'static> as AvroRecord>::SCHEMA);
    let mut decoder: Decoder<Alert<'static>> = Decoder::new(DecoderConfig::default(), Box::new(lookup));
    let told = driver.rows.alerts.iter().map(|bytes| {
        let alert = decoder.decode(None, Some(bytes)).unwrap();
        (alert.group[0].value.to_string(), alert.reason.to_string(), alert.window_end / 60_000)
    });
    told.collect()
}

#[test]
fn a_domain_that_is_alone_in_its_merge_partition_is_missed_there_too() {
    assert_eq!(told_of_silence(1, 1), [("d3".into(), "fired".into(), 23), ("d3".into(), "cleared".into(), 31)]);
    for merge_partitions in 2..8 {
        assert_eq!(told_of_silence(2, merge_partitions), told_of_silence(1, 1), "{merge_partitions} merge partitions");
    }
}

type Told = Vec<(Vec<u8>, String, String)>;

/// What is on the topics: rows, and alerts as (key, reason, summary).
fn outputs(out: &MergeOutput) -> (Vec<Vec<u8>>, Told) {
    let lookup = FixedSchemas::default().with(SCHEMA, <Alert<'static> as AvroRecord>::SCHEMA);
    let mut decoder: Decoder<Alert<'static>> = Decoder::new(DecoderConfig::default(), Box::new(lookup));
    let (mut rows, mut alerts) = (Vec::new(), Vec::new());
    for record in out.records.iter() {
        if record.topic == ENTROPY_TOPIC {
            rows.push(record.value.unwrap().to_vec());
        } else {
            assert_eq!(record.topic, ALERTS_TOPIC);
            let alert = decoder.decode(record.key, record.value).unwrap();
            assert_eq!(record.key.unwrap(), alert.fingerprint.as_bytes());
            alerts.push((record.key.unwrap().to_vec(), alert.reason.to_string(), alert.summary.to_string()));
        }
    }
    (rows, alerts)
}

#[test]
fn alerts_go_to_their_topic_once_and_rows_stay_as_they_are() {
    let settings = default_settings();
    let with_alerts = |sets: &[&str]| merge(&settings, AlertStage::new(evaluator(sets), SCHEMA, ALERTS_TOPIC));
    let (mut plain, mut judged) = (merge(&settings, AlertStage::default()), with_alerts(&[]));
    let mut begun = MergeOutput::default();
    judged.begin(&mut begun);
    let remembered: Vec<(Vec<u8>, Vec<u8>)> =
        begun.remembered().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!(remembered.len(), 1);
    let close = |merge: &mut TestMerge, at: i64| {
        let mut out = MergeOutput::default();
        merge.close(at * WINDOW, groups(if at > 8 { "films" } else { "" }), &mut out);
        outputs(&out)
    };
    let mut told = Vec::new();
    let mut snapshot = Vec::new();
    for at in 1..=11 {
        let (rows, alerts) = close(&mut judged, at);
        assert_eq!((rows, Vec::new()), close(&mut plain, at));
        told.extend(alerts);
        if at == 9 {
            judged.snapshot(&mut snapshot);
        }
    }
    let [(_, reason, summary)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(reason, "fired");
    assert_eq!(
        summary,
        "mean_freshness is 0.492 (normally 0.792), below 0.634, in domain=films, user_segment=new; 100 % of the excess \
         lies in domain films"
    );

    // back after a crash: nothing again; with the rule silenced, its end, once
    let restored = |sets: &[&str]| {
        let mut merge = with_alerts(sets);
        remembered.iter().for_each(|(key, value)| merge.recall(std::str::from_utf8(key).unwrap(), value).unwrap());
        merge.restore(&snapshot).unwrap();
        assert_eq!(close(&mut merge, 10).1, []);
        assert_eq!(close(&mut merge, 11).1.len(), 1, "suppressed, as all of a replay");
        let mut out = MergeOutput::default();
        merge.begin(&mut out);
        (merge, outputs(&out).1)
    };
    let (mut same, news) = restored(&[]);
    assert_eq!(news, []);
    assert_eq!(close(&mut same, 12), close(&mut judged, 12));
    let (_, news) = restored(&["alerts.rules.freshness-scattered.enabled=false"]);
    let reasons: Vec<&str> = news.iter().map(|(_, reason, _)| reason.as_str()).collect();
    assert_eq!(reasons, ["rule_removed"]);
}

#[test]
fn windows_with_traces_and_without_rows_are_none_for_the_rules() {
    let settings = default_settings();
    let mut merge = merge(&settings, AlertStage::new(evaluator(&[]), SCHEMA, ALERTS_TOPIC));
    merge.begin(&mut MergeOutput::default());
    let mut close = |at: i64, groups| {
        let mut out = MergeOutput::default();
        merge.close(at * WINDOW, groups, &mut out);
        outputs(&out)
    };
    let told: Vec<_> = (1..=11).flat_map(|at| close(at, groups(if at > 8 { "films" } else { "" })).1).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let mut examples = Examples::default();
    examples.offer(WINDOW, b"films", "e", || Some("00-1-2-01"));
    examples.close(0, WINDOW);
    for at in 12..=20 {
        let alone = WithExample { share: Summary::default(), example: examples.of(b"films").cloned() };
        assert_eq!(close(at, [(b"films".as_slice().into(), alone)].into()), (Vec::new(), Vec::new()));
    }
}
