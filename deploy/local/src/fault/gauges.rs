//! What a worker says about itself at `/metrics`: how far it has read its input, and how far it has committed it. What a
//! worker sends to itself (`recwatch.internal.…`) is left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::broker::TopicPartition;
use crate::http;

/// How long an instance may take to answer.
const ANSWER: Duration = Duration::from_millis(500);

/// The gauges of one instance at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gauges {
    /// The next offset that it will process, by partition that it owns.
    pub position: BTreeMap<TopicPartition, i64>,
    /// The next offset that it has committed, by partition that it owns.
    pub committed: BTreeMap<TopicPartition, i64>,
    /// Records read since its start, where it counts them.
    pub records_read: Option<u64>,
}

impl Gauges {
    /// Reads Prometheus' text format; what is not asked for is skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut gauges = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let Ok(value) = value.parse::<f64>() else { continue };
            let partition = || {
                let partition = label(labels, "partition")?.parse().ok()?;
                let topic = label(labels, "topic").filter(|topic| !topic.starts_with("recwatch.internal."))?;
                Some((topic.to_owned(), partition))
            };
            match name {
                "recwatch_streaming_position" | "recwatch_clickhouse_writer_position" => {
                    gauges.position.extend(partition().map(|partition| (partition, value as i64)));
                }
                "recwatch_streaming_committed" | "recwatch_clickhouse_writer_committed" => {
                    gauges.committed.extend(partition().map(|partition| (partition, value as i64)));
                }
                "recwatch_streaming_records_read_total" | "recwatch_clickhouse_writer_records_read_total" => {
                    *gauges.records_read.get_or_insert(0) += value as u64;
                }
                _ => {}
            }
        }
        gauges
    }

    /// Records read since the start, or, where they are not counted, since the beginning of the partitions; at least
    /// `seen`, since counters may be older than positions.
    #[must_use]
    pub fn read(&self, seen: u64) -> u64 {
        let positions = || self.position.values().map(|&offset| offset.max(0) as u64).sum();
        self.records_read.unwrap_or_else(positions).max(seen)
    }
}

/// The value of a label in `a="1",b="2"}`; our topics and partitions need no escapes.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.trim_end_matches('}').split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.trim_matches('"'))
    })
}

/// Asks an instance for its gauges.
///
/// # Errors
/// It does not answer within half a second: it has not started, or is frozen or dead.
pub fn fetch(address: SocketAddr) -> Result<Gauges> {
    fetch_within(address, ANSWER)
}

fn fetch_within(address: SocketAddr, limit: Duration) -> Result<Gauges> {
    Ok(Gauges::parse(&get(address, "/metrics", limit)?))
}

/// Asks an instance whether it is ready to work.
#[must_use]
pub fn ready(address: SocketAddr) -> bool {
    get(address, "/readyz", ANSWER).is_ok()
}

fn get(address: SocketAddr, path: &str, limit: Duration) -> Result<String> {
    http::get(&format!("http://{address}{path}"), limit)?.ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    const METRICS: &str = r#"# HELP recwatch_streaming_position Next offset.
# TYPE recwatch_streaming_position gauge
recwatch_streaming_position{topic="recsys.interactions.v1",partition="0"} 120
recwatch_streaming_position{partition="3",topic="recsys.interactions.v1"} 7
recwatch_streaming_committed{topic="recsys.interactions.v1",partition="0"} 100
recwatch_streaming_records_read_total{topic="recsys.interactions.v1"} 127
recwatch_streaming_position{topic="recwatch.internal.session-entropy.recsys.interactions.v1.repartition",partition="0"} 9
recwatch_streaming_other{topic="recsys.interactions.v1",partition="0"} 1.5
# EOF
"#;

    fn partition(number: i32) -> TopicPartition {
        ("recsys.interactions.v1".to_owned(), number)
    }

    #[test]
    fn positions_and_commits_are_read_by_partition_whatever_the_order_of_labels() {
        let gauges = Gauges::parse(METRICS);
        assert_eq!(gauges.position, [(partition(0), 120), (partition(3), 7)].into());
        assert_eq!(gauges.committed, [(partition(0), 100)].into());
        assert_eq!((gauges.read(20), gauges.read(130)), (127, 130));
    }

    #[test]
    fn an_instance_is_asked_over_http_and_a_refusal_is_an_error() {
        for (status, good) in [("200 OK", true), ("503 Service Unavailable", false)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = std::thread::spawn(move || {
                let (mut connection, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let read = connection.read(&mut request).unwrap();
                assert!(request[..read].starts_with(b"GET /metrics HTTP/1"));
                connection.write_all(format!("HTTP/1.0 {status}\r\n\r\n{METRICS}").as_bytes()).unwrap();
            });
            assert_eq!(fetch_within(address, Duration::from_secs(10)).ok(), good.then(|| Gauges::parse(METRICS)));
            server.join().unwrap();
        }
    }
}
