//! Whether partitions go on while only others are disturbed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::Message;

use super::aftermath::Aftermath;
use crate::Component;
use crate::broker::{Broker, Follower};
use crate::recording::Content;
use crate::replay::{METRIC_WORKERS, Watermarks, internal_topic};

/// How long a partition may stand still while nothing that it needs is disturbed, and records come all the time.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The tasks of one worker on one source.
struct Tasks {
    worker: &'static str,
    source: Content,
    follower: Follower,
    watermarks: Watermarks,
    /// Of each partition: its offset, and since when it has been there without an excuse.
    since: BTreeMap<i32, (i64, Instant)>,
}

/// The longest standstill so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stall {
    pub(crate) lasted: Duration,
    pub(crate) what: String,
}

/// Follows what the workers announce until `is_over`.
///
/// # Errors
/// A topic cannot be read.
pub(crate) fn watch(brokers: &str, aftermath: &Aftermath, is_over: impl Fn() -> bool) -> Result<Stall> {
    let broker = Broker::new(brokers)?;
    let mut all = Vec::new();
    for worker in METRIC_WORKERS {
        for &source in worker.sources {
            let topic = internal_topic(worker.name, source, "watermarks");
            let follower = Follower::new(brokers, &topic, broker.partitions(&topic)?.unwrap_or(1))?;
            let (watermarks, since) = (Watermarks::default(), BTreeMap::new());
            all.push(Tasks { worker: worker.name, source, follower, watermarks, since });
        }
    }
    let mut longest = Stall::default();
    while !is_over() {
        for tasks in &mut all {
            let watermarks = &mut tasks.watermarks;
            tasks.follower.read_more(Duration::from_millis(50), |message| {
                watermarks.take(message.key().unwrap_or_default(), message.payload())
            })?;
            let now = Instant::now();
            let excuses = [tasks.worker, Component::Kafka.name()];
            let is_excused = excuses.iter().any(|whom| aftermath.covers(whom, now));
            let stall = tasks.look(now, is_excused);
            if stall.lasted > longest.lasted {
                longest = stall;
            }
        }
    }
    Ok(longest)
}

impl Tasks {
    /// The longest standstill by now of a partition that has no excuse.
    fn look(&mut self, now: Instant, is_excused: bool) -> Stall {
        let mut longest = Stall::default();
        for (&partition, fold) in &self.watermarks.folds {
            let (offset, since) = self.since.entry(partition).or_insert((fold.offset, now));
            if is_excused || *offset != fold.offset {
                (*offset, *since) = (fold.offset, now);
            }
            let lasted = now - *since;
            if lasted > longest.lasted {
                longest = Stall { lasted, what: format!("{} on {}-{partition}", self.worker, self.source.topic()) };
            }
        }
        longest
    }
}
