//! `retrain_requests`: one row a version that asks for retraining.

use records::{DecodeError, Decoder, DecoderConfig, RetrainRequest};

use super::Kind::{Count, Flag, Float, Text, Time};
use super::{Column, DecodeRow, Table, column, unsigned};
use crate::rowbinary::RowWriter;

pub(super) static TABLE: Table = Table {
    name: "retrain_requests",
    topic: "recwatch.retrain-requests.v1",
    cleanup_policy: "delete",
    columns: COLUMNS,
    decoder: |lookup| Box::new(Rows(Decoder::new(DecoderConfig::of_workers(), lookup))),
};

const COLUMNS: &[Column] = &[
    column("event_time", Time),
    column("item_id", Text),
    column("domain", Text),
    column("model_version", Text),
    column("observation", Float),
    column("observations", Count),
    column("slope", Float),
    column("norm", Float),
    column("condition", Flag),
    column("requested", Flag),
    column("revision", Count),
];

struct Rows(Decoder<RetrainRequest<'static>>);

impl DecodeRow for Rows {
    fn decode(&mut self, key: Option<&[u8]>, value: Option<&[u8]>, into: &mut Vec<u8>) -> Result<i64, DecodeError> {
        let row = self.0.decode(key, value)?;
        let observations = unsigned("observations", row.observations)?;
        let revision = unsigned("revision", row.revision)?;
        RowWriter::new(into)
            .time(row.event_time)
            .text(&row.item_id)
            .text(&row.domain)
            .text(&row.model_version)
            .float(row.observation)
            .count(observations)
            .float(row.slope)
            .float(row.norm)
            .flag(row.condition)
            .flag(row.requested)
            .count(revision);
        Ok(row.event_time)
    }
}
