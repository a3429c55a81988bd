//! Changes of topics, as an operator makes them.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::action::Alteration;
use crate::recording::Content;
use crate::replay::{METRIC_WORKERS, internal_topic};
use crate::topics::{TopicSettings, change_topic, restore_topic};

/// How long a topic may take to become what it was, on a broker that comes and goes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The topics, and what is set for them.
fn change(alteration: Alteration) -> (Vec<String>, &'static [(&'static str, &'static str)]) {
    let workers = METRIC_WORKERS.into_iter();
    match alteration {
        Alteration::CompactState => {
            let of = |worker: crate::replay::MetricWorker| {
                let topics = worker.sources.iter().flat_map(move |&source| {
                    ["fold-state", "merge-state"].map(|what| internal_topic(worker.name, source, what))
                });
                topics.collect::<Vec<String>>()
            };
            let settings: &[(&str, &str)] = &[
                ("segment.ms", "1000"),
                ("min.cleanable.dirty.ratio", "0.01"),
                ("min.compaction.lag.ms", "0"),
                ("max.compaction.lag.ms", "1000"),
            ];
            (workers.flat_map(of).collect(), settings)
        }
        Alteration::SplitRows => {
            let topics = workers.flat_map(|worker| worker.row_topics).map(|topic| topic.name.to_owned());
            (topics.collect(), &[("segment.ms", "1000")])
        }
        Alteration::SplitSource => {
            let topics = Content::ALL.iter().map(|content| content.topic().to_owned());
            (topics.collect(), &[("segment.ms", "1000"), ("retention.ms", "86400000")])
        }
    }
}

/// Changes the topics and, after so long, makes them what they were.
///
/// # Errors
/// The broker does not do it.
pub(super) fn change_for(brokers: &str, alteration: Alteration, lasts: Duration) -> Result<()> {
    let (topics, settings) = change(alteration);
    let mut before: Vec<(String, TopicSettings)> = Vec::new();
    let mut result = Ok(());
    for topic in topics {
        match change_topic(brokers, &topic, settings) {
            Ok(settings) => before.push((topic, settings)),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    std::thread::sleep(lasts);
    let begun = Instant::now();
    for (topic, settings) in before {
        while let Err(error) = restore_topic(brokers, &topic, &settings) {
            if begun.elapsed() > PATIENCE {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    result
}
