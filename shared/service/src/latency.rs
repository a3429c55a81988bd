//! A histogram of durations that a hot loop can afford: two relaxed atomic additions an observation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds in microseconds, 1-2-5 from 0.5 ms to 1000 s: commits at one end, a backlog's age at the other.
const BOUNDS: [u64; 20] = [
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// Durations in seconds, as a Prometheus histogram. Clones count into the same one; usable in a `Family`.
#[derive(Clone, Debug, Default)]
pub struct LatencyHistogram {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    sum_micros: AtomicU64,
    /// One per bound, and a last one for what is longer than all.
    counts: [AtomicU64; BOUNDS.len() + 1],
}

impl LatencyHistogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        self.observe_many(duration, 1);
    }

    /// Counts `times` equal durations, such as the records of one batch.
    pub fn observe_many(&self, duration: Duration, times: u64) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.inner.counts[bucket].fetch_add(times, Ordering::Relaxed);
        self.inner.sum_micros.fetch_add(micros.saturating_mul(times), Ordering::Relaxed);
    }

    /// Counts the milliseconds between two wall-clock times; a negative difference (clocks disagree) counts as 0.
    pub fn observe_millis(&self, milliseconds: i64) {
        self.observe(Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)));
    }
}

impl TypedMetric for LatencyHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for LatencyHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        // The counts are read once; the total is their sum, so that the buckets agree with it whatever is counted meanwhile.
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> =
            bounds.zip(&self.inner.counts).map(|(bound, count)| (bound, count.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.inner.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metrics;

    #[test]
    fn a_duration_counts_in_every_bucket_whose_bound_it_does_not_pass() {
        let metrics = Metrics::new();
        let histogram = LatencyHistogram::default();
        metrics.register("test", |registry| registry.register("wait_seconds", "Waiting", histogram.clone()));
        histogram.observe(Duration::from_millis(2));
        histogram.observe_many(Duration::from_millis(3), 2);
        histogram.observe(Duration::from_secs(5_000));
        histogram.observe_millis(-7);
        let text = metrics.encode();
        for line in [
            "recwatch_test_wait_seconds_bucket{le=\"0.0005\"} 1",
            "recwatch_test_wait_seconds_bucket{le=\"0.001\"} 1",
            "recwatch_test_wait_seconds_bucket{le=\"0.002\"} 2",
            "recwatch_test_wait_seconds_bucket{le=\"0.005\"} 4",
            "recwatch_test_wait_seconds_bucket{le=\"1000.0\"} 4",
            "recwatch_test_wait_seconds_bucket{le=\"+Inf\"} 5",
            "recwatch_test_wait_seconds_count 5",
            "recwatch_test_wait_seconds_sum 5000.008",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
