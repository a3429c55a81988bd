//! `session_freshness`: one row a session and window end.

use records::{DecodeError, Decoder, DecoderConfig, SessionFreshness};

use super::Kind::{Count, Float, Text, Time};
use super::{Column, DecodeRow, Table, column, unsigned};
use crate::rowbinary::RowWriter;

pub(super) static TABLE: Table = Table {
    name: "session_freshness",
    topic: "recwatch.session-freshness.v1",
    cleanup_policy: "compact,delete",
    columns: COLUMNS,
    decoder: |lookup| Box::new(Rows(Decoder::new(DecoderConfig::of_workers(), lookup))),
};

const COLUMNS: &[Column] = &[
    column("window_start", Time),
    column("window_end", Time),
    column("session_id", Text),
    column("domain", Text),
    column("surface", Text),
    column("user_segment", Text),
    column("rec_strategy", Text),
    column("ab_group", Text),
    column("item_type", Text),
    column("events", Count),
    column("entropy", Float),
    column("normalised", Float),
    column("freshness", Float),
    column("decay_factor", Float),
    column("band", Text),
    column("revision", Count),
];

struct Rows(Decoder<SessionFreshness<'static>>);

impl DecodeRow for Rows {
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<i64, DecodeError> {
        let row = self.0.decode(key, value)?;
        let events = unsigned("events", row.events)?;
        let revision = unsigned("revision", row.revision)?;
        RowWriter::new(into)
            .time(row.window_start)
            .time(row.window_end)
            .text(&row.session_id)
            .text(&row.domain)
            .text(&row.surface)
            .text(&row.user_segment)
            .text(&row.rec_strategy)
            .text(&row.ab_group)
            .text(&row.item_type)
            .count(events)
            .float(row.entropy)
            .float(row.normalised)
            .float(row.freshness)
            .float(row.decay_factor)
            .text(&row.band)
            .count(revision);
        Ok(row.window_end)
    }
}
