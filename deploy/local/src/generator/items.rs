//! Vectors of the items that shoppers meet most, in versions: the same seed gives the same vectors.
//!
//! A model publishes every item anew every twenty minutes, each time a little further from what it was; during the
//! [`Episode`] much further.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::random::normal;
use super::shopper::DOMAINS;
use super::vector::{Vector, direction};
use super::{Episode, Shape};

/// Items of each department; shoppers meet rarer ones too, which have no vector.
const ITEMS: usize = 1_000;
/// Between two versions of an item (ms). The first ones come before the first session.
const EVERY: i64 = 20 * 60_000;
/// How far a version lies from the one before it, relative to its length.
const STEP: f64 = 0.1;
/// The same in the episode.
const FAR: f64 = 0.45;

/// The vectors in order of event time, without end.
#[derive(Debug)]
pub struct ItemVectors {
    start: i64,
    episode: Option<Episode>,
    random: ChaCha8Rng,
    /// By department and rank, of length 1 in the mean of squares.
    vectors: Vec<Vec<f64>>,
    published: usize,
}

impl ItemVectors {
    /// A generator at the beginning of its vectors; of the shape it takes seed, start and episode.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        // apart from the shoppers' stream of random numbers
        let mut random = ChaCha8Rng::seed_from_u64(shape.seed ^ 0x0069_7465_6d73);
        let mut vectors = Vec::new();
        for _ in DOMAINS {
            let common = direction(&mut random);
            for _ in 0..ITEMS {
                let mix =
                    common.iter().zip(direction(&mut random)).map(|(common, own)| (common + own) / 2.0_f64.sqrt());
                vectors.push(mix.collect());
            }
        }
        Self { start: shape.start, episode: shape.episode.clone(), random, vectors, published: 0 }
    }
}

impl Iterator for ItemVectors {
    type Item = Vector;

    fn next(&mut self) -> Option<Vector> {
        let items = self.vectors.len();
        let (version, at) = (self.published / items, self.published % items);
        // departments take turns, so that each of them has new versions all the time
        let (department, rank) = (at % DOMAINS.len(), at / DOMAINS.len());
        let time = (version as i64 - 1) * EVERY + at as i64 * EVERY / items as i64;
        self.published += 1;
        let in_episode = self.episode.as_ref().is_some_and(|episode| (episode.from..episode.to).contains(&time));
        let step = if in_episode { FAR } else { STEP };
        let vector = &mut self.vectors[department * ITEMS + rank];
        if version > 0 {
            // as long as it was, in the mean
            let keep = (1.0 - step * step).sqrt();
            vector.iter_mut().for_each(|component| *component = keep * *component + step * normal(&mut self.random));
        }
        Some(Vector {
            event_id: format!("{:032x}", self.random.random::<u128>()),
            entity: "ITEM",
            entity_id: format!("{}-{rank}", DOMAINS[department].0),
            domain: DOMAINS[department].0,
            model_version: format!("demo-{version}"),
            vector: vector.iter().map(|component| *component as f32).collect(),
            event_time: self.start + time,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn two_hours(seed: u64) -> Vec<Vector> {
        ItemVectors::new(&Shape::demo(seed, 0)).take_while(|vector| vector.event_time < 120 * MINUTE).collect()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn the_same_seed_gives_the_same_vectors_in_order_of_time() {
        let vectors = two_hours(1);
        assert_eq!(vectors, two_hours(1));
        assert_ne!(vectors, two_hours(2));
        assert!(vectors.is_sorted_by_key(|vector| vector.event_time));
        assert_eq!(vectors.len(), 7 * DOMAINS.len() * ITEMS, "one version before the start, six after it");
    }

    #[test]
    fn versions_stay_alike_but_for_those_of_the_episode() {
        let mut before: HashMap<String, Vec<f32>> = HashMap::new();
        let mut within = Vec::new();
        for version in two_hours(3) {
            let Some(old) = before.insert(version.entity_id.clone(), version.vector.clone()) else { continue };
            let alike = cosine(&old, &version.vector);
            if (60 * MINUTE..80 * MINUTE).contains(&version.event_time) {
                within.push(alike);
            } else {
                assert!(alike > 0.98, "{} at {}: {alike}", version.entity_id, version.event_time);
            }
        }
        let mean = within.iter().sum::<f64>() / within.len() as f64;
        assert!(within.len() == DOMAINS.len() * ITEMS && mean < 0.93, "{} versions, {mean}", within.len());
    }
}
