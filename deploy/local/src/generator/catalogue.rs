//! One vector for each item of a whole catalogue, before the first session: the same seed gives the same vectors.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Shape;
use super::shopper::DOMAINS;
use super::vector::{Vector, direction};

/// A model publishes its catalogue in this time, and is done when the first session begins (ms).
const BEFORE: i64 = 3_600_000;

/// The vectors in order of event time; each is made when it is asked for.
#[derive(Debug)]
pub struct Catalogue {
    start: i64,
    random: ChaCha8Rng,
    /// What a department's items have in common.
    common: Vec<Vec<f64>>,
    items: u64,
    published: u64,
}

impl Catalogue {
    /// The items that the shoppers of a shape meet; of the shape it takes seed, start and items.
    #[must_use]
    pub fn new(shape: &Shape) -> Self {
        // apart from the shoppers' stream of random numbers
        let mut random = ChaCha8Rng::seed_from_u64(shape.seed ^ 0x6361_7461);
        let common = DOMAINS.iter().map(|_| direction(&mut random)).collect();
        let items = DOMAINS.len() as u64 * u64::from(shape.items);
        Self { start: shape.start, random, common, items, published: 0 }
    }

    /// How many items there are.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items
    }
}

impl Iterator for Catalogue {
    type Item = Vector;

    fn next(&mut self) -> Option<Vector> {
        let number = (self.published < self.items).then_some(self.published)?;
        self.published += 1;
        let (department, rank) = (number as usize % DOMAINS.len(), number as usize / DOMAINS.len());
        let domain = DOMAINS[department].0;
        let own = direction(&mut self.random);
        Some(Vector {
            event_id: format!("{:032x}", self.random.random::<u128>()),
            entity: "ITEM",
            entity_id: format!("{domain}-{rank}"),
            domain,
            model_version: "catalogue".to_owned(),
            vector: self.common[department].iter().zip(own).map(|(common, own)| (common + own) as f32).collect(),
            event_time: self.start - BEFORE + (number as i64 * BEFORE) / self.items as i64,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::super::{Generator, vector::DIMENSIONS};
    use super::*;

    const START: i64 = 100_000_000;

    fn shape(seed: u64) -> Shape {
        Shape { items: 250, ..Shape::load(seed, START, 100_000) }
    }

    #[test]
    fn the_same_seed_gives_the_same_vectors_one_for_each_item_and_all_before_the_first_session() {
        let catalogue = |seed| Catalogue::new(&shape(seed)).collect::<Vec<Vector>>();
        let vectors = catalogue(1);
        assert_eq!(vectors, catalogue(1));
        assert_ne!(vectors, catalogue(2));
        assert!(vectors.is_sorted_by_key(|vector| vector.event_time));
        assert!(vectors.iter().all(|vector| vector.vector.len() == DIMENSIONS && vector.event_time < START));
        let items: HashSet<&str> = vectors.iter().map(|vector| vector.entity_id.as_str()).collect();
        assert_eq!((items.len(), Catalogue::new(&shape(1)).items()), (1_000, 1_000));
    }

    #[test]
    fn shoppers_meet_no_other_items_and_some_of_them_much_more_than_others() {
        let catalogue: HashSet<String> = Catalogue::new(&shape(5)).map(|vector| vector.entity_id).collect();
        let mut met: HashMap<String, u32> = HashMap::new();
        for event in Generator::new(shape(5)).take(100_000) {
            assert!(catalogue.contains(&event.item_id), "{}", event.item_id);
            *met.entry(event.item_id).or_default() += 1;
        }
        let mut counts: Vec<u32> = met.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        assert!(counts.len() > 990, "{} items of 1,000 are met", counts.len());
        let tenth: u32 = counts[..100].iter().sum();
        assert!((40_000..60_000).contains(&tenth), "the tenth that is met most makes {tenth} events of 100,000");
    }
}
