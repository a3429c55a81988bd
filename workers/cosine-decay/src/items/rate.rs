//! A domain's share of one window's new versions.

use grouping::{Group, Share, Summary, WriteRow};
use measures::{DecayFit, Fixed, half_life_hours, retention};
use storage::wire::{self, Reader};
use streaming::operator::RestoreError;

use crate::rows::{RATE_TOPIC, RateRow, RowEncoder};
use crate::summary::Sliding;

const VERSION: u8 = 1;

/// Sums over a domain's updates; all of them integers, so adding and taking back in any order is exact.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RateSummary {
    /// The updates.
    pub fit: DecayFit,
    /// How many domains' shares were merged into this one because there were too many domains.
    pub overflowed: u64,
}

impl Share for RateSummary {
    fn merge(&mut self, other: &Self) {
        self.fit.merge(other.fit);
        self.overflowed += other.overflowed;
    }

    fn overflowed(&self) -> u64 {
        self.overflowed
    }

    fn count_overflow(&mut self) {
        self.overflowed += 1;
    }

    fn is_empty(&self) -> bool {
        self.fit.updates == 0
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.push(VERSION);
        wire::put_u64(into, self.fit.updates);
        wire::put_signed(into, self.fit.products.to_raw());
        wire::put(into, self.fit.squares);
        wire::put_u64(into, self.overflowed);
    }
}

impl Sliding for RateSummary {
    fn subtract(&mut self, other: &Self) {
        self.fit.subtract(other.fit);
        self.overflowed -= other.overflowed;
    }
}

impl Summary for RateSummary {
    fn decode(bytes: &[u8]) -> Result<Self, RestoreError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let fit =
            DecayFit { updates: reader.u64()?, products: Fixed::from_raw(reader.signed()?), squares: reader.take()? };
        let summary = Self { fit, overflowed: reader.u64()? };
        reader.finish()?;
        Ok(summary)
    }

    fn values(&self) -> Vec<Option<f64>> {
        let lambda_hat = self.fit.lambda().unwrap_or_default();
        vec![
            Some(self.fit.updates as f64),
            Some(lambda_hat),
            half_life_hours(lambda_hat),
            Some(retention(lambda_hat, 24.0)),
        ]
    }
}

impl<E: RowEncoder> WriteRow<E> for RateSummary {
    const TOPIC: u16 = RATE_TOPIC;

    fn write_row(&self, group: &Group<'_>, encoder: &mut E, into: &mut Vec<u8>) {
        // folds emit no domain without updates
        let lambda_hat = self.fit.lambda().unwrap_or_default();
        let row = RateRow {
            group,
            updates: self.fit.updates,
            lambda_hat,
            half_life_hours: half_life_hours(lambda_hat),
            retention_24h: retention(lambda_hat, 24.0),
        };
        encoder.rate(&row, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back_as_written() {
        let mut summary = RateSummary { overflowed: 3, ..RateSummary::default() };
        for (millis, cosine) in [(1, 1.0), (3_600_000, 0.25), (i64::from(u32::MAX), -1.0)] {
            summary.fit.add(millis, cosine);
            let mut bytes = Vec::new();
            summary.encode(&mut bytes);
            assert_eq!(RateSummary::decode(&bytes).unwrap(), summary);
            for cut in 0..bytes.len() {
                assert!(RateSummary::decode(&bytes[..cut]).is_err());
            }
        }
    }
}
