//! Whether what a run has left is what it must be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use records::dead_letter;

use super::hostile::{CASES, MARK};
use crate::broker::{Broker, Follower};
use crate::recording::Content;
use crate::replay::{DEAD_LETTER_TOPIC, LATE_TOPIC, METRIC_WORKERS};

/// Differences shown of each table.
const SHOWN: usize = 3;
/// How long committed records may stay unseen.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is missing, extra or wrong in a table's rows, line by line, beside the reference; `None` where they are equal.
pub(crate) fn difference(table: &str, reference: &str, found: &str) -> Option<String> {
    let count = |text: &str| {
        let mut lines: BTreeMap<String, i64> = BTreeMap::new();
        text.lines().for_each(|line| *lines.entry(line.to_owned()).or_default() += 1);
        lines
    };
    let (reference, found) = (count(reference), count(found));
    let beyond = |these: &BTreeMap<String, i64>, those: &BTreeMap<String, i64>| -> Vec<String> {
        let more = these.iter().filter(|(line, count)| **count > those.get(*line).copied().unwrap_or(0));
        more.map(|(line, _)| line.clone()).collect()
    };
    let (missing, extra) = (beyond(&reference, &found), beyond(&found, &reference));
    if missing.is_empty() && extra.is_empty() {
        return None;
    }
    let show = |lines: &[String]| lines.iter().take(SHOWN).map(|line| format!("\n    {line}")).collect::<String>();
    Some(format!(
        "{table}: {} rows of the reference are not there (or not so), {} are there that it does not have\n  missing:{}\n  extra:{}",
        missing.len(),
        extra.len(),
        show(&missing),
        show(&extra)
    ))
}

/// A source record.
type Place = (Content, i32, i64);

/// The hostile records that stand on the source topics, with their cases.
///
/// # Errors
/// A topic cannot be read.
pub(crate) fn hostile_records(broker: &Broker) -> Result<BTreeMap<Place, usize>> {
    let mut found = BTreeMap::new();
    for content in Content::ALL {
        broker.read_all(content.topic(), |message| {
            if let Some(case) = header(message, MARK).and_then(|case| case.parse().ok()) {
                found.insert((content, message.partition(), message.offset()), case);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// Which worker refused which record for which reason, and how often it says so.
type HandedOn = BTreeMap<(String, Place, String), u64>;

/// Reads what was handed on instead of applied, until `expected` records are there or for a while nothing more comes.
///
/// # Errors
/// A topic cannot be read, or a record there does not say where it came from.
pub(crate) fn handed_on(brokers: &str, broker: &Broker, expected: usize) -> Result<HandedOn> {
    let mut found = HandedOn::new();
    let mut followers = Vec::new();
    for topic in [DEAD_LETTER_TOPIC, LATE_TOPIC] {
        followers.push(Follower::new(brokers, topic, broker.partitions(topic)?.unwrap_or(0))?);
    }
    let (mut count, mut grown) = (0, Instant::now());
    while count < expected || grown.elapsed() < Duration::from_secs(1) {
        let before = count;
        for follower in &followers {
            follower.read_more(Duration::from_millis(200), |message| {
                *found.entry(origin(message)?).or_default() += 1;
                count += 1;
                Ok(())
            })?;
        }
        if count > before {
            grown = Instant::now();
        } else if grown.elapsed() > PATIENCE {
            break;
        }
    }
    Ok(found)
}

fn origin(message: &BorrowedMessage<'_>) -> Result<(String, Place, String)> {
    let of = |name| header(message, name).with_context(|| format!("a record of {} has no {name}", message.topic()));
    let topic = of(dead_letter::TOPIC)?;
    let content = Content::ALL.into_iter().find(|content| content.topic() == topic);
    let content = content.with_context(|| format!("a record of {topic} was handed on: nothing there is bad"))?;
    let place = (content, of(dead_letter::PARTITION)?.parse()?, of(dead_letter::OFFSET)?.parse()?);
    Ok((of(dead_letter::CONNECTOR)?, place, of(dead_letter::EXCEPTION_CLASS)?))
}

/// The last header of that name: ours stand behind those that a record came with.
fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<String> {
    let headers = message.headers()?;
    let found = headers.iter().filter(|header| header.key == name).last()?;
    Some(String::from_utf8_lossy(found.value?).into_owned())
}

/// How many hand-overs hostile records call for: each worker that reads a record hands it on.
pub(crate) fn expected(hostile: &BTreeMap<Place, usize>) -> usize {
    hostile.keys().map(|(content, ..)| readers(*content).count()).sum()
}

fn readers(content: Content) -> impl Iterator<Item = &'static str> {
    METRIC_WORKERS.into_iter().filter(move |worker| worker.sources.contains(&content)).map(|worker| worker.name)
}

/// Hostile records that a worker did not hand on once, for a reason of its case; and good ones that it handed on.
pub(crate) fn ends(hostile: &BTreeMap<Place, usize>, handed_on: &HandedOn) -> Vec<String> {
    let mut problems = Vec::new();
    let mut missing: BTreeSet<(&str, Place)> =
        hostile.keys().flat_map(|place| readers(place.0).map(move |worker| (worker, *place))).collect();
    for ((worker, place, reason), count) in handed_on {
        let (content, partition, offset) = place;
        let at = format!("{}-{partition} offset {offset}", content.topic());
        let Some(case) = hostile.get(place).and_then(|case| CASES.get(*case)) else {
            problems.push(format!("{worker} refuses a good record as {reason}: {at}"));
            continue;
        };
        if !missing.remove(&(worker.as_str(), *place)) || *count > 1 {
            problems.push(format!("{worker} hands {at} ({}) on more than once, {count} times as {reason}", case.name));
        }
        if !case.reasons.contains(&reason.as_str()) {
            problems.push(format!("{worker} refuses {at} ({}) as {reason}, not as {:?}", case.name, case.reasons));
        }
    }
    problems.extend(missing.into_iter().map(|(worker, (content, partition, offset))| {
        let case = hostile.get(&(content, partition, offset)).and_then(|case| CASES.get(*case));
        let name = case.map_or("?", |case| case.name);
        format!("{worker} did not hand {}-{partition} offset {offset} ({name}) on", content.topic())
    }));
    problems
}

/// What the logs of the workers say that must not be said.
///
/// # Errors
/// A log cannot be read.
pub(crate) fn logs(folder: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let file = entry?.path();
        if file.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        problems.extend(text.lines().filter(|line| is_problem(line)).take(SHOWN).map(|line| format!("{name}: {line}")));
    }
    Ok(problems)
}

/// What Kafka's client reports of connections, transactions and memberships, and the last word of a process that ends, are no
/// problems by themselves.
fn is_problem(line: &str) -> bool {
    const CLIENT: [&str; 4] =
        [" ERROR librdkafka: ", " ERROR rdkafka::", " ERROR kafka::contexts: ", " ERROR service::run: failed: "];
    let is_error = line.contains(" ERROR ") && !CLIENT.iter().any(|client| line.contains(client));
    is_error || ["panicked at", "panic: ", "Assertion `"].iter().any(|sign| line.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::super::hostile::LATE;
    use super::*;

    #[test]
    fn missing_extra_doubled_and_wrong_rows_are_seen() {
        let rows = "{\"a\":1}\n{\"a\":2}\n";
        assert_eq!(difference("t", rows, "{\"a\":2}\n{\"a\":1}\n"), None);
        for found in [
            "{\"a\":1}\n",
            "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n",
            "{\"a\":1}\n{\"a\":2}\n{\"a\":2}\n",
            "{\"a\":1}\n{\"a\":4}\n",
        ] {
            assert!(difference("t", rows, found).is_some(), "{found}");
        }
    }

    fn place(offset: i64) -> Place {
        (Content::Interactions, 0, offset)
    }

    fn good(case: usize) -> HandedOn {
        let reason = CASES[case].reasons[0].to_owned();
        readers(Content::Interactions).map(|worker| ((worker.to_owned(), place(5), reason.clone()), 1)).collect()
    }

    #[test]
    fn a_hostile_record_ends_once_in_each_worker_that_reads_it() {
        let case = CASES.iter().position(|case| case.reasons == [LATE]).unwrap();
        let hostile = BTreeMap::from([(place(5), case)]);
        assert_eq!(expected(&hostile), 2);
        assert_eq!(ends(&hostile, &good(case)), [""; 0]);
        let problems = ends(&hostile, &HandedOn::new());
        assert_eq!(problems.len(), 2, "{problems:?}");
        let twice = good(case).into_keys().map(|what| (what, 2)).collect();
        assert_eq!(ends(&hostile, &twice).len(), 2);
        let mut otherwise = good(case);
        otherwise.insert(("session-entropy".to_owned(), place(5), "undecodable".to_owned()), 1);
        assert!(!ends(&hostile, &otherwise).is_empty());
        let problems = ends(&BTreeMap::new(), &good(case));
        assert!(problems.len() == 2 && problems[0].contains("good record"), "{problems:?}");
    }

    #[test]
    fn errors_of_connections_are_no_problems_and_panics_are() {
        assert!(is_problem("2026-12-01T00:00:00Z ERROR streaming: panic: index out of bounds"));
        assert!(is_problem("2026-12-01T00:00:00Z ERROR alert_router: a record goes to the dead letters"));
        assert!(!is_problem("2026-12-01T00:00:00Z ERROR rdkafka::client: librdkafka: Global error: AllBrokersDown"));
        assert!(!is_problem("2026-12-01T00:00:00Z ERROR service::run: failed: no broker"));
        assert!(!is_problem(
            "2026-12-01T00:00:00Z ERROR kafka::contexts: [thrd:main]: Fatal error: fenced fac=\"FATAL\""
        ));
        assert!(is_problem("worker: rdkafka_queue.h:1071: f: Assertion `eonce->refcnt > 0' failed."));
        assert!(!is_problem("2026-12-01T00:00:00Z  WARN streaming: restore is tried again"));
    }
}
