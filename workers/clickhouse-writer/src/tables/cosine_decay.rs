//! `cosine_decay`: one row a group and window end.

use records::{CosineDecay, DecodeError, Decoder, DecoderConfig};

use super::Kind::{Count, OptionalFloat, Text, Time};
use super::{Column, DecodeRow, Table, column, unsigned};
use crate::rowbinary::RowWriter;

pub(super) static TABLE: Table = Table {
    name: "cosine_decay",
    topic: "recwatch.cosine-decay.v1",
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
    column("pairs", Count),
    column("missing", Count),
    column("mean_cosine", OptionalFloat),
    column("mean_decayed", OptionalFloat),
    column("decayed_p05", OptionalFloat),
    column("decayed_p50", OptionalFloat),
    column("decayed_p95", OptionalFloat),
    column("mean_dt_seconds", OptionalFloat),
    column("revision", Count),
];

struct Rows(Decoder<CosineDecay<'static>>);

impl DecodeRow for Rows {
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<i64, DecodeError> {
        let row = self.0.decode(key, value)?;
        let pairs = unsigned("pairs", row.pairs)?;
        let missing = unsigned("missing", row.missing)?;
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
            .count(pairs)
            .count(missing)
            .optional_float(row.mean_cosine)
            .optional_float(row.mean_decayed)
            .optional_float(row.decayed_p05)
            .optional_float(row.decayed_p50)
            .optional_float(row.decayed_p95)
            .optional_float(row.mean_dt_seconds)
            .count(revision);
        Ok(row.window_end)
    }
}
