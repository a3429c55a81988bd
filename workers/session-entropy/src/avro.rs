//! Rows as Avro, in Confluent's wire format.

use grouping::{Dimension, Values};
use records::{Encoder, SessionEntropy, SessionFreshness, Text};

use crate::rows::{EntropyRow, FreshnessRow, RowEncoder};

/// Encodes rows under the ids that the registry gave their schemas.
pub struct AvroRows {
    freshness: Encoder<SessionFreshness<'static>>,
    entropy: Encoder<SessionEntropy<'static>>,
}

impl AvroRows {
    /// Rows under these schema ids.
    #[must_use]
    pub fn new(freshness_schema: i32, entropy_schema: i32) -> Self {
        Self { freshness: Encoder::new(freshness_schema), entropy: Encoder::new(entropy_schema) }
    }
}

fn text<'a>(values: &'a Values<'_>, dimension: Dimension) -> Text<'a> {
    Text::from(&*values[dimension as usize])
}

impl RowEncoder for AvroRows {
    fn freshness(&mut self, row: &FreshnessRow<'_>, into: &mut Vec<u8>) {
        let (values, band) = (row.dimensions, row.band());
        let record = SessionFreshness {
            window_start: row.window_start,
            window_end: row.window_end,
            session_id: Text::from(row.session_id),
            domain: text(values, Dimension::Domain),
            surface: text(values, Dimension::Surface),
            user_segment: text(values, Dimension::UserSegment),
            rec_strategy: text(values, Dimension::RecStrategy),
            ab_group: text(values, Dimension::AbGroup),
            item_type: text(values, Dimension::ItemType),
            events: row.events as i64,
            entropy: row.score.entropy,
            normalised: row.score.normalised,
            freshness: row.score.freshness(),
            decay_factor: band.decay_factor(),
            band: Text::from(band.name()),
            revision: row.revision,
        };
        self.freshness
            .encode(&record, into)
            .expect("the record type and its schema agree, as a test of records proves");
    }

    fn entropy(&mut self, row: &EntropyRow<'_>, into: &mut Vec<u8>) {
        let (values, scores) = (row.group.dimensions, row.scores);
        let quantile = |index: usize| scores.map(|scores| scores.freshness_quantiles[index]);
        let share = |index: usize| scores.map(|scores| scores.shares[index]);
        let record = SessionEntropy {
            window_start: row.group.window_start,
            window_end: row.group.window_end,
            domain: text(values, Dimension::Domain),
            surface: text(values, Dimension::Surface),
            user_segment: text(values, Dimension::UserSegment),
            rec_strategy: text(values, Dimension::RecStrategy),
            ab_group: text(values, Dimension::AbGroup),
            item_type: text(values, Dimension::ItemType),
            sessions_total: row.sessions_total as i64,
            events: row.events as i64,
            sessions: row.sessions as i64,
            mean_entropy: scores.map(|scores| scores.mean_entropy),
            mean_freshness: scores.map(|scores| scores.mean_freshness),
            freshness_p05: quantile(0),
            freshness_p50: quantile(1),
            freshness_p95: quantile(2),
            share_focused: share(0),
            share_balanced: share(1),
            share_scattered: share(2),
            revision: row.group.revision,
        };
        self.entropy.encode(&record, into).expect("the record type and its schema agree, as a test of records proves");
    }
}
