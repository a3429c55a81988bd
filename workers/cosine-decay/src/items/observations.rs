//! How an item moves among its neighbours.

use measures::slope;
use storage::wire::{self, Reader};
use streaming::operator::RestoreError;

use crate::settings::Retraining;

/// An item's newest observations.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Observations {
    /// At most as many as make a slope, from the oldest to the newest.
    newest: Vec<f64>,
    /// All observations so far.
    pub(crate) count: u64,
    /// Whether the item has asked for retraining and still would.
    asked: bool,
}

impl Observations {
    /// Adds an observation, made with a vector of that norm. The slope where the item asks for retraining: once until it
    /// would not ask.
    pub(crate) fn add(&mut self, observation: f64, norm: f64, rule: &Retraining) -> Option<f64> {
        if self.newest.len() == rule.observations {
            self.newest.remove(0);
        } else if self.newest.is_empty() {
            self.newest.reserve_exact(rule.observations);
        }
        self.newest.push(observation);
        self.count += 1;
        let slope = slope(&self.newest).filter(|_| self.newest.len() == rule.observations);
        let asks = slope.filter(|slope| *slope < rule.max_slope && norm < rule.max_norm);
        let has_asked = std::mem::replace(&mut self.asked, asks.is_some());
        asks.filter(|_| !has_asked)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.newest.capacity() * size_of::<f64>()
    }

    pub(crate) fn write(&self, into: &mut Vec<u8>) {
        wire::put_u64(into, self.count);
        wire::put_u64(into, u64::from(self.asked));
        wire::put_u64(into, self.newest.len() as u64);
        self.newest.iter().for_each(|observation| into.extend_from_slice(&observation.to_le_bytes()));
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let (count, asked) = (reader.u64()?, reader.u64()? == 1);
        let newest = (0..reader.u64()?).map(|_| reader.float());
        Ok(Self { count, asked, newest: newest.collect::<Result<_, RestoreError>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_stands_until_the_condition_is_false_again() {
        let rule = Retraining { neighbours: 5, observations: 3, max_slope: -0.25, max_norm: 0.3 };
        let mut item = Observations::default();
        // slopes: none, none, -0.5 (too long a vector), -0.5, -0.375, 0, -0.5
        let steps = [(1.0, 0.2), (0.5, 0.2), (0.0, 0.3), (-0.5, 0.2), (-0.75, 0.2), (-0.5, 0.2), (-1.75, 0.2)];
        let asked = steps.map(|(observation, norm)| item.add(observation, norm, &rule));
        assert_eq!(asked, [None, None, None, Some(-0.5), None, None, Some(-0.5)]);
        assert_eq!((item.count, item.newest.as_slice()), (7, &[-0.75, -0.5, -1.75][..]));
        let mut bytes = Vec::new();
        item.write(&mut bytes);
        assert_eq!(Observations::read(&mut Reader::new(&bytes)).unwrap(), item);
    }
}
