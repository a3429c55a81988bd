//! Rows as Avro, in Confluent's wire format.

use grouping::{Dimension, Values};
use records::{CosineDecay, DecayRate, Encoder, RetrainRequest, Text};

use crate::rows::{PairsRow, RateRow, RetrainRow, RowEncoder};

const AGREE: &str = "the record type and its schema agree, as a test of records proves";

/// The ids that the registry gave the rows' schemas.
#[derive(Debug, Clone, Copy, Default)]
pub struct SchemaIds {
    /// Of `CosineDecay`.
    pub cosine_decay: i32,
    /// Of `DecayRate`.
    pub decay_rate: i32,
    /// Of `RetrainRequest`.
    pub retrain_requests: i32,
    /// Of `Alert`.
    pub alerts: i32,
}

/// Encodes rows under these ids.
pub struct AvroRows {
    pairs: Encoder<CosineDecay<'static>>,
    rate: Encoder<DecayRate<'static>>,
    retrain: Encoder<RetrainRequest<'static>>,
}

impl AvroRows {
    /// Rows under these schema ids.
    #[must_use]
    pub fn new(ids: SchemaIds) -> Self {
        Self {
            pairs: Encoder::new(ids.cosine_decay),
            rate: Encoder::new(ids.decay_rate),
            retrain: Encoder::new(ids.retrain_requests),
        }
    }
}

fn text<'a>(values: &'a Values<'_>, dimension: Dimension) -> Text<'a> {
    Text::from(&*values[dimension as usize])
}

impl RowEncoder for AvroRows {
    fn pairs(&mut self, row: &PairsRow<'_>, into: &mut Vec<u8>) {
        let (values, scores) = (row.group.dimensions, row.scores);
        let quantile = |index: usize| scores.map(|scores| scores.decayed_quantiles[index]);
        let record = CosineDecay {
            window_start: row.group.window_start,
            window_end: row.group.window_end,
            domain: text(values, Dimension::Domain),
            surface: text(values, Dimension::Surface),
            user_segment: text(values, Dimension::UserSegment),
            rec_strategy: text(values, Dimension::RecStrategy),
            ab_group: text(values, Dimension::AbGroup),
            item_type: text(values, Dimension::ItemType),
            pairs: row.pairs as i64,
            missing: row.missing as i64,
            mean_cosine: scores.map(|scores| scores.mean_cosine),
            mean_decayed: scores.map(|scores| scores.mean_decayed),
            decayed_p05: quantile(0),
            decayed_p50: quantile(1),
            decayed_p95: quantile(2),
            mean_dt_seconds: scores.map(|scores| scores.mean_dt_seconds),
            revision: row.group.revision,
        };
        self.pairs.encode(&record, into).expect(AGREE);
    }

    fn rate(&mut self, row: &RateRow<'_>, into: &mut Vec<u8>) {
        let record = DecayRate {
            window_start: row.group.window_start,
            window_end: row.group.window_end,
            domain: text(row.group.dimensions, Dimension::Domain),
            updates: row.updates as i64,
            lambda_hat: row.lambda_hat,
            half_life_hours: row.half_life_hours,
            retention_24h: row.retention_24h,
            revision: row.group.revision,
        };
        self.rate.encode(&record, into).expect(AGREE);
    }

    fn retrain(&mut self, row: &RetrainRow<'_>, into: &mut Vec<u8>) {
        let record = RetrainRequest {
            event_time: row.event_time,
            item_id: Text::from(row.item_id),
            domain: Text::from(row.domain),
            model_version: Text::from(row.model_version),
            observation: row.observation,
            observations: row.observations as i64,
            slope: row.slope,
            norm: row.norm,
            // a row is a request
            condition: true,
            requested: true,
            revision: row.revision,
        };
        self.retrain.encode(&record, into).expect(AGREE);
    }
}
