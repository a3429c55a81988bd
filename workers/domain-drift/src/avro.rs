//! Rows as Avro, in Confluent's wire format.

use records::{DomainDrift, Encoder, Text};

use crate::rows::{DriftRow, RowEncoder};

/// Encodes rows under the id that the registry gave their schema.
pub struct AvroRows(Encoder<DomainDrift<'static>>);

impl AvroRows {
    /// Rows under this schema id.
    #[must_use]
    pub fn new(schema: i32) -> Self {
        Self(Encoder::new(schema))
    }
}

impl RowEncoder for AvroRows {
    fn drift(&mut self, row: &DriftRow<'_>, into: &mut Vec<u8>) {
        let (distance, coefficient) = (&row.distance, row.distance.coefficient);
        let record = DomainDrift {
            window_start: row.window_start,
            window_end: row.window_end,
            kind: Text::from(row.kind.name()),
            sources: Text::from(row.sources),
            target: Text::from(row.target),
            n: distance.n as i64,
            m: distance.m as i64,
            w1: distance.w1,
            max_sliced: distance.max_sliced,
            w1_scaled: distance.w1_scaled,
            noise_floor: distance.noise_floor,
            significant: distance.significant,
            gamma_raw: coefficient.and_then(|coefficient| coefficient.raw),
            gamma: coefficient.map(|coefficient| coefficient.gamma),
            traffic_share: coefficient.map(|coefficient| coefficient.traffic_share),
            sinkhorn: distance.sinkhorn,
            out_of_range: distance.out_of_range as i64,
            revision: row.revision,
        };
        self.0.encode(&record, into).expect("the record type and its schema agree, as a test of records proves");
    }
}
