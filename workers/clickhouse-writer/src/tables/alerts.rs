//! `alerts`: one row a record of an alert's life.

use records::{Alert, AlertState, DecodeError, Decoder, DecoderConfig};

use super::Kind::{Count, CountMap, OptionalFloat, OptionalText, Shares, Text, TextMap, Time};
use super::{Column, DecodeRow, Table, column, unsigned};
use crate::rowbinary::RowWriter;

pub(super) static TABLE: Table = Table {
    name: "alerts",
    topic: "recwatch.alerts.v1",
    cleanup_policy: "compact,delete",
    columns: COLUMNS,
    decoder: |lookup| Box::new(Rows(Decoder::new(DecoderConfig::of_workers(), lookup))),
};

const COLUMNS: &[Column] = &[
    column("alert_id", Text),
    column("sequence", Count),
    column("fingerprint", Text),
    column("state", Text),
    column("reason", Text),
    column("worker", Text),
    column("rule", Text),
    column("kind", Text),
    column("severity", Text),
    column("metric", Text),
    column("value", OptionalFloat),
    column("threshold", OptionalFloat),
    column("baseline", OptionalFloat),
    column("window_start", Time),
    column("window_end", Time),
    column("started_at", Time),
    column("group", TextMap),
    column("samples", CountMap),
    column("attribution", Shares),
    column("summary", Text),
    column("traceparent", OptionalText),
    column("revision", Count),
];

struct Rows(Decoder<Alert<'static>>);

impl DecodeRow for Rows {
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<i64, DecodeError> {
        let row = self.0.decode(key, value)?;
        let sequence = unsigned("sequence", row.sequence)?;
        let revision = unsigned("revision", row.revision)?;
        let mut samples = Vec::new();
        for sample in &row.samples {
            samples.push((&*sample.name, unsigned("samples", sample.count)?));
        }
        let state = match row.state {
            AlertState::Firing => "FIRING",
            AlertState::Resolved => "RESOLVED",
        };
        let mut writer = RowWriter::new(into);
        writer
            .text(&row.alert_id)
            .count(sequence)
            .text(&row.fingerprint)
            .text(state)
            .text(&row.reason)
            .text(&row.worker)
            .text(&row.rule)
            .text(&row.kind)
            .text(&row.severity)
            .text(&row.metric)
            .optional_float(row.value)
            .optional_float(row.threshold)
            .optional_float(row.baseline)
            .time(row.window_start)
            .time(row.window_end)
            .time(row.started_at)
            .length(row.group.len());
        for label in &row.group {
            writer.text(&label.name).text(&label.value);
        }
        writer.length(samples.len());
        for (name, count) in samples {
            writer.text(name).count(count);
        }
        writer.length(row.attribution.len());
        for part in &row.attribution {
            writer.text(&part.dimensions).text(&part.values).float(part.share).float(part.entropy);
        }
        writer.text(&row.summary).optional_text(row.traceparent.as_deref()).count(revision);
        Ok(row.window_end)
    }
}
