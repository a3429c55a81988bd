//! `domain_drift`: one row a window end, kind, sources and target.

use records::{DecodeError, Decoder, DecoderConfig, DomainDrift};

use super::Kind::{Count, Flag, Float, OptionalFloat, Text, Time};
use super::{Column, DecodeRow, Table, column, unsigned};
use crate::rowbinary::RowWriter;

pub(super) static TABLE: Table = Table {
    name: "domain_drift",
    topic: "recwatch.domain-drift.v1",
    cleanup_policy: "delete",
    columns: COLUMNS,
    decoder: |lookup| Box::new(Rows(Decoder::new(DecoderConfig::of_workers(), lookup))),
};

const COLUMNS: &[Column] = &[
    column("window_start", Time),
    column("window_end", Time),
    column("kind", Text),
    column("sources", Text),
    column("target", Text),
    column("n", Count),
    column("m", Count),
    column("w1", Float),
    column("max_sliced", Float),
    column("w1_scaled", OptionalFloat),
    column("noise_floor", Float),
    column("significant", Flag),
    column("gamma_raw", OptionalFloat),
    column("gamma", OptionalFloat),
    column("traffic_share", OptionalFloat),
    column("sinkhorn", OptionalFloat),
    column("out_of_range", Count),
    column("revision", Count),
];

struct Rows(Decoder<DomainDrift<'static>>);

impl DecodeRow for Rows {
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<i64, DecodeError> {
        let row = self.0.decode(key, value)?;
        let n = unsigned("n", row.n)?;
        let m = unsigned("m", row.m)?;
        let out_of_range = unsigned("out_of_range", row.out_of_range)?;
        let revision = unsigned("revision", row.revision)?;
        RowWriter::new(into)
            .time(row.window_start)
            .time(row.window_end)
            .text(&row.kind)
            .text(&row.sources)
            .text(&row.target)
            .count(n)
            .count(m)
            .float(row.w1)
            .float(row.max_sliced)
            .optional_float(row.w1_scaled)
            .float(row.noise_floor)
            .flag(row.significant)
            .optional_float(row.gamma_raw)
            .optional_float(row.gamma)
            .optional_float(row.traffic_share)
            .optional_float(row.sinkhorn)
            .count(out_of_range)
            .count(revision);
        Ok(row.window_end)
    }
}
