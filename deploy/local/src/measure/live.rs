//! How soon a worker tells its alerts, while records come at the pace of their event time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::{Delays, Measure};
use crate::recording::{Content, Feed};
use crate::replay::{ALERTS_TOPIC, Run, Setting};
use crate::{Progress, http};

/// How soon alerts were told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Records a second, as they were published.
    pub records_per_second: f64,
    /// From the merge closing a window to the commit of its rows and alerts, by the worker's own account.
    pub rows: Vec<Bucket>,
    /// From the alert's Kafka timestamp, which is when its transaction began, until a consumer has it that reads what is
    /// committed; one for each alert.
    pub seen_after: Delays,
    /// Processor time of the worker for a second.
    pub cpu_share: f64,
    /// The most memory held.
    pub peak_rss_bytes: u64,
}

/// So many took at most so long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Seconds; infinite for the last one.
    pub at_most: f64,
    /// All that took no longer.
    pub count: u64,
}

impl Told {
    /// The least bound that so large a share (0 to 1) of commits has kept, in seconds.
    #[must_use]
    pub fn rows_within(&self, share: f64) -> Option<f64> {
        let all = self.rows.last()?.count as f64;
        self.rows.iter().find(|bucket| bucket.count as f64 >= share * all).map(|bucket| bucket.at_most)
    }
}

/// Publishes records at `rate` a second for `seconds`, in event time as in wall time, to one process of the worker whose
/// windows end every second and whose every group tells an alert at every end. The records of `measure` must be those of two
/// hours at that rate.
///
/// # Errors
/// Something cannot be started, does not finish, or refuses a record.
pub fn live(measure: &Measure, rate: u64, seconds: u64, progress: &dyn Progress) -> Result<Told> {
    let worker = measure.worker.name;
    let mut plan = measure.plan(false);
    let metric = match measure.rated() {
        Content::UserEmbeddings => "n",
        _ if measure.looks_items_up() => "pairs",
        _ => "events",
    };
    let rule = format!(r#"{{ kind = "threshold", metric = "{metric}", above = 0, every = "1s", fire_after = 1 }}"#);
    let settings = [("window", "1m"), ("slide", "1s"), ("alerts.repeat_interval", "1s"), ("alerts.rules.told", &rule)];
    plan.settings.splice(0..0, settings.map(|(key, value)| Setting::new(worker, key, value)));
    plan.rate = Some(rate as f64);
    let mut run = Run::prepare(plan, progress)?;
    if measure.looks_items_up() {
        super::items(measure, &mut run, worker)?;
        run.restart_workers(&[])?;
    } else {
        run.start_workers()?;
    }
    let mut feed = Feed::in_file_order(vec![measure.recording()]);
    let (brokers, done) = (run.stack().brokers(), AtomicBool::new(false));
    let (seen_after, took) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&brokers, &done));
        let begun = Instant::now();
        let published = run.publish_some(&mut feed, rate * seconds);
        let took = begun.elapsed();
        done.store(true, Ordering::Relaxed);
        let seen = watching.join().unwrap_or_else(|_| bail!("the consumer of alerts has panicked"));
        published.and(seen).map(|seen| (seen, took))
    })?;
    let rows =
        buckets(&http::get(&format!("http://{}/metrics", run.address_of(worker)?), Duration::from_secs(5))?.ok()?);
    run.stop_workers()?;
    let usage = run.last_usage(worker);
    run.stop()?;
    Ok(Told {
        records_per_second: (rate * seconds) as f64 / took.as_secs_f64(),
        rows,
        seen_after,
        cpu_share: usage.cpu.as_secs_f64() / took.as_secs_f64(),
        peak_rss_bytes: usage.peak_rss_bytes,
    })
}

/// How old each alert is when it is read, until `done`.
fn watch(brokers: &str, done: &AtomicBool) -> Result<Delays> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "recwatch.measure")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(ALERTS_TOPIC, 0, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let mut ages = Delays::default();
    while !done.load(Ordering::Relaxed) {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let message = message?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
        let made = message.timestamp().to_millis().context("an alert has no timestamp")?;
        ages.add(now.saturating_sub(Duration::from_millis(made.unsigned_abs())));
    }
    Ok(ages)
}

/// The buckets of how long rows waited for their commit, in Prometheus' text format.
fn buckets(metrics: &str) -> Vec<Bucket> {
    let lines =
        metrics.lines().filter_map(|line| line.strip_prefix("recwatch_streaming_row_commit_duration_seconds_bucket"));
    let bucket = |line: &str| {
        let (labels, count) = line.rsplit_once(' ')?;
        let bound = labels.split("le=\"").nth(1)?.split('"').next()?;
        let at_most = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        Some(Bucket { at_most, count: count.parse().ok()? })
    };
    lines.filter_map(bucket).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_found_by_rank_and_by_bucket() {
        let metrics = "# TYPE recwatch_streaming_row_commit_duration_seconds histogram\n\
            recwatch_streaming_row_commit_duration_seconds_sum 3\n\
            recwatch_streaming_row_commit_duration_seconds_bucket{le=\"0.1\"} 90\n\
            recwatch_streaming_row_commit_duration_seconds_bucket{le=\"0.2\"} 99\n\
            recwatch_streaming_row_commit_duration_seconds_bucket{le=\"+Inf\"} 100\n\
            recwatch_streaming_commit_duration_seconds_bucket{le=\"0.1\"} 7\n";
        let mut seen_after = Delays::default();
        [1, 2, 3].map(Duration::from_millis).into_iter().for_each(|delay| seen_after.add(delay));
        let told =
            Told { records_per_second: 1.0, rows: buckets(metrics), seen_after, cpu_share: 0.0, peak_rss_bytes: 0 };
        assert_eq!(
            [0.5, 0.9, 0.99, 1.0].map(|share| told.rows_within(share)),
            [0.1, 0.1, 0.2, f64::INFINITY].map(Some)
        );
        assert_eq!([0.0, 0.34, 0.99].map(|share| told.seen_after.quantile(share).as_millis()), [1, 2, 3]);
    }
}
