//! What workers say when a rule's condition begins or ends to hold.

use serde::{Deserialize, Serialize};

use crate::field::{Input, Limits, check_key};
use crate::rows::first_revision;
use crate::{Rejection, Text};

/// Whether an alert's condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AlertState {
    /// It holds.
    Firing,
    /// It holds no more.
    Resolved,
}

/// A transition of an alert (`schemas/Alert.avsc`). Key: `fingerprint`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert<'a> {
    /// One life of an alert, from its firing to its resolution: the same after a replay.
    #[serde(borrow)]
    pub alert_id: Text<'a>,
    /// Number of this record in the alert's life, from 1 on. With `alert_id` it names the record.
    pub sequence: i64,
    /// Worker, rule and group; never empty in a checked record.
    #[serde(borrow)]
    pub fingerprint: Text<'a>,
    /// Whether it holds.
    pub state: AlertState,
    /// Why this record is sent: `fired`, `changed` or `repeated`; `cleared`, `no_data`, `rule_removed` or `state_reset`.
    #[serde(borrow)]
    pub reason: Text<'a>,
    /// Whose rule it is.
    #[serde(borrow)]
    pub worker: Text<'a>,
    /// Name of the rule.
    #[serde(borrow)]
    pub rule: Text<'a>,
    /// `threshold`, `deviation`, `change` or `absence`.
    #[serde(borrow)]
    pub kind: Text<'a>,
    /// As the rule has it.
    #[serde(borrow)]
    pub severity: Text<'a>,
    /// The field of the rows that the rule watches; empty for absence.
    #[serde(borrow)]
    pub metric: Text<'a>,
    /// The metric in the window.
    pub value: Option<f64>,
    /// The value beyond which the rule breaches.
    pub threshold: Option<f64>,
    /// What is usual: the median or mean that the threshold was made from.
    pub baseline: Option<f64>,
    /// Start of the window, exclusive, epoch ms.
    pub window_start: i64,
    /// End of the window that caused this record, inclusive, epoch ms.
    pub window_end: i64,
    /// End of the window with which the alert began to fire, epoch ms.
    pub started_at: i64,
    /// The group, in the order of its dimensions.
    #[serde(borrow)]
    pub group: Vec<AlertLabel<'a>>,
    /// What the value rests on.
    #[serde(borrow)]
    pub samples: Vec<AlertSamples<'a>>,
    /// Which dimensions carry the excess of all groups, the most concentrated first; at most three.
    #[serde(borrow)]
    pub attribution: Vec<AlertAttribution<'a>>,
    /// One sentence for people.
    #[serde(borrow)]
    pub summary: Text<'a>,
    /// W3C trace context of an example event.
    #[serde(borrow)]
    pub traceparent: Option<Text<'a>>,
    /// Of rows of one key the highest revision counts.
    #[serde(default = "first_revision")]
    pub revision: i64,
}

/// A dimension of an alert's group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertLabel<'a> {
    /// Dimension.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Its value, empty where absent.
    #[serde(borrow)]
    pub value: Text<'a>,
}

/// A count that an alert's value rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertSamples<'a> {
    /// A count among the row's fields.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// How many.
    pub count: i64,
}

/// What carries the excess of a metric over its groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertAttribution<'a> {
    /// A dimension, or two of them joined with `+`.
    #[serde(borrow)]
    pub dimensions: Text<'a>,
    /// The values that carry most of it, the largest first, separated by commas; of two dimensions joined with `+`.
    #[serde(borrow)]
    pub values: Text<'a>,
    /// Their share of the excess, 0 to 1.
    pub share: f64,
    /// Shannon entropy of the shares of all values, bits: the less, the more concentrated.
    pub entropy: f64,
}

impl Input for Alert<'static> {
    type Raw<'a> = Alert<'a>;

    const REQUIRED: &'static [&'static str] = &[
        "alert_id",
        "sequence",
        "fingerprint",
        "state",
        "reason",
        "worker",
        "rule",
        "kind",
        "severity",
        "metric",
        "window_start",
        "window_end",
        "started_at",
        "group",
        "samples",
        "attribution",
        "summary",
    ];

    const TIMES: &'static [&'static str] = &["window_start", "window_end", "started_at"];

    fn check<'a>(raw: Self::Raw<'a>, _limits: &Limits<'_>) -> Result<Self::Of<'a>, Rejection> {
        check_key("fingerprint", &raw.fingerprint)?;
        Ok(raw)
    }
}
