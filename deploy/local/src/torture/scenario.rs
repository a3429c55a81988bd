//! What runs: which records, and which settings of the workers.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::schedule::workers;
use crate::Load;
use crate::generator::{DIMENSIONS, Generator, ItemVectors, Shape, UserVectors};
use crate::recording::{Content, Feed, Recording};
use crate::replay::{METRIC_WORKERS, Plan, Protocol, Setting};

/// Event time of the first session (epoch ms).
const START: i64 = 1_767_600_000_000;
/// How much faster event time runs than the clock.
const SPEED: u64 = 30;
/// Clicks and users' vectors a second (wall clock); of items' vectors come about ten.
const CLICKS_PER_SECOND: u64 = 80;
const USERS_PER_SECOND: u64 = 40;
/// Items of each department.
const ITEMS: u32 = 50;
/// Event time (s) over which the generator spreads a load.
const LOAD_SECONDS: u64 = 7_200;
/// Pairs of seeds share their records with others: a reference is computed once for each of so many recordings.
const RECORDINGS: u64 = 4;
/// The last record of each partition is so far behind all others (ms) that every window of theirs closes.
const SENTINEL_AFTER: i64 = 20 * 60_000;

/// Partitions of the source topics, while tortured.
pub(crate) const PARTITIONS: i32 = 3;

/// Windows and rules that give many rows and alerts in little time.
const SETTINGS: [&str; 19] = [
    "session-entropy.window=3m",
    "session-entropy.slide=30s",
    r#"session-entropy.dimensions=["domain", "user_segment"]"#,
    r#"session-entropy.alerts.rules.busy={ kind = "threshold", metric = "events", above = 30, fire_after = 1, resolve_after = 1 }"#,
    "cosine-decay.window=3m",
    "cosine-decay.slide=30s",
    r#"cosine-decay.dimensions=["domain"]"#,
    "cosine-decay.decay_rate_window=10m",
    "cosine-decay.decay_rate_slide=1m",
    "cosine-decay.observations=3",
    "cosine-decay.max_slope=0.0",
    "cosine-decay.max_norm=1000.0",
    r#"cosine-decay.alerts.rules.busy={ kind = "threshold", metric = "pairs", above = 60, fire_after = 1, resolve_after = 1 }"#,
    "domain-drift.window=6m",
    "domain-drift.slide=1m",
    "domain-drift.self_offset=12m",
    r#"domain-drift.alerts.rules.far={ kind = "deviation", metric = "w1", direction = "up", margin = 0.1, every = "6m", fire_after = 1, resolve_after = 1 }"#,
    // so that what hangs is given up within a run
    "clickhouse-writer.clickhouse.answer_timeout=5s",
    "clickhouse-writer.clickhouse.send_timeout=5s",
];

/// How long a partition may stand still before the others go on without it: never here, since what would be late then
/// depends on the clock. Windows close by the last record of each partition.
const IDLE_TIMEOUT: &str = "5m";

/// One seed's records and settings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    seed: u64,
    length: Duration,
}

impl Scenario {
    pub(crate) fn new(seed: u64, length: Duration) -> Self {
        Self { seed, length }
    }

    /// Which records it has: scenarios with the same number and length have the same ones.
    pub(crate) fn recording(&self) -> u64 {
        self.seed / 2 % RECORDINGS
    }

    fn shape(&self, per_second: u64) -> Shape {
        let records = per_second * LOAD_SECONDS / SPEED;
        Shape { items: ITEMS, ..Shape::load(100 + self.recording(), START, records) }
    }

    /// All good records by event time.
    pub(crate) fn feed(&self) -> Result<Feed> {
        let span = i64::try_from(self.length.as_millis()).unwrap_or(i64::MAX) * SPEED as i64;
        let end = START + span;
        let clicks = Generator::new(self.shape(CLICKS_PER_SECOND)).take_while(move |click| click.event_time < end);
        let is_met =
            |id: &str| id.rsplit('-').next().and_then(|rank| rank.parse::<u32>().ok()).is_some_and(|r| r < ITEMS);
        let items = ItemVectors::new(&self.shape(1)).take_while(move |vector| vector.event_time < end);
        let items = items.filter(move |vector| is_met(&vector.entity_id));
        let users = USERS_PER_SECOND * LOAD_SECONDS / SPEED;
        let users = UserVectors::load(&self.shape(1), users).take_while(move |vector| vector.event_time < end);
        Feed::by_event_time(vec![
            Recording::made("items", Content::ItemEmbeddings, items),
            Recording::made("users", Content::UserEmbeddings, users),
            Recording::made("clicks", Content::Interactions, clicks),
        ])
    }

    /// How many good records there are.
    ///
    /// # Errors
    /// They cannot be made.
    pub(crate) fn lines(&self) -> Result<u64> {
        let mut feed = self.feed()?;
        let mut lines = 0;
        while feed.next_line()?.is_some() {
            lines += 1;
        }
        Ok(lines)
    }

    /// The last record of a partition: it belongs to no window that closes.
    pub(crate) fn sentinel(&self, content: Content, partition: i32) -> String {
        let span = i64::try_from(self.length.as_millis()).unwrap_or(i64::MAX) * SPEED as i64;
        let time = START + span + SENTINEL_AFTER;
        let (event, key) = (format!("sentinel-{partition}"), format!("sentinel-{partition}"));
        let line: Value = match content {
            Content::Interactions => json!({"event_id": event, "session_id": key, "user_id": "u", "item_id": "i",
                "kind": "CLICK", "domain": "sentinel", "event_time": time}),
            Content::ItemEmbeddings | Content::UserEmbeddings => {
                let entity = if content == Content::ItemEmbeddings { "ITEM" } else { "USER" };
                json!({"event_id": event, "entity": entity, "entity_id": key, "domain": "sentinel",
                    "model_version": "1", "vector": vec![0.5; DIMENSIONS], "event_time": time})
            }
        };
        line.to_string()
    }

    /// What runs without any disturbance: one process of each worker, one partition of each topic.
    pub(crate) fn undisturbed(&self) -> Plan {
        self.plan(1, Vec::new())
    }

    /// What is disturbed. Each worker uses one of the two group protocols.
    pub(crate) fn disturbed(&self) -> Plan {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let protocols = workers().map(|worker| {
            let protocol = if random.random_bool(0.5) { "consumer" } else { "classic" };
            Setting::new(worker, "runtime.protocol", &format!("\"{protocol}\""))
        });
        self.plan(PARTITIONS, protocols.collect())
    }

    fn plan(&self, partitions: i32, mut settings: Vec<Setting>) -> Plan {
        settings.extend(SETTINGS.iter().filter_map(|setting| setting.parse().ok()));
        for worker in METRIC_WORKERS {
            settings.push(Setting::new(worker.name, "idle_timeout", IDLE_TIMEOUT));
            settings.push(Setting::new(worker.name, "runtime.snapshot_interval", "3s"));
        }
        settings.extend(workers().map(|worker| Setting::new(worker, "runtime.session_timeout", "6s")));
        settings.extend(workers().map(|worker| Setting::new(worker, "registry.unknown_schema_wait", "2s")));
        Plan {
            workers: METRIC_WORKERS.to_vec(),
            instances: 1,
            partitions,
            protocol: Protocol::default(),
            settings,
            contents: BTreeSet::from(Content::ALL),
            rate: None,
            faults: Vec::new(),
            load: Load::Short,
            writer: true,
            router: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_one() {
        let plan = Scenario::new(1, Duration::from_secs(60)).undisturbed();
        for setting in SETTINGS {
            let setting: Setting = setting.parse().unwrap();
            assert!(plan.settings.contains(&setting));
        }
        assert_eq!(plan.problems(), [""; 0]);
    }

    #[test]
    fn both_protocols_are_used_in_most_runs() {
        let classic = |seed| {
            let plan = Scenario::new(seed, Duration::from_secs(60)).disturbed();
            plan.settings.iter().filter(|setting| setting.value.contains("classic")).count()
        };
        let mixed = (0..40).filter(|&seed| (1..5).contains(&classic(seed))).count();
        assert!(mixed > 30, "{mixed} of 40");
    }

    #[test]
    fn a_minute_has_some_eight_thousand_records() {
        let scenario = Scenario::new(3, Duration::from_secs(60));
        let lines = scenario.lines().unwrap();
        assert!((7_000..10_000).contains(&lines), "{lines}");
        assert_eq!(lines, Scenario::new(2 + 2 * RECORDINGS, Duration::from_secs(60)).lines().unwrap());
    }
}
