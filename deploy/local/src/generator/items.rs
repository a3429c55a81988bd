//! Vectors of the items that shoppers meet most, in versions: the same seed gives the same vectors.
//!
//! A model publishes every item anew every twenty minutes, each time a little further from what it was, but not from
//! what its department has in common. In [episodes](Episode) it goes much further, or is silent.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::random::normal;
use super::shopper::DOMAINS;
use super::vector::{Vector, direction};
use super::{Episode, Happening, Shape};

/// Items of each department; shoppers meet rarer ones too, which have no vector.
const ITEMS: usize = 1_000;
/// Between two versions of an item (ms). The first ones come before the first session.
const EVERY: i64 = 20 * 60_000;
/// How far a version lies from the one before it, relative to the length of what an item has of its own.
const STEP: f64 = 0.1;
/// The same where vectors jump.
const FAR: f64 = 0.6;

/// The vectors in order of event time, without end.
#[derive(Debug)]
pub struct ItemVectors {
    start: i64,
    episodes: Vec<Episode>,
    random: ChaCha8Rng,
    /// What a department's items have in common.
    common: Vec<Vec<f64>>,
    /// What each item has of its own, by department and rank.
    own: Vec<Vec<f64>>,
    published: usize,
}

impl ItemVectors {
    /// A generator at the beginning of its vectors; of the shape it takes seed, start and episodes.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        // apart from the shoppers' stream of random numbers
        let mut random = ChaCha8Rng::seed_from_u64(shape.seed ^ 0x0069_7465_6d73);
        let common = DOMAINS.iter().map(|_| direction(&mut random)).collect();
        let own = (0..DOMAINS.len() * ITEMS).map(|_| direction(&mut random)).collect();
        Self { start: shape.start, episodes: shape.episodes.clone(), random, common, own, published: 0 }
    }
}

impl ItemVectors {
    /// Time (ms after the start), version and place of the next vector that the model does publish.
    fn advance(&mut self) -> (i64, usize, usize) {
        let items = self.own.len();
        loop {
            let (version, at) = (self.published / items, self.published % items);
            let time = (version as i64 - 1) * EVERY + at as i64 * EVERY / items as i64;
            self.published += 1;
            let domain = domain_of(at);
            let mut on = self.episodes.iter().filter(|episode| episode.is_on(time));
            if !on.any(|episode| matches!(episode.what, Happening::Silence(of) if of == domain)) {
                return (time, version, at);
            }
        }
    }
}

/// Departments take turns, so that each of them has new versions all the time.
fn domain_of(at: usize) -> &'static str {
    DOMAINS[at % DOMAINS.len()].0
}

impl Iterator for ItemVectors {
    type Item = Vector;

    fn next(&mut self) -> Option<Vector> {
        let (time, version, at) = self.advance();
        let (domain, department, rank) = (domain_of(at), at % DOMAINS.len(), at / DOMAINS.len());
        let mut on = self.episodes.iter().filter(|episode| episode.is_on(time));
        let jumps = on.any(|e| matches!(e.what, Happening::Jump(of) if of.is_none_or(|of| of == domain)));
        let step = if jumps { FAR } else { STEP };
        let own = &mut self.own[department * ITEMS + rank];
        if version > 0 {
            // as long as it was, in the mean
            let keep = (1.0 - step * step).sqrt();
            own.iter_mut().for_each(|component| *component = keep * *component + step * normal(&mut self.random));
        }
        Some(Vector {
            event_id: format!("{:032x}", self.random.random::<u128>()),
            entity: "ITEM",
            entity_id: format!("{domain}-{rank}"),
            domain,
            model_version: format!("demo-{version}"),
            vector: self.common[department].iter().zip(own).map(|(common, own)| (common + *own) as f32).collect(),
            event_time: self.start + time,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const MINUTE: i64 = 60_000;

    fn demo(seed: u64) -> Vec<Vector> {
        ItemVectors::new(&Shape::demo(seed, 0)).take_while(|vector| vector.event_time < 140 * MINUTE).collect()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn the_same_seed_gives_the_same_vectors_in_order_of_time() {
        let vectors = demo(1);
        assert_eq!(vectors, demo(1));
        assert_ne!(vectors, demo(2));
        assert!(vectors.is_sorted_by_key(|vector| vector.event_time));
        let (all, silent) = (8 * DOMAINS.len() * ITEMS, ITEMS);
        assert_eq!(vectors.len(), all - silent, "one version before the start, seven after it");
    }

    #[test]
    fn versions_stay_alike_but_for_those_that_jump() {
        let mut before: HashMap<String, Vec<f32>> = HashMap::new();
        let mut jumps = Vec::new();
        for version in demo(3) {
            let Some(old) = before.insert(version.entity_id.clone(), version.vector.clone()) else { continue };
            let alike = cosine(&old, &version.vector);
            if version.domain == "electronics" && (60 * MINUTE..80 * MINUTE).contains(&version.event_time) {
                jumps.push(alike);
            } else {
                assert!(alike > 0.98, "{} at {}: {alike}", version.entity_id, version.event_time);
            }
        }
        let mean = jumps.iter().sum::<f64>() / jumps.len() as f64;
        assert!(jumps.len() == ITEMS && mean < 0.93, "{} versions, {mean}", jumps.len());
    }

    #[test]
    fn a_department_of_which_nothing_is_published_is_silent_and_alone_in_that() {
        let silence = 90 * MINUTE..110 * MINUTE;
        let vectors = demo(4);
        for (domain, _) in DOMAINS {
            let published = vectors.iter().filter(|v| v.domain == domain && silence.contains(&v.event_time)).count();
            assert_eq!(published, if domain == "grocery" { 0 } else { ITEMS }, "{domain}");
        }
    }
}
