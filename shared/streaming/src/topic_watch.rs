//! Watches that the topics are those that the instance has started with: of each that it reads or keeps state on the same
//! id and the same number of partitions, of each that it only writes to that it is there.
//!
//! Offsets name a topic, not its id: librdkafka goes on at the old offset in a topic that was created again. So no
//! transaction commits before the topics were looked at anew since its records were read, and what is committed has the
//! topic's id beside the offset. A commit that races with a recreation is thereby one of the old topic's, and is seen to be.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use kafka::{TopicChange, TopicIdentity, describe_topics};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::ASK;

/// The topics are looked at this often while nothing commits.
const EVERY: Duration = Duration::from_secs(15);
/// Between two looks at what is not yet sure.
const AGAIN: Duration = Duration::from_millis(200);
/// A change is believed when it has been seen for this long: a broker may be behind the others for a moment.
const SURE: Duration = Duration::from_secs(1);
/// The same of a topic that is not there: it may be about to be created again, and then that is the message.
const SURE_DELETED: Duration = Duration::from_secs(10);

type Described = BTreeMap<String, Result<TopicIdentity, RDKafkaErrorCode>>;

/// What a topic has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Watched {
    /// The same as at the start.
    Same(TopicIdentity),
    /// There.
    Exists,
}

/// Why topics are not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unconfirmed {
    /// One is another one.
    #[error("{0}")]
    Changed(TopicChange),
    /// This user may not see one any more: only a person can change that.
    #[error("topic {topic} may not be described any more (TopicAuthorizationFailed): grant Describe on it")]
    Forbidden {
        /// Its name.
        topic: String,
    },
    /// Not known; ask again.
    #[error("whether the topics are still the same is not known: {0}")]
    NoAnswer(String),
}

/// What was seen of the topics so far. Takes the time as an argument.
struct Watch {
    topics: BTreeMap<String, Watched>,
    suspected: Option<(TopicChange, Instant)>,
}

impl Watch {
    fn judge(&mut self, described: &Described, now: Instant) -> Result<(), Unconfirmed> {
        let Some(change) = self.first_change(described)? else {
            self.suspected = None;
            return Ok(());
        };
        let since = match &self.suspected {
            Some((suspected, since)) if *suspected == change => *since,
            _ => now,
        };
        self.suspected = Some((change.clone(), since));
        let sure = if matches!(change, TopicChange::Deleted { .. }) { SURE_DELETED } else { SURE };
        if now.duration_since(since) >= sure {
            return Err(Unconfirmed::Changed(change));
        }
        Err(Unconfirmed::NoAnswer(format!("{change}, as it seems")))
    }

    fn first_change(&self, described: &Described) -> Result<Option<TopicChange>, Unconfirmed> {
        for (name, watched) in &self.topics {
            let now = described.get(name);
            let change = match watched {
                Watched::Same(identity) => identity.change(name, now),
                Watched::Exists => match now {
                    Some(Ok(_)) => Ok(None),
                    // compared with nothing that could be the same: only whether it is there matters
                    _ => TopicIdentity { id: None, partitions: 0 }.change(name, now),
                },
            };
            match change {
                Ok(None) => {}
                Ok(change) => return Ok(change),
                Err(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    return Err(Unconfirmed::Forbidden { topic: name.clone() });
                }
                Err(code) => return Err(Unconfirmed::NoAnswer(format!("{name}: {code}"))),
            }
        }
        Ok(None)
    }
}

type Answer = Result<(), Unconfirmed>;

/// Asks, for all threads of an instance.
pub(crate) struct TopicWatch {
    asks: Sender<Sender<Answer>>,
    change: Arc<OnceLock<TopicChange>>,
}

/// The look itself: what [`TopicWatch`] asks for.
pub(crate) struct Watcher {
    watch: Watch,
    asked: Receiver<Sender<Answer>>,
    change: Arc<OnceLock<TopicChange>>,
    client: BaseConsumer,
}

/// An answer to come.
pub(crate) struct Confirmation {
    answer: Receiver<Answer>,
    change: Arc<OnceLock<TopicChange>>,
}

impl Confirmation {
    /// Waits for it.
    pub(crate) fn wait(&self, limit: Duration) -> Answer {
        self.wait_unless(limit, || false)
    }

    /// Waits for it, and for little longer than until `is_over` holds.
    pub(crate) fn wait_unless(&self, limit: Duration, is_over: impl Fn() -> bool) -> Answer {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.answer.recv_timeout(left.min(AGAIN)) {
                Ok(answer) => return answer,
                Err(RecvTimeoutError::Timeout) if left > AGAIN && !is_over() => continue,
                Err(error) => error,
            };
            return Err(match (self.change.get(), error) {
                (Some(change), _) => Unconfirmed::Changed(change.clone()),
                (None, RecvTimeoutError::Timeout) => Unconfirmed::NoAnswer(format!("no answer within {limit:?}")),
                (None, RecvTimeoutError::Disconnected) => Unconfirmed::NoAnswer("nobody asks any more".to_owned()),
            });
        }
    }
}

impl TopicWatch {
    /// A watch for `topics`, and who looks.
    pub(crate) fn new(topics: BTreeMap<String, Watched>, client: BaseConsumer) -> (Self, Watcher) {
        let (asks, asked) = unbounded();
        let change = Arc::new(OnceLock::new());
        let watcher = Watcher { watch: Watch { topics, suspected: None }, asked, change: change.clone(), client };
        (Self { asks, change }, watcher)
    }

    /// Asks whether the topics are still the same; the answer is from later than this call.
    pub(crate) fn confirm(&self) -> Confirmation {
        let (ask, answer) = bounded(1);
        // where nobody looks any more the answer says so
        let _ = self.asks.send(ask);
        Confirmation { answer, change: self.change.clone() }
    }
}

impl Watcher {
    /// Looks when asked, and at least every [`EVERY`], until `done` holds or a topic is another one.
    pub(crate) fn run(mut self, done: impl Fn() -> bool) -> Option<TopicChange> {
        let mut pause = EVERY;
        let mut last = Instant::now();
        loop {
            let mut waiting = Vec::new();
            match self.asked.recv_timeout(AGAIN) {
                Ok(ask) => waiting.push(ask),
                Err(RecvTimeoutError::Timeout) if !done() => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
            if waiting.is_empty() && last.elapsed() < pause {
                continue;
            }
            // one question for all who wait
            waiting.extend(self.asked.try_iter());
            last = Instant::now();
            let answer = self.look();
            pause = if answer.is_ok() { EVERY } else { AGAIN };
            if let Err(Unconfirmed::Changed(change)) = &answer {
                let _ = self.change.set(change.clone());
                return Some(change.clone());
            }
            for asker in waiting {
                let _ = asker.send(answer.clone());
            }
        }
    }

    fn look(&mut self) -> Answer {
        let names: Vec<&str> = self.watch.topics.keys().map(String::as_str).collect();
        match describe_topics(self.client.client(), &names, ASK) {
            Ok(described) => self.watch.judge(&described, Instant::now()),
            Err(error) => Err(Unconfirmed::NoAnswer(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka::TopicId;

    use super::*;

    fn identity(id: &str, partitions: i32) -> TopicIdentity {
        TopicIdentity { id: TopicId::parse(id), partitions }
    }

    fn watch() -> Watch {
        let topics = [("in", Watched::Same(identity("a", 2))), ("out", Watched::Exists)];
        Watch { topics: topics.map(|(name, watched)| (name.to_owned(), watched)).into(), suspected: None }
    }

    fn described(source: Result<TopicIdentity, RDKafkaErrorCode>, output: &str) -> Described {
        [("in".to_owned(), source), ("out".to_owned(), Ok(identity(output, 1)))].into()
    }

    const GONE: RDKafkaErrorCode = RDKafkaErrorCode::UnknownTopicOrPartition;

    #[test]
    fn a_change_is_believed_when_it_has_lasted_and_nothing_is_confirmed_meanwhile() {
        let (mut watch, start) = (watch(), Instant::now());
        let same = described(Ok(identity("a", 2)), "x");
        let other = described(Ok(identity("b", 2)), "x");
        assert_eq!(watch.judge(&same, start), Ok(()));
        assert!(matches!(watch.judge(&other, start), Err(Unconfirmed::NoAnswer(_))));
        assert_eq!(watch.judge(&same, start + SURE), Ok(()), "a broker was behind");
        assert!(matches!(watch.judge(&other, start + SURE), Err(Unconfirmed::NoAnswer(_))));
        assert!(matches!(watch.judge(&other, start + 2 * SURE), Err(Unconfirmed::Changed(_))));
    }

    #[test]
    fn a_topic_that_is_deleted_and_created_again_is_reported_as_that() {
        let (mut watch, start) = (watch(), Instant::now());
        assert!(matches!(watch.judge(&described(Err(GONE), "x"), start), Err(Unconfirmed::NoAnswer(_))));
        let other = described(Ok(identity("b", 2)), "x");
        assert!(matches!(watch.judge(&other, start + SURE), Err(Unconfirmed::NoAnswer(_))));
        let Err(Unconfirmed::Changed(change)) = watch.judge(&other, start + 2 * SURE) else { panic!("not sure") };
        assert!(matches!(change, TopicChange::Recreated { .. }));
    }

    #[test]
    fn an_output_may_be_another_topic_but_has_to_be_there() {
        let (mut watch, start) = (watch(), Instant::now());
        let source = || Ok(identity("a", 2));
        assert_eq!(watch.judge(&described(source(), "x"), start), Ok(()));
        assert_eq!(watch.judge(&described(source(), "y"), start), Ok(()));
        let mut without = described(source(), "y");
        without.insert("out".to_owned(), Err(GONE));
        assert!(watch.judge(&without, start).is_err());
        let deleted = TopicChange::Deleted { topic: "out".to_owned() };
        assert_eq!(watch.judge(&without, start + SURE_DELETED), Err(Unconfirmed::Changed(deleted)));
    }

    #[test]
    fn a_right_that_is_missing_is_named_and_an_answer_that_does_not_come_is_waited_for_until_it_is_over() {
        let (mut watch, start) = (watch(), Instant::now());
        let forbidden = watch.judge(&described(Err(RDKafkaErrorCode::TopicAuthorizationFailed), "x"), start);
        assert_eq!(forbidden, Err(Unconfirmed::Forbidden { topic: "in".to_owned() }));

        let (ask, answer) = bounded(1);
        let confirmation = Confirmation { answer, change: Arc::new(OnceLock::new()) };
        let long = Duration::from_secs(3_600);
        assert!(matches!(confirmation.wait_unless(long, || true), Err(Unconfirmed::NoAnswer(_))));
        ask.send(forbidden.clone()).unwrap();
        assert_eq!(confirmation.wait(long), forbidden);
        drop(ask);
        assert!(matches!(confirmation.wait(long), Err(Unconfirmed::NoAnswer(_))), "who asks is gone");
    }

    #[test]
    fn an_error_of_one_topic_confirms_nothing_and_changes_nothing() {
        let (mut watch, start) = (watch(), Instant::now());
        let unclear = described(Err(RDKafkaErrorCode::LeaderNotAvailable), "x");
        assert!(matches!(watch.judge(&unclear, start), Err(Unconfirmed::NoAnswer(_))));
        assert!(matches!(watch.judge(&unclear, start + 2 * SURE_DELETED), Err(Unconfirmed::NoAnswer(_))));
    }
}
