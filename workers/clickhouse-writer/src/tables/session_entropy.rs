//! `session_entropy`: one row a group and window end.

use records::{DecodeError, Decoder, DecoderConfig, SessionEntropy};

use super::Kind::{Count, OptionalFloat, Text, Time};
use super::{Column, DecodeRow, Table, column, unsigned};
use crate::rowbinary::RowWriter;

pub(super) static TABLE: Table = Table {
    name: "session_entropy",
    topic: "recwatch.session-entropy.v1",
    cleanup_policy: "delete",
    columns: COLUMNS,
    decoder: |lookup| Box::new(Rows(Decoder::new(DecoderConfig::of_workers(), lookup))),
};

const COLUMNS: &[Column] = &[
    column("window_start", Time),
    column("window_end", Time),
    column("domain", Text),
    column("surface", Text),
    column("user_segment", Text),
    column("rec_strategy", Text),
    column("ab_group", Text),
    column("item_type", Text),
    column("sessions_total", Count),
    column("events", Count),
    column("sessions", Count),
    column("mean_entropy", OptionalFloat),
    column("mean_freshness", OptionalFloat),
    column("freshness_p05", OptionalFloat),
    column("freshness_p50", OptionalFloat),
    column("freshness_p95", OptionalFloat),
    column("share_focused", OptionalFloat),
    column("share_balanced", OptionalFloat),
    column("share_scattered", OptionalFloat),
    column("revision", Count),
];

struct Rows(Decoder<SessionEntropy<'static>>);

impl DecodeRow for Rows {
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<i64, DecodeError> {
        let row = self.0.decode(key, value)?;
        let sessions_total = unsigned("sessions_total", row.sessions_total)?;
        let events = unsigned("events", row.events)?;
        let sessions = unsigned("sessions", row.sessions)?;
        let revision = unsigned("revision", row.revision)?;
        RowWriter::new(into)
            .time(row.window_start)
            .time(row.window_end)
            .text(&row.domain)
            .text(&row.surface)
            .text(&row.user_segment)
            .text(&row.rec_strategy)
            .text(&row.ab_group)
            .text(&row.item_type)
            .count(sessions_total)
            .count(events)
            .count(sessions)
            .optional_float(row.mean_entropy)
            .optional_float(row.mean_freshness)
            .optional_float(row.freshness_p05)
            .optional_float(row.freshness_p50)
            .optional_float(row.freshness_p95)
            .optional_float(row.share_focused)
            .optional_float(row.share_balanced)
            .optional_float(row.share_scattered)
            .count(revision);
        Ok(row.window_end)
    }
}
