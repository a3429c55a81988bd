//! What happens to an alert, and the record that says so.

use records::{Alert, AlertAttribution, AlertLabel, AlertSamples, AlertState, Text};
use storage::wire;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::catalogue::{Group, Row, RowKind};
use crate::rule::Rule;
use crate::series::{Firing, Judgement};
use crate::summary;

/// Why a record is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Fired,
    Changed,
    Repeated,
    Cleared,
    NoData,
    RuleRemoved,
}

impl Reason {
    pub(crate) const ALL: [Self; 6] =
        [Self::Fired, Self::Changed, Self::Repeated, Self::Cleared, Self::NoData, Self::RuleRemoved];

    /// As records have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fired => "fired",
            Self::Changed => "changed",
            Self::Repeated => "repeated",
            Self::Cleared => "cleared",
            Self::NoData => "no_data",
            Self::RuleRemoved => "rule_removed",
        }
    }

    pub(crate) fn is_firing(self) -> bool {
        matches!(self, Self::Fired | Self::Changed | Self::Repeated)
    }
}

/// What was seen of the group in the window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Its row, if it had one.
    pub(crate) row: Option<&'a Row>,
    pub(crate) value: Option<f64>,
    pub(crate) judgement: Option<Judgement>,
    /// Evaluations in a row without data.
    pub(crate) misses: u32,
}

impl Seen<'_> {
    /// Nothing, since nobody looked.
    pub(crate) const NOTHING: Self = Seen { row: None, value: None, judgement: None, misses: 0 };
}

/// A step in the life of an alert.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transition<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) group: &'a Group,
    pub(crate) reason: Reason,
    /// End of the window that caused it, epoch ms.
    pub(crate) end: i64,
    pub(crate) firing: &'a Firing,
    pub(crate) seen: Seen<'a>,
}

/// Whose alerts they are.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) worker: String,
    /// The deployment of the worker, where it is not the default one.
    pub(crate) deployment: Option<String>,
}

fn identity<'a>(
    worker: &str,
    deployment: Option<&str>,
    rule: &str,
    group: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let mut identity = Vec::new();
    for part in [worker, rule].into_iter().chain(group.flat_map(|(name, value)| [name, value])).chain(deployment) {
        wire::put_bytes(&mut identity, part.as_bytes());
    }
    identity
}

fn text(identity: &[u8]) -> String {
    format!("{:016x}", xxh3_64(identity))
}

/// The fingerprint of an alert: what its records have in common, and no other alert's have. `deployment` is that of the
/// worker, where it is not the default one; `group` its dimensions with their values.
#[must_use]
pub fn fingerprint<'a>(
    worker: &str,
    deployment: Option<&str>,
    rule: &str,
    group: impl Iterator<Item = (&'a str, &'a str)>,
) -> String {
    text(&identity(worker, deployment, rule, group))
}

impl Transition<'_> {
    /// Shows the record to `sink`.
    pub(crate) fn record(&self, origin: &Origin, kind: &RowKind, revision: i64, sink: &mut dyn FnMut(&Alert<'_>)) {
        let Origin { worker, deployment } = origin;
        let group = kind.dimensions.iter().zip(self.group).map(|(name, value)| (*name, &**value));
        let mut identity = identity(worker, deployment.as_deref(), &self.rule.name, group);
        let fingerprint = text(&identity);
        identity.extend_from_slice(&self.firing.started_at.to_le_bytes());
        let alert_id = format!("{:032x}", xxh3_128(&identity));
        let summary = summary::of(self, kind);
        let labels = kind.dimensions.iter().zip(self.group);
        let counts = self.seen.row.into_iter().flat_map(|row| kind.metrics.iter().zip(&row.values));
        let samples = counts.filter(|(metric, _)| metric.samples).filter_map(|(metric, value)| {
            Some(AlertSamples { name: Text::from(metric.name), count: value.as_ref().map(|value| *value as i64)? })
        });
        sink(&Alert {
            alert_id: Text::from(alert_id.as_str()),
            sequence: self.firing.sequence,
            fingerprint: Text::from(fingerprint.as_str()),
            state: if self.reason.is_firing() { AlertState::Firing } else { AlertState::Resolved },
            reason: Text::from(self.reason.name()),
            worker: Text::from(worker.as_str()),
            rule: Text::from(self.rule.name.as_str()),
            kind: Text::from(self.rule.condition.kind()),
            severity: Text::from(self.rule.severity.as_str()),
            metric: Text::from(self.rule.metric.as_str()),
            value: self.seen.value,
            threshold: self.seen.judgement.and_then(|judgement| judgement.threshold),
            baseline: self.seen.judgement.and_then(|judgement| judgement.baseline),
            window_start: self.end.saturating_sub(kind.window),
            window_end: self.end,
            started_at: self.firing.started_at,
            group: labels
                .map(|(name, value)| AlertLabel { name: Text::from(*name), value: Text::from(&**value) })
                .collect(),
            samples: samples.collect(),
            attribution: self
                .firing
                .attribution
                .iter()
                .map(|attribution| AlertAttribution {
                    dimensions: Text::from(attribution.dimensions.as_str()),
                    values: Text::from(attribution.values.as_str()),
                    share: attribution.share,
                    entropy: attribution.entropy,
                })
                .collect(),
            summary: Text::from(summary.as_str()),
            traceparent: self.seen.row.and_then(|row| row.traceparent.as_deref()).map(Text::from),
            revision,
        });
    }
}
