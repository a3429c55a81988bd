//! What the router counts. Every name stands here; log lines that belong to a counter are written beside it.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use rdkafka::message::{Message as _, OwnedMessage};
use records::Reason;
use service::{LatencyHistogram, Metrics as Registry, Throttle};

use crate::core::changes::{Letter, REASONS};
use crate::core::{Outcome, Stats};
use crate::deliver::Answer;
use crate::writer::TooLarge;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabels {
    topic: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReceiverLabels {
    receiver: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    receiver: String,
    /// The HTTP status, 0 where there was none.
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LetterLabels {
    receiver: String,
    reason: &'static str,
}

/// The router's metrics.
#[derive(Default)]
pub struct Metrics {
    active: Gauge,
    records_read: Family<TopicLabels, Counter>,
    dead_letters: Family<ReasonLabels, Counter>,
    alerts: Gauge,
    alerts_firing: Gauge,
    alerts_suppressed: Gauge,
    groups: Gauge,
    silences: Gauge,
    notifications: Family<ReceiverLabels, Counter>,
    notification_failures: Family<AttemptLabels, Counter>,
    notification_seconds: Family<ReceiverLabels, LatencyHistogram>,
    given_up: Family<LetterLabels, Counter>,
    waiting: Family<ReceiverLabels, Gauge>,
    pending: Family<ReceiverLabels, Gauge>,
    commit_seconds: LatencyHistogram,
    takeovers: Counter,
    stalled: Gauge<f64, AtomicU64>,
    too_large: Family<TopicLabels, Counter>,
    failure_log: Option<Mutex<Throttle>>,
    unreadable_log: Option<Mutex<Throttle>>,
}

impl Metrics {
    /// Registers everything.
    #[must_use]
    pub fn new(registry: &Registry, receivers: &[String]) -> Self {
        let log = || Some(Mutex::new(Throttle::new(Duration::from_secs(10))));
        let metrics = Self { failure_log: log(), unreadable_log: log(), ..Self::default() };
        registry.register("alert_router", |registry| {
            registry.register(
                "active",
                "1 where this instance is the active one, 0 where it stands by",
                metrics.active.clone(),
            );
            registry.register("takeovers", "How often this instance became the active one", metrics.takeovers.clone());
            registry.register(
                "records_read",
                "Records of alerts and silences that were read",
                metrics.records_read.clone(),
            );
            registry.register("dead_letters", "Records that could not be read", metrics.dead_letters.clone());
            registry.register("alerts", "Alerts that fire, or whose end is still to be told", metrics.alerts.clone());
            registry.register("alerts_firing", "Alerts that fire", metrics.alerts_firing.clone());
            registry.register(
                "alerts_suppressed",
                "Firing alerts of which a group tells nothing, as they are silenced or inhibited",
                metrics.alerts_suppressed.clone(),
            );
            registry.register("groups", "Groups of alerts", metrics.groups.clone());
            registry.register("silences", "Silences that hold", metrics.silences.clone());
            registry.register(
                "notifications",
                "Notifications that a receiver has taken",
                metrics.notifications.clone(),
            );
            registry.register(
                "notification_failures",
                "Attempts that a receiver did not take, by HTTP status (0: no answer)",
                metrics.notification_failures.clone(),
            );
            registry.register(
                "notification_seconds",
                "Time to a receiver's answer",
                metrics.notification_seconds.clone(),
            );
            registry.register(
                "notifications_given_up",
                "Notifications handed on to the dead letters, by reason",
                metrics.given_up.clone(),
            );
            registry.register("receiver_waiting_groups", "Groups that wait for a receiver", metrics.waiting.clone());
            registry.register(
                "receiver_pending_notifications",
                "Notifications that a receiver has not taken yet",
                metrics.pending.clone(),
            );
            registry.register(
                "stalled_seconds",
                "How long the next record has waited for the schema registry, 0 where none does",
                metrics.stalled.clone(),
            );
            registry.register(
                "records_too_large",
                "Dead letters that their topic does not take, nor their beginnings: they are left out, and named in the log",
                metrics.too_large.clone(),
            );
            registry.register("commit_seconds", "Time of a transaction", metrics.commit_seconds.clone());
        });
        // a first one is seen to be one more than none, here and below
        for reason in Reason::ALL {
            let _ = metrics.dead_letters.get_or_create(&ReasonLabels { reason: reason.name() });
        }
        for receiver in receivers {
            let labels = ReceiverLabels { receiver: receiver.clone() };
            let _ = (metrics.notifications.get_or_create(&labels), metrics.pending.get_or_create(&labels));
            for reason in REASONS {
                let _ = metrics.given_up.get_or_create(&LetterLabels { receiver: receiver.clone(), reason });
            }
        }
        metrics
    }

    /// This instance is the active one, or is not any more.
    pub fn active(&self, active: bool) {
        self.active.set(active.into());
        if active {
            self.takeovers.inc();
            tracing::info!("this instance is the active one");
        } else {
            self.holds(&Stats::default(), 0, &[]);
            self.stalled(Duration::ZERO);
            self.waiting.clear();
            self.pending.clear();
        }
    }

    /// Records were read.
    pub fn read(&self, topic: &str, records: u64) {
        self.records_read.get_or_create(&TopicLabels { topic: topic.to_owned() }).inc_by(records);
    }

    /// A dead letter is in no topic.
    pub fn too_large(&self, record: &TooLarge) {
        self.too_large.get_or_create(&TopicLabels { topic: record.topic.clone() }).inc();
        if let Some(left_out) = pass(self.unreadable_log.as_ref()) {
            let TooLarge { topic, bytes, limit, place: (partition, offset) } = record;
            tracing::error!(
                topic,
                bytes,
                limit,
                partition,
                offset,
                left_out,
                "a record is too large for its topic and is left out: raise the topic's max.message.bytes"
            );
        }
    }

    /// The next record has waited for the schema registry for so long.
    pub fn stalled(&self, waited: Duration) {
        self.stalled.set(waited.as_secs_f64());
    }

    /// A record cannot be read: nobody is told of it.
    pub fn unreadable(&self, message: &OwnedMessage, reason: &str, text: &str) {
        if let Some(left_out) = pass(self.unreadable_log.as_ref()) {
            let (topic, partition, offset) = (message.topic(), message.partition(), message.offset());
            tracing::error!(topic, partition, offset, reason, text, left_out, "a record goes to the dead letters");
        }
    }

    /// A record that could not be read was dead-lettered; in a transaction that is committed.
    pub fn dead_letter(&self, reason: &'static str) {
        self.dead_letters.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A topic was told; in a transaction that is committed.
    pub fn written(&self, receiver: &str, notifications: u64) {
        self.notifications.get_or_create(&ReceiverLabels { receiver: receiver.to_owned() }).inc_by(notifications);
    }

    /// A receiver has answered, or not.
    pub fn answered(&self, receiver: &str, answer: &Answer) {
        let labels = ReceiverLabels { receiver: receiver.to_owned() };
        self.notification_seconds.get_or_create(&labels).observe(answer.took);
        let message = match &answer.outcome {
            Outcome::Delivered => {
                self.notifications.get_or_create(&labels).inc();
                return;
            }
            Outcome::Refused { message } | Outcome::Failed { message, .. } => message,
        };
        let labels = AttemptLabels { receiver: receiver.to_owned(), status: answer.status.unwrap_or_default() };
        self.notification_failures.get_or_create(&labels).inc();
        if let Some(left_out) = pass(self.failure_log.as_ref()) {
            tracing::warn!(receiver, message, left_out, "a notification was not taken");
        }
    }

    /// A notification is given up.
    pub fn given_up(&self, letter: &Letter) {
        let labels = LetterLabels { receiver: letter.receiver.clone(), reason: letter.reason };
        self.given_up.get_or_create(&labels).inc();
        let Letter { receiver, key, reason, message, .. } = letter;
        tracing::error!(receiver, key, reason, message, "a notification goes to the dead letters");
    }

    /// A transaction was committed.
    pub fn committed(&self, took: Duration) {
        self.commit_seconds.observe(took);
    }

    /// What the router holds; `receivers` are their names.
    pub fn holds(&self, stats: &Stats, silences: usize, receivers: &[String]) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.alerts.set(number(stats.alerts));
        self.alerts_firing.set(number(stats.firing));
        self.alerts_suppressed.set(number(stats.suppressed));
        self.groups.set(number(stats.groups));
        self.silences.set(number(silences));
        for (receiver, (waiting, pending)) in receivers.iter().zip(&stats.receivers) {
            let labels = ReceiverLabels { receiver: receiver.clone() };
            self.waiting.get_or_create(&labels).set(number(*waiting));
            self.pending.get_or_create(&labels).set(number(*pending));
        }
    }
}

/// Whether a line may be written, and how many were left out since the last one.
fn pass(log: Option<&Mutex<Throttle>>) -> Option<u64> {
    log?.lock().unwrap_or_else(PoisonError::into_inner).pass(Instant::now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Metrics;
    use crate::core::{Outcome, Stats};
    use crate::deliver::Answer;

    #[test]
    fn the_names_that_dashboards_and_tools_use_stay() {
        let registry = service::Metrics::new();
        let receivers = ["pager".to_owned()];
        let metrics = Metrics::new(&registry, &receivers);
        metrics.active(true);
        metrics.read("t", 2);
        metrics.dead_letter("undecodable");
        metrics.stalled(Duration::from_millis(1500));
        let failed = Outcome::Failed { message: String::new(), reached: true, retry_after: None };
        metrics.answered("pager", &Answer { outcome: failed, status: Some(503), took: Duration::ZERO });
        metrics.answered("pager", &Answer { outcome: Outcome::Delivered, status: Some(200), took: Duration::ZERO });
        metrics.holds(&Stats { firing: 3, receivers: vec![(4, 5)], ..Stats::default() }, 6, &receivers);
        let text = registry.encode();
        for line in [
            "recwatch_alert_router_active 1",
            "recwatch_alert_router_takeovers_total 1",
            r#"recwatch_alert_router_records_read_total{topic="t"} 2"#,
            r#"recwatch_alert_router_dead_letters_total{reason="undecodable"} 1"#,
            r#"recwatch_alert_router_notifications_total{receiver="pager"} 1"#,
            r#"recwatch_alert_router_notification_failures_total{receiver="pager",status="503"} 1"#,
            "recwatch_alert_router_alerts_firing 3",
            "recwatch_alert_router_silences 6",
            "recwatch_alert_router_stalled_seconds 1.5",
            r#"recwatch_alert_router_dead_letters_total{reason="bad_value"} 0"#,
            r#"recwatch_alert_router_receiver_waiting_groups{receiver="pager"} 4"#,
            r#"recwatch_alert_router_receiver_pending_notifications{receiver="pager"} 5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        // what waits, waits for the active instance
        metrics.active(false);
        assert!(!registry.encode().contains("receiver_pending_notifications{"), "{}", registry.encode());
    }

    #[test]
    fn prometheus_rules_that_are_shipped_name_metrics_that_there_are() {
        const RULES: &str = include_str!("../../../deploy/prometheus/recwatch.rules.yml");
        let registry = service::Metrics::new();
        let metrics = Metrics::new(&registry, &["pager".to_owned()]);
        // families show with their first member
        let refused = Outcome::Refused { message: String::new() };
        metrics.answered("pager", &Answer { outcome: refused, status: Some(401), took: Duration::ZERO });
        let exported = registry.encode();
        let names = RULES.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names: Vec<&str> = names.filter(|name| name.starts_with("recwatch_alert_router_")).collect();
        assert!(names.len() >= 5, "{names:?}");
        for name in names {
            let is_shown = exported
                .lines()
                .any(|line| line.starts_with(&format!("{name} ")) || line.starts_with(&format!("{name}{{")));
            assert!(is_shown, "{name} is none of\n{exported}");
        }
        for reason in ["refused", "gave_up", "expired"] {
            let line = format!(
                r#"recwatch_alert_router_notifications_given_up_total{{receiver="pager",reason="{reason}"}} 0"#
            );
            assert!(exported.lines().any(|found| found == line), "{line} in\n{exported}");
        }
    }
}
