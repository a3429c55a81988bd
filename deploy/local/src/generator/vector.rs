//! One generated vector, named as in the recordings.

use rand::Rng;
use serde::Serialize;

use super::random::normal;

/// Components of a vector, as the workers have it by default.
pub const DIMENSIONS: usize = 64;

/// A direction drawn at random, its components normal with deviation 1.
pub(super) fn direction(random: &mut impl Rng) -> Vec<f64> {
    (0..DIMENSIONS).map(|_| normal(random)).collect()
}

/// One vector; serialised with serde it is a line of a recording.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Vector {
    /// Unique.
    pub event_id: String,
    /// `ITEM` or `USER`.
    pub entity: &'static str,
    /// The item or user; the record's key.
    pub entity_id: String,
    /// The department that the vector is for.
    pub domain: &'static str,
    /// What made it.
    pub model_version: String,
    /// 64 components.
    pub vector: Vec<f32>,
    /// Epoch ms.
    pub event_time: i64,
}
