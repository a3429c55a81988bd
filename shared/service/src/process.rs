//! What the operating system says about this process: CPU time and memory, from `/proc` where there is one.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Asks when it is scraped, so that nothing has to run in between.
#[derive(Debug)]
pub(crate) struct ProcessCollector;

impl ProcessCollector {
    pub(crate) fn new() -> Self {
        Self
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(seconds) = cpu_seconds() {
            let counter = ConstCounter::new(seconds);
            let help = "CPU time in user and system mode";
            counter.encode(encoder.encode_descriptor(
                "process_cpu",
                help,
                Some(&Unit::Seconds),
                counter.metric_type(),
            )?)?;
        }
        for (name, help, field) in [
            ("process_resident_memory", "Memory in use now", "VmRSS:"),
            ("process_resident_memory_peak", "The most memory that was ever in use", "VmHWM:"),
        ] {
            if let Some(bytes) = memory_bytes(field) {
                let gauge = ConstGauge::new(bytes);
                gauge.encode(encoder.encode_descriptor(name, help, Some(&Unit::Bytes), gauge.metric_type())?)?;
            }
        }
        Ok(())
    }
}

/// A field of `/proc/self/status` in bytes; `None` where the system has none.
fn memory_bytes(field: &str) -> Option<i64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: i64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// User and system time of all threads; nanoseconds on the scheduler's own clock would need a call per thread.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the command in parentheses and may hold blanks: count from behind it. utime and stime are
    // fields 14 and 15 of the whole line, in ticks, of which Linux shows 100 a second on every architecture.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / 100.0)
}
