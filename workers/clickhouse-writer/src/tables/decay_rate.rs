//! `decay_rate`: one row a domain and window end.

use records::{DecayRate, DecodeError, Decoder, DecoderConfig};

use super::Kind::{Count, Float, OptionalFloat, Text, Time};
use super::{Column, DecodeRow, Table, column, unsigned};
use crate::rowbinary::RowWriter;

pub(super) static TABLE: Table = Table {
    name: "decay_rate",
    topic: "recwatch.decay-rate.v1",
    cleanup_policy: "delete",
    columns: COLUMNS,
    decoder: |lookup| Box::new(Rows(Decoder::new(DecoderConfig::of_workers(), lookup))),
};

const COLUMNS: &[Column] = &[
    column("window_start", Time),
    column("window_end", Time),
    column("domain", Text),
    column("updates", Count),
    column("lambda_hat", Float),
    column("half_life_hours", OptionalFloat),
    column("retention_24h", Float),
    column("revision", Count),
];

struct Rows(Decoder<DecayRate<'static>>);

impl DecodeRow for Rows {
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<i64, DecodeError> {
        let row = self.0.decode(key, value)?;
        let updates = unsigned("updates", row.updates)?;
        let revision = unsigned("revision", row.revision)?;
        RowWriter::new(into)
            .time(row.window_start)
            .time(row.window_end)
            .text(&row.domain)
            .count(updates)
            .float(row.lambda_hat)
            .optional_float(row.half_life_hours)
            .float(row.retention_24h)
            .count(revision);
        Ok(row.window_end)
    }
}
