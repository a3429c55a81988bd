//! Vectors of users by department: the same seed gives the same vectors.
//!
//! Each department has a taste, a direction, and its users' vectors scatter around it. In an [`Episode`] the taste of one
//! department drifts away.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::random::{exponential, normal};
use super::vector::{Vector, direction};
use super::{Episode, Happening, LOAD_SECONDS, Shape};

/// The first three are those of the demo.
const DEPARTMENTS: [&str; 8] = ["fashion", "electronics", "books", "grocery", "garden", "music", "sports", "toys"];
/// What a department's taste has of its own, relative to what is common to all.
const OWN: f64 = 0.3;
/// How far users lie from their department's taste, relative to its length.
const SPREAD: f64 = 1.2;

/// The vectors in order of event time, without end.
#[derive(Debug)]
pub struct UserVectors {
    start: i64,
    episodes: Vec<Episode>,
    departments: &'static [&'static str],
    users: u64,
    /// New vectors a second of event time.
    per_second: f64,
    random: ChaCha8Rng,
    /// By department, and at the end the taste that the drifting one takes on.
    tastes: Vec<Vec<f64>>,
    /// The next vector's time (ms after the start, fraction included).
    next: f64,
}

impl UserVectors {
    /// Two vectors a second in three departments, as the demo has them; of the shape it takes seed, start and episodes.
    #[must_use]
    pub fn demo(shape: &Shape) -> Self {
        Self::new(shape, &DEPARTMENTS[..3], 4_000, 2.0)
    }

    /// About `records` vectors in two hours of event time, in eight departments.
    #[must_use]
    pub fn load(shape: &Shape, records: u64) -> Self {
        Self::new(shape, &DEPARTMENTS, 300_000, records as f64 / LOAD_SECONDS)
    }

    fn new(shape: &Shape, departments: &'static [&'static str], users: u64, per_second: f64) -> Self {
        // apart from the shoppers' stream of random numbers
        let mut random = ChaCha8Rng::seed_from_u64(shape.seed ^ 0x7573_6572);
        let common = direction(&mut random);
        let own = |own: Vec<f64>| common.iter().zip(own).map(|(common, own)| common + OWN * own).collect();
        let mut tastes: Vec<Vec<f64>> = departments.iter().map(|_| own(direction(&mut random))).collect();
        tastes.push(direction(&mut random));
        let (start, episodes) = (shape.start, shape.episodes.clone());
        Self { start, episodes, departments, users, per_second, random, tastes, next: 0.0 }
    }

    /// How much of another taste a department has at `time` (ms after the start), 0 to 1: it comes and goes within five
    /// minutes.
    fn drift(&self, domain: &str, time: i64) -> f64 {
        const GRADUAL: f64 = 5.0 * 60_000.0;
        let episode = self.episodes.iter().find(|e| matches!(e.what, Happening::Drift(of) if of == domain));
        episode.map_or(0.0, |episode| {
            let inside = (time - episode.from).min(episode.to - time) as f64;
            (inside / GRADUAL).clamp(0.0, 1.0)
        })
    }
}

impl Iterator for UserVectors {
    type Item = Vector;

    fn next(&mut self) -> Option<Vector> {
        self.next += 1_000.0 * exponential(&mut self.random) / self.per_second;
        let time = self.next as i64;
        let department = self.random.random_range(0..self.departments.len());
        let domain = self.departments[department];
        let other = self.drift(domain, time);
        let away = &self.tastes[self.departments.len()];
        let random = &mut self.random;
        let vector = self.tastes[department].iter().zip(away).map(|(own, away)| {
            let taste = (1.0 - other) * own + other * away;
            (taste + SPREAD * normal(random)) as f32
        });
        Some(Vector {
            vector: vector.collect(),
            event_id: format!("{:032x}", self.random.random::<u128>()),
            entity: "USER",
            entity_id: format!("u-{}", self.random.random_range(0..self.users)),
            domain,
            model_version: "demo-1".to_owned(),
            event_time: self.start + time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::vector::DIMENSIONS;
    use super::*;

    const MINUTE: i64 = 60_000;

    fn two_hours(seed: u64) -> Vec<Vector> {
        UserVectors::demo(&Shape::demo(seed, 0)).take_while(|vector| vector.event_time < 120 * MINUTE).collect()
    }

    fn mean(vectors: &[Vector], domain: &str, minutes: std::ops::Range<i64>) -> Vec<f64> {
        let chosen: Vec<&Vector> = vectors
            .iter()
            .filter(|vector| vector.domain == domain && minutes.contains(&(vector.event_time / MINUTE)))
            .collect();
        let sum = |at: usize| chosen.iter().map(|vector| f64::from(vector.vector[at])).sum::<f64>();
        (0..DIMENSIONS).map(|at| sum(at) / chosen.len() as f64).collect()
    }

    fn distance(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn the_same_seed_gives_the_same_vectors_in_order_of_time() {
        let vectors = two_hours(1);
        assert_eq!(vectors, two_hours(1));
        assert_ne!(vectors, two_hours(2));
        assert!(vectors.is_sorted_by_key(|vector| vector.event_time));
        assert!(vectors.iter().all(|vector| vector.vector.len() == DIMENSIONS));
    }

    #[test]
    fn a_load_is_two_hours_in_eight_departments() {
        let vectors: Vec<Vector> = UserVectors::load(&Shape::load(2, 0, 0), 20_000).take(20_000).collect();
        let end = vectors[vectors.len() - 1].event_time;
        assert!((end - 120 * MINUTE).abs() < 3 * MINUTE, "{end} ms");
        for domain in DEPARTMENTS {
            let share = vectors.iter().filter(|vector| vector.domain == domain).count();
            assert!((2_300..2_700).contains(&share), "{share} of 20,000 vectors are of {domain}");
        }
    }

    #[test]
    fn one_department_drifts_away_in_the_episode_and_comes_back() {
        let vectors = two_hours(3);
        for &domain in &DEPARTMENTS[..3] {
            let before = mean(&vectors, domain, 30..50);
            let within = distance(&before, &mean(&vectors, domain, 66..74));
            let after = distance(&before, &mean(&vectors, domain, 90..110));
            assert_eq!(within > 3.0 * after, domain == "books", "{domain}: {within} within, {after} after");
        }
    }
}
