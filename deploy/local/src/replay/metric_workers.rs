//! Which workers there are, and what each reads and writes: the one table that a new worker is added to.

use crate::recording::Content;

/// A metric worker: reads the recommender's topics, writes rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricWorker {
    /// Its name, and that of its binary.
    pub name: &'static str,
    /// What it reads.
    pub sources: &'static [Content],
    /// The key of its configuration that says how far apart the windows of a source end, where that is not `slide`.
    pub other_slide: Option<(Content, &'static str)>,
    /// The topics of its rows.
    pub row_topics: &'static [RowTopic],
}

impl MetricWorker {
    /// The key of its configuration that says how far apart the windows of a source end.
    #[must_use]
    pub(super) fn slide_key(&self, source: Content) -> &'static str {
        self.other_slide.filter(|(of, _)| *of == source).map_or("slide", |(_, key)| key)
    }
}

/// A topic of rows, and the ClickHouse table that they end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowTopic {
    /// The topic.
    pub name: &'static str,
    /// The table.
    pub table: &'static str,
    /// What the rows are.
    pub kind: RowKind,
}

/// What a row is: which schema it has, and which of its fields tell it from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// One session in one window.
    SessionFreshness,
    /// One group in one window.
    SessionEntropy,
    /// Pairs of items of one group in one window.
    CosineDecay,
    /// Items' vectors of one domain in one window.
    DecayRate,
    /// One item at one time.
    RetrainRequest,
    /// One pair of domains, or one domain and its past, in one window.
    DomainDrift,
    /// One transition of an alert.
    Alert,
}

/// All metric workers.
pub const METRIC_WORKERS: [MetricWorker; 3] = [
    MetricWorker {
        name: "session-entropy",
        sources: &[Content::Interactions],
        other_slide: None,
        row_topics: &[
            RowTopic {
                name: "recwatch.session-freshness.v1",
                table: "session_freshness",
                kind: RowKind::SessionFreshness,
            },
            RowTopic { name: "recwatch.session-entropy.v1", table: "session_entropy", kind: RowKind::SessionEntropy },
        ],
    },
    MetricWorker {
        name: "cosine-decay",
        sources: &[Content::ItemEmbeddings, Content::Interactions],
        other_slide: Some((Content::ItemEmbeddings, "decay_rate_slide")),
        row_topics: &[
            RowTopic { name: "recwatch.cosine-decay.v1", table: "cosine_decay", kind: RowKind::CosineDecay },
            RowTopic { name: "recwatch.decay-rate.v1", table: "decay_rate", kind: RowKind::DecayRate },
            RowTopic { name: "recwatch.retrain-requests.v1", table: "retrain_requests", kind: RowKind::RetrainRequest },
        ],
    },
    MetricWorker {
        name: "domain-drift",
        sources: &[Content::UserEmbeddings],
        other_slide: None,
        row_topics: &[RowTopic { name: "recwatch.domain-drift.v1", table: "domain_drift", kind: RowKind::DomainDrift }],
    },
];

/// Where all metric workers tell their alerts.
pub const ALERTS_TOPIC: &str = "recwatch.alerts.v1";

/// Where all workers tell of alerts.
pub(crate) const ALERTS: RowTopic = RowTopic { name: ALERTS_TOPIC, table: "alerts", kind: RowKind::Alert };

/// Where workers put what came too late.
pub(crate) const LATE_TOPIC: &str = "recwatch.late.v1";

/// Where workers put bad input.
pub(crate) const DEAD_LETTER_TOPIC: &str = "recwatch.dead-letters.v1";

/// The worker that writes rows to ClickHouse.
pub const WRITER: &str = "clickhouse-writer";

/// The worker that tells those who want to know of alerts.
pub const ROUTER: &str = "alert-router";

/// Where it tells of all alerts, unless it is given routes of its own.
pub const ROUTE_TOPIC: &str = "recwatch.routes.default.v1";

/// The consumer group of a worker.
#[must_use]
pub(super) fn group(worker: &str) -> String {
    format!("recwatch.{worker}")
}

/// One of the topics that a worker keeps for itself, by source.
#[must_use]
pub(crate) fn internal_topic(worker: &str, source: Content, what: &str) -> String {
    format!("recwatch.internal.{worker}.{}.{what}", source.topic())
}

/// The worker of this name.
///
/// # Errors
/// There is none; the message names those that there are.
pub fn find(name: &str) -> Result<MetricWorker, String> {
    METRIC_WORKERS.into_iter().find(|worker| worker.name == name).ok_or_else(|| {
        let names: Vec<&str> = METRIC_WORKERS.iter().map(|worker| worker.name).collect();
        format!("there is no metric worker {name:?}; there are: {}", names.join(", "))
    })
}
